"""The ranges that failed in one run: exact in bytes, bounded in memory."""

from __future__ import annotations

import threading

from expunge_agent.engine.problems import Problem, merged

MOST = 1024
"""Ranges that are kept by place once they are settled; of all beyond only number and bytes."""


class Listing:
    """What failed for good. Several threads may add.

    Ranges are *open* until the bytes below some offset are `settle`d; until then they are all kept and can
    be forgotten again. How many those can be is bounded by what a run does from one settling to the next.
    """

    def __init__(self, most: int = MOST) -> None:
        """`most`: settled ranges that are kept by place."""
        self._most = most
        self._lock = threading.Lock()
        self._open: list[Problem] = []
        self._kept: list[Problem] = []
        self._more = self._more_bytes = 0

    def add(self, problem: Problem) -> None:
        """List `problem`, which overlaps none that is listed."""
        with self._lock:
            self._open.append(problem)

    def forget(self, start: int, end: int) -> None:
        """Take the open ranges that have bytes in [start, end) off the list: they are tried again."""
        with self._lock:
            self._open = [one for one in self._open if one.start >= end or one.end <= start]

    def settle(self, below: int) -> list[Problem]:
        """The open ranges that begin below `below`, merged; from now on they are final."""
        with self._lock:
            if not self._open:
                return []
            settled = merged(one for one in self._open if one.start < below)
            self._open = [one for one in self._open if one.start >= below]
            kept = merged([*self._kept, *settled])
            self._kept = kept[: self._most]
            self._more += len(kept) - len(self._kept)
            self._more_bytes += sum(one.length for one in kept[self._most :])
            return settled

    def ranges(self) -> list[Problem]:
        """All that is kept by place, ascending and merged: everything, unless there was too much."""
        with self._lock:
            return merged([*self._kept, *self._open])

    def figures(self) -> tuple[int, int]:
        """Number and bytes of all ranges, merged."""
        listed = self.ranges()
        return len(listed) + self._more, sum(one.length for one in listed) + self._more_bytes

    def lost(self, start: int, end: int) -> int:
        """Bytes of the ranges that lie in [start, end); those not kept by place are all counted."""
        with self._lock:
            inside = (
                min(one.end, end) - max(one.start, start)
                for one in (*self._kept, *self._open)
                if one.start < end and one.end > start
            )
            return sum(inside) + self._more_bytes

    def __len__(self) -> int:
        return len(self._kept) + len(self._open) + self._more
