"""Many targets at once: as many as allowed, no lane over its limit, the order of the list otherwise kept."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
LOOK = 0.5
"""Seconds between looks of the waiting thread, so that signals are served."""


@dataclass(frozen=True)
class Job(Generic[T]):
    """Work on one target. ``lane`` is what it shares with others: a controller, a bus, a file system."""

    lane: str
    work: Callable[[], T]


def run_jobs(jobs: Sequence[Job[T]], parallel: int, per_lane: int = 0) -> list[T]:
    """The results of all jobs, in their order.

    At most `parallel` run at a time, and at most `per_lane` of one lane (0: no such limit). An
    exception keeps jobs that have not begun from beginning; the first one is raised when those
    under way have ended.
    """
    if len(jobs) == 1:
        return [jobs[0].work()]
    return _Run(jobs, parallel, per_lane).results()


class _Run(Generic[T]):
    def __init__(self, jobs: Sequence[Job[T]], parallel: int, per_lane: int) -> None:
        self._jobs = jobs
        self._waiting = list(range(len(jobs)))
        self._per_lane = per_lane
        self._busy: Counter[str] = Counter()
        self._results: dict[int, T] = {}
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._serve, name=f"target-{number}", daemon=True)
            for number in range(min(parallel, len(jobs)))
        ]

    def results(self) -> list[T]:
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            while thread.is_alive():
                thread.join(LOOK)
        if self._failure is not None:
            raise self._failure
        return [self._results[index] for index in range(len(self._jobs))]

    def _serve(self) -> None:
        while (index := self._take()) is not None:
            lane = self._jobs[index].lane
            try:
                self._results[index] = self._jobs[index].work()
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                with self._changed:
                    self._failure = self._failure or error
            finally:
                with self._changed:
                    self._busy[lane] -= 1
                    self._changed.notify_all()

    def _take(self) -> int | None:
        """The next job whose lane has room; None when there is nothing left to begin."""
        with self._changed:
            while self._waiting and self._failure is None:
                for index in self._waiting:
                    lane = self._jobs[index].lane
                    if not self._per_lane or self._busy[lane] < self._per_lane:
                        self._waiting.remove(index)
                        self._busy[lane] += 1
                        return index
                self._changed.wait()
            return None
