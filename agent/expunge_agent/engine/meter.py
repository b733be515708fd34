"""Rates and remaining time from a moving model. Pure: the clock is an argument (nanoseconds)."""

from __future__ import annotations

import math
from dataclasses import dataclass

SECOND = 1_000_000_000
MEMORY = 10.0  # seconds over which the moving rate forgets
WINDOW = SECOND  # shortest stretch that counts as slowest or fastest


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a pass. Bytes, bytes per second, seconds (−1: unknown), nanoseconds since its start.

    ``errors`` counts ranges that failed or differed so far.
    """

    done: int
    total: int
    rate: int
    eta: int
    elapsed_ns: int
    errors: int = 0


class Meter:
    """Bytes done over time: moving and average rate, time left, slowest and fastest stretch."""

    def __init__(self, total: int, now: int, *, done: int = 0) -> None:
        """Count up to `total` bytes from `now` (ns, any monotonic clock); `done` were there before."""
        self.total = total
        self.done = done
        self.slowest = 0
        """Bytes per second of the slowest stretch of a second or more; 0 before the first."""
        self.fastest = 0
        self._first = done
        self._began = self._last = self._window = now
        self._window_done = done
        self._moving = 0.0

    def update(self, done: int, now: int) -> None:
        """`done` bytes are finished at `now`. Calls at the same or an earlier moment only set the bytes."""
        step = now - self._last
        if step > 0:
            share = 1.0 - math.exp(-step / SECOND / MEMORY)
            self._moving += share * ((done - self.done) * SECOND / step - self._moving)
            self._last = now
        self.done = done
        if now - self._window >= WINDOW:
            rate = max(0, done - self._window_done) * SECOND // (now - self._window)
            self.slowest = min(self.slowest, rate) if self.fastest or self.slowest else rate
            self.fastest = max(self.fastest, rate)
            self._window, self._window_done = now, done

    @property
    def average(self) -> float:
        """Bytes per second since the start."""
        elapsed = self._last - self._began
        return max(0, self.done - self._first) * SECOND / elapsed if elapsed else 0.0

    @property
    def rate(self) -> float:
        """Bytes per second over about the last ten seconds (exponentially weighted)."""
        weight = 1.0 - math.exp(-(self._last - self._began) / SECOND / MEMORY)
        # Before MEMORY has passed the moving sum is short of weight; divide by what it has.
        return max(0.0, self._moving / weight) if weight > 0 else 0.0

    @property
    def eta(self) -> int:
        """Whole seconds left, −1 where nothing has moved yet.

        The mean of moving and average rate: a disk slows down towards its inner tracks, so the recent
        rate counts, while one slow moment should not throw the estimate about.
        """
        rate = (self.rate + self.average) / 2
        return math.ceil((self.total - self.done) / rate) if rate >= 1 else -1

    def progress(self, errors: int = 0) -> Progress:
        """The present moment."""
        return Progress(
            done=self.done,
            total=self.total,
            rate=int(self.rate),
            eta=self.eta,
            elapsed_ns=self._last - self._began,
            errors=errors,
        )
