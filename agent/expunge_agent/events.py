"""The event file of an order: what watchers read. A view only, so trouble writing it stops nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Digest, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.event import Event, EventKind

FILE_EVERY = 0.5
"""Seconds between progress events of one target in the file."""


class EventLog:
    """Appends events as JSON Lines; `watch`, where given, sees each one too."""

    def __init__(
        self,
        path: Path,
        order: Digest,
        now: Callable[[], datetime],
        watch: Callable[[Event], None] | None = None,
    ) -> None:
        self._path = path
        self._order = order
        self._now = now
        self._watch = watch
        self._lock = threading.Lock()
        self._written: dict[int, float] = {}
        self.latest: dict[int, Event] = {}
        """The newest event of each target, for whoever asks how it goes."""

    def emit(
        self,
        kind: EventKind,
        *,
        target: int = -1,
        step: int = -1,
        steps: int = 0,
        title: str = "",
        done: int = 0,
        total: int = 0,
        rate: int = 0,
        eta: int = -1,
    ) -> None:
        """Write one event (fields as in `protocol.event.Event`)."""
        event = Event(
            kind=kind,
            order=self._order,
            time=timestamp(self._now()),
            target=target,
            step=step,
            steps=steps,
            title=title,
            done=U64(done),
            total=U64(total),
            rate=U64(rate),
            eta=eta,
        )
        with self._lock:
            self.latest[target] = event
            if self._is_due(event):
                with suppress(OSError), self._path.open("ab", buffering=0) as handle:
                    handle.write(canonical.dumps(event) + b"\n")
            if self._watch is not None:
                self._watch(event)

    def _is_due(self, event: Event) -> bool:
        """Progress goes to the file once a second and target, and when a step is through."""
        if event.kind is not EventKind.PROGRESS or event.done >= event.total:
            return True
        now = time.monotonic()
        if now - self._written.get(event.target, -FILE_EVERY) < FILE_EVERY:
            return False
        self._written[event.target] = now
        return True
