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
FILE_LONG = 8 * 1024 * 1024
"""Bytes from which on progress goes to the file only every `FILE_RARELY` seconds."""
FILE_RARELY = 60.0


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
        self._size = 0
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
                    self._size = handle.tell()
            self._show(event)

    def _show(self, event: Event) -> None:
        """A watcher that went away (a closed pipe or terminal) is not told any more."""
        if self._watch is None:
            return
        try:
            self._watch(event)
        except (OSError, ValueError):
            self._watch = None

    def _is_due(self, event: Event) -> bool:
        """Progress goes to the file every `FILE_EVERY` seconds, later `FILE_RARELY`, and when a step is through."""
        if event.kind is not EventKind.PROGRESS or event.done >= event.total:
            return True
        now, every = time.monotonic(), FILE_EVERY if self._size < FILE_LONG else FILE_RARELY
        if now - self._written.get(event.target, -every) < every:
            return False
        self._written[event.target] = now
        return True
