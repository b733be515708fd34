"""How fast the engine may go: paused, limited to a rate, or free. Shared by all targets of a run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

LOOK = 0.1
"""Seconds between looks at whether to stop, while waiting."""
SLACK = 0.01
"""Seconds that bytes may move early, so that small pieces need not sleep one by one."""


class Pace:
    """Workers call `wait` with the length of each piece before they begin it. `rate` in bytes per second over all targets; 0: no limit."""

    def __init__(self, rate: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        if rate < 0:
            raise ValueError("a rate is not negative")
        self.rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()
        self._go = threading.Event()
        self._go.set()

    @property
    def paused(self) -> bool:
        """Whether nothing may move."""
        return not self._go.is_set()

    def pause(self) -> None:
        """Let pieces at work end, and start no other."""
        self._go.clear()

    def resume(self) -> None:
        """Go on."""
        with self._lock:
            self._free_at = max(self._free_at, self._clock())  # a pause earns no credit
        self._go.set()

    def wait(self, length: int, stopping: Callable[[], bool]) -> None:
        """Return when `length` more bytes may move, or when `stopping`."""
        while not self._go.wait(LOOK):
            if stopping():
                return
        if not self.rate:
            return
        with self._lock:
            now = self._clock()
            at = max(self._free_at, now)
            self._free_at = at + length / self.rate
        if at - now <= SLACK:
            return
        while (left := at - self._clock()) > 0 and not stopping():
            time.sleep(min(left, LOOK))


FREE = Pace()
"""No limit; never paused by anyone."""
