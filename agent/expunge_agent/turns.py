"""One at a time on a controller, and no more at once than the power supply bears."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Who erases now. `most` drives at a time in all (0: no limit), one on each lane."""

    def __init__(self, most: int = 0) -> None:
        self._most = most
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, lane: str, stop: threading.Event) -> Iterator[bool]:
        """Wait for a turn on `lane` and keep it; False when `stop` came first."""
        with self._changed:
            while not stop.is_set() and not self._free(lane):
                self._changed.wait(0.5)
            mine = not stop.is_set()
            if mine:
                self._busy.add(lane)
        try:
            yield mine
        finally:
            with self._changed:
                if mine:
                    self._busy.discard(lane)
                self._changed.notify_all()

    def _free(self, lane: str) -> bool:
        return lane not in self._busy and not (self._most and len(self._busy) >= self._most)
