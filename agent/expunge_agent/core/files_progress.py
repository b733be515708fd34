"""How far a target of files has come, folded from its journal records."""

from __future__ import annotations

from dataclasses import dataclass, field
from sys import intern

import msgspec

from expunge_agent.core.entry import Entry
from expunge_agent.core.plan import TargetPlan, describe_pass
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, Frozen, MaybeDigest, Name, Text
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_files import (
    MAX_LISTED_FILES,
    FileOutcome,
    Files,
    FilesPass,
    FilesVerification,
    FileTally,
    ListedFile,
)

KINDS = (
    "files-listed",
    "files-checkpoint",
    "files-written",
    "files-removed",
    "files-folders",
    "files-manifest",
)


class Listing(Frozen, frozen=True):
    """What was found before anything was written. ``work``: SHA-256 of the list of work; ``secret`` (hexadecimal)
    makes the names that files get before they are unlinked; ``not_covered`` of what they stand on."""

    work: Digest
    batches: int
    secret: str
    found: FileTally
    refused: FileTally
    filesystem: Name
    keep: bool
    allow_exceptions: bool
    listed: list[ListedFile]
    holes: U64 = U64(0)
    data: U64 = U64(0)
    """Bytes to write in each pass."""
    not_covered: list[Text] = []
    reason: Text = ""
    """Of the first refused file: a reason for refusing all, where all are."""


class Trouble(Frozen, frozen=True):
    """A file that did not end as sanitized: its number in the list of work."""

    number: int
    path: Text
    outcome: FileOutcome
    why: Text
    remedy: Text = ""


class Checkpoint(Frozen, frozen=True):
    """Within the batch under way: data bytes of it that pass ``index`` has written and flushed."""

    batch: int
    index: int
    durable: U64


class BatchWritten(Frozen, frozen=True):
    """A batch of files all of whose bytes are durable and read back; nothing of it is unlinked yet.

    ``written`` and ``took_ms``: for each pass. ``troubles``: files that are out. Read-back in bytes.
    """

    batch: int
    written: list[U64]
    took_ms: list[U64]
    troubles: list[Trouble] = []
    expected: U64 = U64(0)
    read: U64 = U64(0)
    mismatched: U64 = U64(0)
    unreadable: U64 = U64(0)
    verify_ms: U64 = U64(0)
    io_mode: Text = ""
    reads_medium: bool = True


class BatchDone(Frozen, frozen=True):
    """The end of a batch: what is now gone."""

    batch: int
    sanitized: FileTally
    exceptions: FileTally
    refused: FileTally
    failed: FileTally
    names_removed: U64
    other_removed: U64 = U64(0)
    troubles: list[Trouble] = []


