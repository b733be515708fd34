"""Events: what a watcher sees while an order runs. A view only; the receipt is the fact."""

from __future__ import annotations

from enum import StrEnum

from expunge_agent.protocol.base import Digest, Frozen, Text, Timestamp
from expunge_agent.protocol.canonical import U64


class EventKind(StrEnum):
    """The moments of an order's life, in the order in which they can come."""

    SPOOLED = "spooled"
    STARTED = "started"
    RESUMED = "resumed"
    STEP_STARTED = "step-started"
    PROGRESS = "progress"
    STEP_FINISHED = "step-finished"
    TARGET_FINISHED = "target-finished"
    FINISHED = "finished"


class Event(Frozen, frozen=True):
    """One moment. ``target`` and ``step`` count from 0, −1 where there is none.

    ``done`` and ``total`` are bytes of the step, ``rate`` bytes per second, ``eta`` seconds
    (−1: unknown), ``title`` the step in words ("pass 1 of 2: keyed stream").
    """

    kind: EventKind
    order: Digest
    time: Timestamp
    target: int = -1
    step: int = -1
    steps: int = 0
    title: Text = ""
    done: U64 = U64(0)
    total: U64 = U64(0)
    rate: U64 = U64(0)
    eta: int = -1
