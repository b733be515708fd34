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
    """The machine's monotonic clock."""

    def now(self) -> float:
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)


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
