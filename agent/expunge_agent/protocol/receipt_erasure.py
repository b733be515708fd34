"""The part of a receipt that tells of a drive's own erase: what it was told, said, and held before and after."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol.base import Frozen, MaybeTimestamp, Name, Text
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_parts import RangeProblem

MAX_ANSWERS = 200
"""Answers of a drive in one target's story."""


class DriveAnswer(Frozen, frozen=True):
    """Bytes as the drive returned them: the command or page they answer, and the data in hexadecimal."""

    name: Name
    hex: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{2}){0,8192}\Z")] = ""


class Canaries(Frozen, frozen=True):
    """Keyed blocks that were written before a drive command at places nobody could foresee, and looked for after it.

    Places and contents follow from ``key`` (64 hexadecimal digits) and the size of the medium: see
    docs/receipt-format.md. ``found``: blocks of which 512 bytes or more were still there. ``telling``: of
    ``samples`` blocks of old data read before, those not of one byte throughout; ``kept``: of these, the
    ones still there. Bytes of a block: ``block``. ``lost``: places that took their canary and did not hold
    it even before the command, as of a drive that drops writes or wraps its capacity. ``samples_unreadable``: of
    ``telling``, those that could not be read again.
    """

    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    block: int
    planned: int
    written: int
    looked_for: int
    found: int
    unreadable: int
    samples: int
    telling: int
    kept: int
    found_at: list[U64] = []
    """Offsets of the first of those found or kept, at most 100."""
    lost: int = 0
    samples_unreadable: int = 0


class ReadBack(Frozen, frozen=True):
    """What the medium held after a drive command. ``zeros``, ``ones`` (FFh), ``constant`` (another byte
    throughout a block of 4096 bytes) and ``other`` are bytes. ``seed`` and ``block`` regenerate sampled places.

    Blocks that read as one byte are what deallocated blocks read as, too: no proof that cells were erased.
    """

    kind: Literal["full", "sampled"]
    bytes_expected: U64
    bytes_read: U64
    unreadable_bytes: U64
    unreadable: list[RangeProblem]
    zeros: U64
    ones: U64
    constant: U64
    other: U64
    io_mode: Text
    reads_medium: bool
    started_at: MaybeTimestamp
    finished_at: MaybeTimestamp
    duration_ms: U64
    complete: bool
    seed: str = ""
    block: int = 0
    rule: Text = ""


class LaidOpen(Frozen, frozen=True):
    """What a drive hid and was made to give back before its command: its capacity in bytes ``before`` and
    ``after``, and what was ``done`` for it. The kernel may go on showing the capacity before."""

    before: U64
    after: U64
    done: list[Text]


class CellsRead(Frozen, frozen=True):
    """What the cells of an NVMe drive held after its erase and before they were deallocated, by its own reads in the
    media verification state (Base 2.1 §8.1.24.3.6, NVM Command Set 1.1 §5.10.1).

    ``looked_for`` to ``samples_unreadable`` as in `Canaries`. ``from_cells``: bytes of all reads that the drive
    said came from the media. ``zeros`` to ``other``, ``bytes_read``, ``unreadable_bytes`` as in `ReadBack`; ``other``
    proves nothing: integrity is not checked in this state, and a second read may differ. ``detail``: why the
    look broke off, empty where it did not.
    """

    looked_for: int
    found: int
    unreadable: int
    telling: int
    kept: int
    samples_unreadable: int
    from_cells: U64
    bytes_read: U64
    unreadable_bytes: U64
    zeros: U64
    ones: U64
    constant: U64
    other: U64
    detail: Text = ""


class Erasure(Frozen, frozen=True):
    """One drive command as it ran.

    ``accepted``: the drive took the command. ``progress_seen``: it was seen at work. ``ended``: what it said
    last, ``done`` only if it was accepted or seen at work under this order. ``attempts``: how often it was
    begun (again after a power cut that the drive forgot it over). ``settled``: the drive was left usable.
    ``changes``: how it differs from before in what should be the same. ``duration_ms`` is that of the
    command, from acceptance to its end as it was noticed.
    """

    technique: Name
    accepted: bool
    progress_seen: bool
    ended: Literal["not-begun", "done", "failed", "running", "unknown"]
    attempts: int
    detail: Text
    started_at: MaybeTimestamp
    finished_at: MaybeTimestamp
    duration_ms: U64
    settled: bool
    settling: Text
    canaries: Canaries | None
    read_back: ReadBack | None
    changes: list[Text]
    answers: list[DriveAnswer]
    laid_open: LaidOpen | None = None
    """Canaries and read-back then cover all of ``after``."""
    beside: list[Text] = []
    """What other namespaces of the drive lost that the command should have left alone."""
    cells: CellsRead | None = None
    """None where the drive did not show its cells between its erase and their deallocation."""

    def reach(self, ordered: int) -> int:
        """Bytes that canaries and read-back cover, for a medium of `ordered` bytes."""
        return int(self.laid_open.after) if self.laid_open is not None else ordered
