"""How far a drive command has come under one order, folded from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from expunge_agent.core.drive import Answer, Drive
from expunge_agent.core.entry import Entry
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import (
    MAX_ANSWERS,
    Canaries,
    CellsRead,
    DriveAnswer,
    Erasure,
    LaidOpen,
    ReadBack,
)

MAX_ATTEMPTS = 3
"""How often a command is begun when the drive forgets it over a loss of power."""
GAP = DriveAnswer(name="More answers came here than are kept")
"""Stands in a receipt where answers of the drive are left out."""
End = Literal["not-begun", "done", "failed", "running", "unknown"]
KINDS = (
    "laid-open",
    "canaries-placing",
    "canaries-placed",
    "erase-starting",
    "erase-sending",
    "erase-accepted",
    "erase-seen",
    "erase-ended",
    "erase-cells",
    "erase-settled",
    "erase-checked",
)


def fewer(answers: list[DriveAnswer], most: int) -> list[DriveAnswer]:
    """At most `most` of them: the first and the last, which tell of the drive before and after, with a word of
    the gap between."""
    if len(answers) <= most:
        return answers
    if most < 3:
        return [GAP][:most]
    first = most // 2
    return [*answers[:first], GAP, *answers[first + 1 - most :]]


class Neighbour(Frozen, frozen=True):
    """What another namespace of the drive held, which its command should leave alone: (offset, SHA-256)."""

    node: Name
    samples: list[tuple[U64, str]]


class Placed(Frozen, frozen=True):
    """The canaries: those that could not be written, and the samples of old data (offset, SHA-256).

    ``sampled`` counts all places read, blocks of one byte throughout included; ``lost`` those of `failed`
    that were written well and could not be read again. ``size``: bytes of the medium, which gives the places.
    """

    failed: list[U64]
    sampled: int
    samples: list[tuple[U64, str]]
    size: U64
    lost: int = 0
    beside: list[Neighbour] = []


class Ended(Frozen, frozen=True):
    """How the command ended, as the drive says and as far as it may be believed."""

    end: End
    detail: Text
    duration_ms: U64 = U64(0)


class Settled(Frozen, frozen=True):
    """Whether the drive was left usable, and what there is to say of it."""

    settled: bool
    detail: Text = ""


class Evidence(Frozen, frozen=True):
    """What was found afterwards."""

    canaries: Canaries
    read_back: ReadBack | None
    changes: list[Text]
    beside: list[Text] = []
    """What other namespaces lost that the command should have left alone."""


@dataclass
class ErasureProgress:
    """The command so far. ``placing``: canaries may be on the medium. ``attempts`` > 0: the drive was prepared;
    ``sending``: since then the command itself may have reached it."""

    laid_open: LaidOpen | None = None
    placing: bool = False
    placed: Placed | None = None
    attempts: int = 0
    started_at: Timestamp = ""
    sending: bool = False
    accepted: bool = False
    seen: bool = False
    ended: Ended | None = None
    ended_at: Timestamp = ""
    cells: CellsRead | None = None
    settled: Settled | None = None
    evidence: Evidence | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def touched(self) -> bool:
        """Whether a byte of the medium may have been changed."""
        return self.placing or self.placed is not None or self.attempts > 0

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`; whatever the drive answered is kept with it."""
        kind, data = record.kind, record.data
        self.answers += [canonical.convert(one, Answer) for one in data.get("answers", [])]
        if kind == "laid-open":
            self.laid_open = canonical.convert(data["laid_open"], LaidOpen)
        elif kind == "canaries-placing":
            self.placing = True
        elif kind == "canaries-placed":
            self.placed = canonical.convert(data["placed"], Placed)
        elif kind == "erase-starting":
            self.attempts += 1
            self.started_at = record.at
            self.sending = self.accepted = self.seen = False
        elif kind == "erase-sending":
            self.sending = True
        elif kind == "erase-accepted":
            self.accepted = True
        elif kind == "erase-seen":
            self.seen = True
        elif kind == "erase-ended":
            self.ended, self.ended_at = canonical.convert(data["ended"], Ended), record.at
        elif kind == "erase-cells":
            self.cells = canonical.convert(data["cells"], CellsRead)
        elif kind == "erase-settled":
            self.settled = canonical.convert(data["settled"], Settled)
        else:
            self.evidence = canonical.convert(data["evidence"], Evidence)

    def unheld(self) -> None:
        """Nobody held the medium for a while: canaries not yet erased, and what was found, count no more."""
        self.evidence = None
        if not self.attempts:
            self.placed = None

    @property
    def under_way(self) -> bool:
        """Whether the drive may be at work for this order."""
        return self.attempts > 0 and self.ended is None

    def result(self, technique: str, before: Drive | None) -> Erasure:
        """The command as the receipt shows it; `before`: the drive as it answered when it was planned."""
        ended = self.ended or Ended(end="running" if self.under_way else "not-begun", detail="")
        evidence = self.evidence
        return Erasure(
            technique=technique,
            accepted=self.accepted,
            progress_seen=self.seen,
            ended=ended.end,
            attempts=self.attempts,
            detail=ended.detail,
            started_at=self.started_at,
            finished_at=self.ended_at,
            duration_ms=ended.duration_ms,
            settled=self.settled is not None and self.settled.settled,
            settling=self.settled.detail if self.settled is not None else "",
            canaries=evidence.canaries if evidence is not None else None,
            read_back=evidence.read_back if evidence is not None else None,
            changes=evidence.changes if evidence is not None else [],
            answers=fewer(
                [
                    DriveAnswer(name=one.name, hex=one.hex[: 2 * 8192])
                    for one in [*(before.answers if before is not None else []), *self.answers]
                ],
                MAX_ANSWERS,
            ),
            laid_open=self.laid_open,
            beside=evidence.beside if evidence is not None else [],
            cells=self.cells,
        )
