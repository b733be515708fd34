"""How far a drive command has come under one order, folded from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from expunge_agent.core.drive import Answer, Drive
from expunge_agent.protocol.base import Frozen, Name, Text, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_ANSWERS, Canaries, DriveAnswer, Erasure, LaidOpen, ReadBack

MAX_ATTEMPTS = 3
"""How often a command is begun when the drive forgets it over a loss of power."""
_SECTOR = 512
End = Literal["not-begun", "done", "failed", "running", "unknown"]


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
    settled: Settled | None = None
    evidence: Evidence | None = None
    answers: list[Answer] = field(default_factory=list)

    @property
    def touched(self) -> bool:
        """Whether a byte of the medium may have been changed."""
        return self.placing or self.placed is not None or self.attempts > 0

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
            answers=[
                DriveAnswer(name=one.name, hex=one.hex[: 2 * 8192])
                for one in [*(before.answers if before is not None else []), *self.answers][:MAX_ANSWERS]
            ],
            laid_open=self.laid_open,
            beside=evidence.beside if evidence is not None else [],
        )


def changes(before: Drive, after: Drive) -> list[str]:
    """How the drive differs in what an erase leaves as it is: its names, its size, what it hides, its locks.

    That it grew by just what it had hidden is what was asked of it.
    """
    same = ("model", "serial", "firmware", "names", "logical_sector")
    grown = laid_open(before) and after.apparent == before.native
    told = [
        f"{name}: before {getattr(before, name)!s}, after {getattr(after, name)!s}"
        for name in (same if grown else (*same, "apparent"))
        if getattr(before, name) != getattr(after, name)
    ]
    if len(after.namespaces) != len(before.namespaces):
        told.append(f"namespaces: before {len(before.namespaces)}, after {len(after.namespaces)}")
    hidden = [f"{one.kind.upper()} of {one.size} bytes" for one in after.hidden if one.size]
    if hidden:
        told.append(f"it hides space: {', '.join(hidden)}")
    if after.security is not None and (after.security.enabled or after.security.locked):
        told.append("an ATA password is set on it")
    return [one[:4000] for one in told]


def laid_open(before: Drive) -> int:
    """Bytes that a drive hid before its command, and was made to give back for it."""
    hid = any(area.size for area in before.hidden)
    return int(before.native) - int(before.apparent) if hid and before.native > before.apparent else 0


def looked_at(before: Drive | None) -> int:
    """Of these, the bytes that canaries and read-back can cover: sectors of 512 bytes, which go by ATA commands."""
    return laid_open(before) if before is not None and before.logical_sector == _SECTOR else 0


def unseen(drive: Drive | None) -> list[str]:
    """What of the drive is in its command's reach, and nobody looks at, as exceptions."""
    given_back = laid_open(drive) if drive is not None else 0
    if not given_back or looked_at(drive):
        return []
    return [
        f"{given_back} bytes that the drive had hidden were given back before its command; no canary was put there, "
        "and they were not read back. Take the inventory again and order the whole size."
    ]
