"""The clock a simulated drive lives by: the machine's, or one that a test moves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds from an unknown beginning, never going back."""

    def now(self) -> float: ...

    def pause(self, seconds: float) -> None:
        """Let `seconds` go by."""
        ...


class RealClock:
    """The machine's monotonic clock, or one that goes `pace` times as fast."""

    def __init__(self, pace: float = 1.0) -> None:
        self._begun = self._turned = time.monotonic()
        self._pace = pace

    def now(self) -> float:
        return self._begun + (time.monotonic() - self._turned) * self._pace

    def go(self, pace: float) -> None:
        """From now on so many times as fast as the machine's clock."""
        self._begun, self._turned, self._pace = self.now(), time.monotonic(), pace

    def pause(self, seconds: float) -> None:
        time.sleep(seconds / self._pace)


class VirtualClock:
    """Stands still until someone pauses: an erase of hours takes a test no time."""

    def __init__(self, start: float = 0.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def pause(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds
