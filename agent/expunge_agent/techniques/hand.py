"""What every drive command has to be able to do, so that one runner can carry out any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.engine.blocks import Blocks


class Rejected(Exception):  # noqa: N818 - an end, not a fault of the program
    """The drive did not take the command: nothing was begun. ``answers``: its own words for it."""

    def __init__(self, why: str, answers: list[Answer] | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.answers = answers or []


class State(StrEnum):
    """What the drive says of the operation now."""

    IDLE = "idle"
    """Nothing runs, and nothing tells that one of ours ever did."""
    RUNNING = "running"
    DONE = "done"
    """The last operation of this kind ended well, whoever started it."""
    FAILED = "failed"


@dataclass(frozen=True)
class Status:
    """One look at the drive. ``ppm``: progress in parts per million, −1 unknown; ``seconds_left`` −1 unknown.

    ``answers`` are the raw responses this was read from.
    """

    state: State
    ppm: int = -1
    seconds_left: int = -1
    detail: str = ""
    answers: list[Answer] = field(default_factory=list)


class Hand(Protocol):
    """One technique on one drive. Every method may raise `expunge_agent.commands.port.CommandError`.

    Made anew after a restart of the agent, from the drive and the journalled secret alone: it keeps
    nothing that matters in memory.
    """

    technique: Technique
    waits: bool
    """Whether `start` returns only when the drive has finished (there is no progress to poll)."""
    timeout: float
    """Seconds after which the drive has failed, from what it declares."""

    def prepare(self) -> list[Answer]:
        """Make the drive ready: hidden areas restored, password set. May be repeated. Raises Rejected."""
        ...

    def start(self) -> list[Answer]:
        """Begin. On return the drive has accepted the command (or, with `waits`, ended it well). Raises Rejected."""
        ...

    def poll(self) -> Status:
        """Ask the drive how far it is; changes nothing."""
        ...

    def settle(self) -> list[Answer]:
        """Leave the drive usable: out of failure mode, unlocked, password gone. After success and failure
        alike; may be repeated. Raises Rejected when the drive stays as it is."""
        ...


class Cells(Blocks, Protocol):
    """What a drive's cells hold, as it gives it out itself; ``from_cells``: bytes that it said are from there."""

    @property
    def from_cells(self) -> int: ...


@runtime_checkable
class ShowsCells(Protocol):
    """A `Hand` whose drive may stop between its erase and `Hand.settle`, and have its cells looked at."""

    def cells(self) -> Cells | None:
        """The cells, None where the drive does not show them now. Raises CommandError."""
        ...
