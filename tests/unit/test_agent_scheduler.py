"""Limits hold, nothing starves, order is kept, the first failure comes out."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.scheduler import Job, run_jobs


class Watcher:
    """Counts how many jobs are under way, in all and per lane."""

    def __init__(self) -> None:
        self.now: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.lock = threading.Lock()

    def job(self, number: int, lane: str) -> Job[int]:
        def work() -> int:
            with self.lock:
                for name in ("all", lane):
                    self.now[name] += 1
                    self.most[name] = max(self.most[name], self.now[name])
            time.sleep(0.002)
            with self.lock:
                self.now.subtract(["all", lane])
            return number

        return Job(lane, work)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=20), st.integers(1, 6), st.integers(0, 3))
def test_limits_hold_and_results_keep_their_order(lanes: list[str], parallel: int, per_lane: int) -> None:
    watcher = Watcher()
    jobs = [watcher.job(number, lane) for number, lane in enumerate(lanes)]
    assert run_jobs(jobs, parallel, per_lane) == list(range(len(lanes)))
    assert watcher.most["all"] <= parallel
    assert all(count <= (per_lane or 20) for lane, count in watcher.most.items() if lane != "all")


def test_as_many_run_at_once_as_may() -> None:
    barrier = threading.Barrier(4, timeout=5)
    assert run_jobs([Job("", barrier.wait) for _ in range(4)], 4).sort() is None


def test_a_busy_lane_does_not_hold_up_another() -> None:
    gate = threading.Event()
    jobs = [
        Job("slow", lambda: gate.wait(5)),
        Job("slow", lambda: gate.wait(5)),
        Job("quick", lambda: bool(gate.set() or 1)),
    ]
    assert run_jobs(jobs, 2, per_lane=1) == [True, True, True]


def test_the_first_failure_comes_out_and_nothing_more_begins() -> None:
    begun = []

    def fail() -> None:
        raise OSError("first")

    with pytest.raises(OSError, match="first"):
        run_jobs([Job("", fail), *[Job("", lambda: begun.append(1)) for _ in range(5)]], 1)
    assert begun == []
