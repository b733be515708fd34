"""A limited rate is kept by the bytes that move, however small the pieces are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.engine.buffers import KIB
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.ranges import Range
from expunge_agent.engine.sources import PatternSource
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass

SIZE = 32 * 64 * KIB
ZEROS = PatternSource(b"\0")
SMALL = Tuning(chunk=64 * KIB, stripes=3)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    opened = Target(os.open(path, os.O_RDWR), SIZE)
    yield opened
    opened.close()


def test_small_pieces_are_charged_with_their_own_length(target: Target) -> None:
    plan = [Range(start, 4096) for start in range(0, SIZE, 64 * KIB)]
    began = time.monotonic()
    report = verify(target, ZEROS, plan, tuning=SMALL, pace=Pace(len(plan) * 4096 * 2))
    took = time.monotonic() - began
    assert report.clean
    assert 0.4 < took < 3, "half a second at that rate; by whole chunks it would be eight"


@pytest.mark.parametrize("work", [write_pass, verify])
def test_a_rate_is_not_exceeded(target: Target, work: object) -> None:
    began = time.monotonic()
    report = work(target, ZEROS, tuning=SMALL, pace=Pace(SIZE * 2))  # type: ignore[operator]
    assert report.complete
    assert 0.4 < time.monotonic() - began < 3


def test_many_tiny_pieces_need_no_sleep_each() -> None:
    pace = Pace(1_000_000_000)
    began = time.monotonic()
    for _ in range(20_000):
        pace.wait(4096, lambda: False)
    assert 0.06 < time.monotonic() - began < 0.6, "82 ms by the rate; a sleep each would be a second and more"


def test_a_stop_ends_the_wait_for_a_slow_rate(target: Target) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    report = write_pass(target, ZEROS, tuning=SMALL, pace=Pace(64 * KIB // 10), stop=stop)
    assert time.monotonic() - began < 5
    assert (report.stopped, report.complete) == (True, False)
    assert report.durable == report.bytes_written == 64 * KIB, "only the first piece had its turn"
