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
    """The machine's monotonic clock, until it is told to go faster."""

    def __init__(self) -> None:
        begun = time.monotonic()
        self._since = (begun, begun, 1.0)
        """What it showed when it was last told how fast to go, the machine's clock then, and how fast."""

    def now(self) -> float:
        shown, then, pace = self._since
        return shown + (time.monotonic() - then) * pace

    def go(self, pace: float) -> None:
        """From now on `pace` times as fast as the machine's clock."""
        self._since = (self.now(), time.monotonic(), pace)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds / self._since[2])


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
