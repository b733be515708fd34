"""What happened to a vault, folded from its journal: exports, copies, statements, changes of the root. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from expunge_agent.core.entry import Entry
from expunge_agent.core.layout import Layout
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, MaybeDigest, Name, PathText, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_keys import Holds, KeyEvidence
from expunge_agent.vault.words import Id

STDOUT = "standard output"
UNSAID = "not recorded"
"""Somebody asked that it be not written down where it went."""


class Export(Frozen, frozen=True):
    """Plaintext of an object that was given out: ``where`` is a path, `STDOUT` or `UNSAID`."""

    id: Id
    object: Id
    key: Id
    where: PathText
    at: Timestamp
    by: Name


class Copy(Frozen, frozen=True):
    """A copy of the vault's folder, keystore included, that somebody made or will make at ``where``."""

    where: Text
    generation: U64
    root: Id
    at: Timestamp
    by: Name


class Statement(Frozen, frozen=True):
    """Somebody's word on a condition (`conditions`), or on ``exports`` that were destroyed (``id`` is
    ``export-destroyed``). ``root``: the root key of then; a word on root keys is on this one and those before it, where it
    is ``standing`` also on those after it."""

    id: Name
    holds: Holds
    why: Text
    at: Timestamp
    by: Name
    root: Id
    standing: bool = False
    exports: list[Id] = []


class Change(Frozen, frozen=True):
    """A root key replaced: ``shred`` is the key that was left out, empty for a plain rotation. ``order``:
    digest of the order that asked for it, empty where nobody did."""

    shred: str
    subject: str
    from_root: Id
    to_root: Id
    generation: U64
    order: MaybeDigest
    at: Timestamp


class Gone(Frozen, frozen=True):
    """How the old root key went, and what was seen afterwards. ``opens``: old keystores that still opened."""

    how: Text
    beyond: bool
    doubts: list[Text]
    evidence: list[KeyEvidence]
    dropped: list[U64]
    digest_before: Text
    digest_after: Text
    opens: list[Text]
    kept: U64
    """Subjects whose key was wrapped anew and was seen to open."""


@dataclass
class Story:
    """The fold. ``pending``: a change that was begun and has not come to its end."""

    exports: list[Export] = field(default_factory=list)
    partly: set[str] = field(default_factory=set)
    """Exports that broke off: plaintext may have left all the same."""
    gaps: list[str] = field(default_factory=list)
    """Why the journal does not tell the whole story."""
    swappable: str = ""
    """Why keys of the vault may have come to lie in swap."""
    copies: list[Copy] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    changes: list[tuple[Change, Gone]] = field(default_factory=list)
    pending: Change | None = None
    spoiled: list[str] | None = None
    """Doubts about the overwrite of the pending change's old root key; None where that was not done yet."""
    place: Layout | None = None
    """Where the pending change's old root key was stored before anything was done to it; None where that was not
    looked at yet."""
    before: str = ""
    """SHA-256 of the keystore that the pending change began with."""

    def shredding(self, key: str) -> tuple[Change, Gone] | None:
        """The finished change that destroyed `key`."""
        return next((one for one in self.changes if one[0].shred == key), None)

    def roots_of(self, made_in: int, until: int) -> list[tuple[Change, Gone]]:
        """The changes that ended root keys by which a key made in generation `made_in` was wrapped, up to the
        change that made generation `until`, in their order."""
        return [one for one in self.changes if made_in < one[0].generation <= until]

    def last_word(self, condition: str, root: str) -> tuple[Statement | None, bool]:
        """What was said last of a condition, and whether it is said of the root key `root`, too."""
        chain = [change.from_root for change, _ in self.changes]
        place = {name: number for number, name in enumerate(chain)}
        for one in reversed(self.statements):
            if one.id == condition:
                of, asked = place.get(one.root, len(chain)), place.get(root, len(chain))
                return one, one.standing or of >= asked
        return None, False

    def take_word(self, word: Statement) -> None:
        """Count `word` too, which somebody gave elsewhere; what the vault's own journal denies stays denied."""
        noted, covers = self.last_word(word.id, word.root)
        if noted is None or noted.holds != "no" or not covers:
            self.statements.append(word)

    def left(self) -> list[Export]:
        """Exports that nobody said were destroyed."""
        gone = {name for one in self.statements for name in one.exports}
        return [one for one in self.exports if one.id not in gone]

    def plaintexts(self, key: str) -> list[Export]:
        """Those of them that are of a key's objects."""
        return [one for one in self.left() if one.key == key]


def fold(records: Iterable[Entry]) -> Story:
    """The story that `records` tell."""
    story = Story()
    for record in records:
        apply(story, record)
    return story


def apply(story: Story, record: Entry) -> None:
    """Take one more record in. An unknown kind raises KeyError: the journal is ours."""
    kind, data = record.kind, record.data
    if kind == "exported":
        story.exports.append(canonical.convert(data["export"], Export))
    elif kind == "export-broken-off":
        story.partly.add(data["export"])
    elif kind in ("journal-gap", "swappable"):
        _in_doubt(story, kind, data["why"])
    elif kind == "copied":
        story.copies.append(canonical.convert(data["copy"], Copy))
    elif kind == "stated":
        story.statements.append(canonical.convert(data["statement"], Statement))
    elif kind == "changing":
        story.pending, story.before = canonical.convert(data["change"], Change), data["before"]
    elif kind == "destroying":
        story.place = _place(data)
    elif kind == "spoiled":
        story.spoiled = canonical.convert(data["doubts"], list[str])
    elif kind == "changed":
        if story.pending is None:
            raise KeyError("changed without changing")
        story.changes.append((story.pending, canonical.convert(data["gone"], Gone)))
        story.pending, story.spoiled, story.place = None, None, None
    elif kind not in ("created", "written"):
        raise KeyError(kind)


def _in_doubt(story: Story, kind: str, why: str) -> None:
    if kind == "swappable":
        story.swappable = why
    else:
        story.gaps.append(why)


def _place(data: dict[str, Any]) -> Layout | None:
    """Not in journals of before it was written down."""
    return canonical.convert(data["place"], Layout) if "place" in data else None