@dataclass
class FilesProgress:
    """``written`` is the batch whose bytes are durable, while it is not yet ``done`` (batches finished)."""

    listing: Listing | None = None
    done: int = 0
    checkpoint: Checkpoint | None = None
    written: BatchWritten | None = None
    troubles: dict[int, Trouble] = field(default_factory=dict)
    tallies: dict[str, list[int]] = field(default_factory=dict)
    names_removed: int = 0
    other_removed: int = 0
    folders_removed: int = 0
    bytes_written: list[int] = field(default_factory=list)
    took_ms: list[int] = field(default_factory=list)
    check: FilesVerification | None = None
    manifest: MaybeDigest = ""
    resumed: bool = False
    """Whether an earlier run was broken off."""

    @property
    def touched(self) -> bool:
        """Whether a byte of a file, or a name, may have been changed."""
        return self.listing is not None and self.listing.batches > 0

    @property
    def finished(self) -> bool:
        """Whether every batch came to its end."""
        return self.listing is not None and self.done >= self.listing.batches

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        kind, data = record.kind, record.data
        if kind == "files-listed":
            self.listing = canonical.convert(data["listing"], Listing)
        elif kind == "files-checkpoint":
            self.checkpoint = canonical.convert(data["checkpoint"], Checkpoint)
        elif kind == "files-written":
            self.written = canonical.convert(data["written"], BatchWritten)
        elif kind == "files-removed":
            self._done(canonical.convert(data["done"], BatchDone))
        elif kind == "files-folders":
            self.folders_removed = int(data["removed"])
        else:
            self.manifest = data["manifest"]

    def _done(self, done: BatchDone) -> None:
        for name in ("sanitized", "exceptions", "refused", "failed"):
            tally, sums = getattr(done, name), self.tallies.setdefault(name, [0, 0])
            sums[0] += int(tally.files)
            sums[1] += int(tally.bytes)
        self.names_removed += int(done.names_removed)
        self.other_removed += int(done.other_removed)
        if self.written is not None:
            self._written(self.written)
        self._keep(done.troubles)
        self.done, self.written, self.checkpoint = done.batch + 1, None, None

    def _keep(self, troubles: list[Trouble]) -> None:
        """Of many files that ended alike, the words are kept once."""
        for one in troubles:
            same = msgspec.structs.replace(one, why=intern(one.why), remedy=intern(one.remedy))
            self.troubles[one.number] = same

    def _written(self, batch: BatchWritten) -> None:
        self.bytes_written = _added(self.bytes_written, batch.written)
        self.took_ms = _added(self.took_ms, batch.took_ms)
        self._keep(batch.troubles)
        if batch.io_mode:
            self.check = _summed(self.check, batch)

    def report(self, plan: TargetPlan | None) -> Files | None:
        """As the receipt shows it; None where nothing was listed yet."""
        listing = self.listing
        if listing is None or plan is None:
            return None
        tally = {name: FileTally(files=U64(one[0]), bytes=U64(one[1])) for name, one in self.tallies.items()}
        none = FileTally()
        refused = _sum(listing.refused, tally.get("refused", none))
        ended = [
            tally.get("sanitized", none),
            tally.get("exceptions", none),
            refused,
            tally.get("failed", none),
        ]
        listed = [*listing.listed, *(_listed(one) for _, one in sorted(self.troubles.items()))]
        return Files(
            found=listing.found,
            sanitized=ended[0],
            exceptions=ended[1],
            refused=refused,
            failed=ended[3],
            unfinished=_left(listing.found, ended),
            keep=listing.keep,
            allow_exceptions=listing.allow_exceptions,
            names_removed=U64(self.names_removed),
            other_removed=U64(self.other_removed),
            folders_removed=U64(self.folders_removed),
            holes=listing.holes,
            batches=U64(self.done),
            passes=self._passes(plan),
            verification=_with_kind(self.check, plan),
            filesystem=listing.filesystem,
            listed=listed[:MAX_LISTED_FILES],
            listed_of=U64(int(listing.refused.files) + len(self.troubles)),
            manifest=self.manifest,
        )

    def _passes(self, plan: TargetPlan) -> list[FilesPass]:
        return [
            FilesPass(
                index=index,
                pattern=describe_pass(step),
                fixed=step.fixed,
                cipher=step.cipher,
                key_digest=canonical.sha256_hex(bytes.fromhex(step.key)) if step.key else "",
                bytes_written=U64(written),
                duration_ms=U64(took),
            )
            for index, (step, written, took) in enumerate(
                zip(plan.passes, self.bytes_written, self.took_ms, strict=False)
            )
        ]


def _added(sums: list[int], more: list[U64]) -> list[int]:
    return [one + int(other) for one, other in zip(sums or [0] * len(more), more, strict=True)]


def _sum(one: FileTally, other: FileTally) -> FileTally:
    return FileTally(files=U64(one.files + other.files), bytes=U64(one.bytes + other.bytes))


def _left(found: FileTally, ended: list[FileTally]) -> FileTally:
    return FileTally(
        files=U64(found.files - sum(one.files for one in ended)),
        bytes=U64(found.bytes - sum(one.bytes for one in ended)),
    )


def _listed(one: Trouble) -> ListedFile:
    return ListedFile(path=one.path, outcome=one.outcome, why=one.why, remedy=one.remedy)


def _summed(check: FilesVerification | None, batch: BatchWritten) -> FilesVerification:
    before = check or FilesVerification(
        kind="full",
        bytes_expected=U64(0),
        bytes_read=U64(0),
        mismatched_bytes=U64(0),
        unreadable_bytes=U64(0),
        io_mode=batch.io_mode,
        reads_medium=True,
        duration_ms=U64(0),
    )
    modes = before.io_mode if batch.io_mode in before.io_mode else f"{before.io_mode}; {batch.io_mode}"
    return FilesVerification(
        kind="full",
        bytes_expected=U64(before.bytes_expected + batch.expected),
        bytes_read=U64(before.bytes_read + batch.read),
        mismatched_bytes=U64(before.mismatched_bytes + batch.mismatched),
        unreadable_bytes=U64(before.unreadable_bytes + batch.unreadable),
        io_mode=modes,
        reads_medium=before.reads_medium and batch.reads_medium,
        duration_ms=U64(before.duration_ms + batch.verify_ms),
    )


def _with_kind(check: FilesVerification | None, plan: TargetPlan) -> FilesVerification | None:
    if check is None:
        return None
    kind = plan.verification.kind
    return FilesVerification(
        kind="full" if kind == "full" else "sampled",
        bytes_expected=check.bytes_expected,
        bytes_read=check.bytes_read,
        mismatched_bytes=check.mismatched_bytes,
        unreadable_bytes=check.unreadable_bytes,
        io_mode=check.io_mode,
        reads_medium=check.reads_medium,
        duration_ms=check.duration_ms,
        rule=plan.verification.rule,
    )
