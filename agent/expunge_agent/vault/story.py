"""What happened to a vault, folded from its journal: exports, copies, statements, changes of the root. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from expunge_agent.core.entry import Entry
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, MaybeDigest, Name, PathText, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_keys import Holds, KeyEvidence
from expunge_agent.vault.words import Id

STDOUT = "standard output"


class Export(Frozen, frozen=True):
    """Plaintext of an object that was given out: ``where`` is a path, or `STDOUT`."""

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
    """Somebody's word on a condition (`conditions`), or on an export that was destroyed (``id`` is
    ``export-destroyed``, ``why`` begins with its path)."""

    id: Name
    holds: Holds
    why: Text
    at: Timestamp
    by: Name


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
    copies: list[Copy] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    changes: list[tuple[Change, Gone]] = field(default_factory=list)
    pending: Change | None = None
    spoiled: list[str] | None = None
    """Doubts about the overwrite of the pending change's old root key; None where that was not done yet."""
    before: str = ""
    """SHA-256 of the keystore that the pending change began with."""

    def shredding(self, key: str) -> tuple[Change, Gone] | None:
        """The finished change that destroyed `key`."""
        return next((one for one in self.changes if one[0].shred == key), None)

    def holds(self, condition: str) -> str:
        """What was said last of a condition; ``unknown`` where nothing was."""
        return next((one.holds for one in reversed(self.statements) if one.id == condition), "unknown")

    def plaintexts(self, key: str) -> list[Export]:
        """Exports of a key's objects that nobody said were destroyed."""
        gone = {one.why.partition("\n")[0] for one in self.statements if one.id == "export-destroyed"}
        return [one for one in self.exports if one.key == key and one.where not in gone]


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
        del story.exports[max(i for i, one in enumerate(story.exports) if one.object == data["object"])]
    elif kind == "copied":
        story.copies.append(canonical.convert(data["copy"], Copy))
    elif kind == "stated":
        story.statements.append(canonical.convert(data["statement"], Statement))
    elif kind == "changing":
        story.pending, story.before = canonical.convert(data["change"], Change), data["before"]
    elif kind == "spoiled":
        story.spoiled = canonical.convert(data["doubts"], list[str])
    elif kind == "changed":
        if story.pending is None:
            raise KeyError("changed without changing")
        story.changes.append((story.pending, canonical.convert(data["gone"], Gone)))
        story.pending, story.spoiled = None, None
    elif kind not in ("created", "written", "destroying"):
        raise KeyError(kind)
