"""What an overwrite works with, and whom it tells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from expunge_agent.core.pass_progress import Checkpoint
from expunge_agent.core.plan import PassPlan, TargetPlan
from expunge_agent.core.progress import TargetProgress
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.protocol.receipt import PassResult, Verification


class Recorder(Protocol):
    """Where the steps are written down, each before it is taken, and shown."""

    def pass_started(self, index: int) -> None:
        """Pass `index` is about to write its first byte."""

    def pass_resumed(self, index: int, durable: int) -> None:
        """Pass `index` is about to go on at byte `durable`."""

    def checkpoint(self, index: int, checkpoint: Checkpoint) -> None:
        """Everything the checkpoint says is durable on the target."""

    def pass_finished(self, index: int, result: PassResult) -> None:
        """Pass `index` came to its end."""

    def verify_started(self, of_pass: int) -> None:
        """Reading back begins."""

    def verify_finished(self, result: Verification) -> None:
        """Reading back came to its end, or (not `complete`) was broken off."""

    def progress(self, step: int, title: str, progress: Progress) -> None:
        """For the eyes only."""


@dataclass(frozen=True)
class Work:
    """What an overwrite works with. `recheck` raises when the target is not the one opened any more;
    with `calibrate` chunk and stripes are chosen by trying."""

    target: Target
    plan: TargetPlan
    so_far: TargetProgress
    recorder: Recorder
    recheck: Callable[[], None]
    now: Callable[[], datetime]
    tuning: Tuning
    checkpoint_seconds: float
    stop: threading.Event
    pace: Pace
    patience: float
    calibrate: bool = False
    celsius: Callable[[], int | None] = lambda: None

    @cached_property
    def sources(self) -> list[Source]:
        """What each pass writes, to recognise it by. To write a pass take a source of its own, whose
        memory goes with it."""
        return [source_of(step) for step in self.plan.passes]

    def earlier(self, index: int) -> list[Source]:
        """What the passes before `index` wrote, newest first: so that a write that was dropped is known for one."""
        return self.sources[:index][::-1]


def source_of(step: PassPlan) -> Source:
    """The bytes a pass writes."""
    if step.cipher:
        return KeyedStream(step.cipher, bytes.fromhex(step.key))
    return PatternSource(bytes.fromhex(step.fixed))
