"""Failing media: pinned to the block, counted right, and never an endless loop.

`FailingTarget` is a real file whose named blocks fail as a medium's do; everything else is the
engine's own path.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import KIB, aligned
from expunge_agent.engine.problems import (
    EngineError,
    GiveUp,
    Limits,
    NoSpaceOnTarget,
    Problem,
    TargetGone,
    TargetRefused,
)
from expunge_agent.engine.sources import KeyedStream, PatternSource
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import WriteReport, write_pass

BLOCK = 512
CHUNK = 64 * KIB
SIZE = 12 * CHUNK + 300
BLOCKS = -(-SIZE // BLOCK)
SMALL = Tuning(chunk=CHUNK, stripes=3)
STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))


class FailingTarget(Target):
    """Blocks that fail: `writes` and `reads` map a block to its error and how often it still fails.

    `volatile` blocks are accepted by write and lost at the next flush, which then fails once, as a
    drive's write cache does. Everything unflushed is spoiled by that.
    """

    def __init__(self, fd: int, size: int) -> None:
        self.writes: dict[int, tuple[int, int]] = {}
        self.reads: dict[int, tuple[int, int]] = {}
        self.volatile: set[int] = set()
        self.flushes_fail: int | None = None
        self.failing_flushes = 0
        self.calls = 0
        self.dirty: set[int] = set()
        self.failing_lock = threading.Lock()
        super().__init__(fd, size, block=BLOCK)

    def _fail(self, plan: dict[int, tuple[int, int]], view: memoryview, offset: int) -> None:
        with self.failing_lock:
            self.calls += 1
            for block in range(offset // BLOCK, -(-(offset + len(view)) // BLOCK)):
                number, times = plan.get(block, (0, 0))
                if times > 0:
                    plan[block] = (number, times - 1)
                    raise OSError(number, os.strerror(number))

    def write(self, view: memoryview, offset: int) -> None:
        self._fail(self.writes, view, offset)
        super().write(view, offset)
        with self.failing_lock:
            self.dirty.update(range(offset // BLOCK, -(-(offset + len(view)) // BLOCK)))

    def read_into(self, view: memoryview, offset: int) -> None:
        self._fail(self.reads, view, offset)
        super().read_into(view, offset)

    def flush(self) -> None:
        with self.failing_lock:
            dirty, self.dirty = self.dirty, set()
            fails = self.flushes_fail is not None and self.failing_flushes > 0
            self.failing_flushes -= fails
        super().flush()
        if fails or dirty & self.volatile:
            for block in dirty:
                end = min((block + 1) * BLOCK, self.size)
                super().write(aligned(BLOCK)[: end - block * BLOCK], block * BLOCK)
            number = self.flushes_fail or errno.EIO
            raise OSError(number, os.strerror(number))


FOREVER = 1 << 60


@pytest.fixture
def target(tmp_path: Path) -> Iterator[FailingTarget]:
    path = tmp_path / "medium.img"
    path.write_bytes(b"\xa5" * SIZE)
    opened = FailingTarget(os.open(path, os.O_RDWR), SIZE)
    yield opened
    opened.close()


def content(target: Target) -> bytes:
    view = aligned(target.size)
    Target.read_into(target, view, 0)
    return bytes(view)


def expected(bad: set[int], size: int = SIZE) -> bytes:
    view = aligned(size)
    STREAM.fill(view, 0)
    for block in bad:
        end = min((block + 1) * BLOCK, size)
        view[block * BLOCK : end] = b"\xa5" * (end - block * BLOCK)
    return bytes(view)


def length_of(blocks: set[int]) -> int:
    return sum(min((block + 1) * BLOCK, SIZE) - block * BLOCK for block in blocks)


def blocks_of(problems: list[Problem]) -> set[int]:
    return {block for one in problems for block in range(one.start // BLOCK, -(-one.end // BLOCK))}


def failing(target: Target, limits: Limits | None = None) -> tuple[EngineError, WriteReport]:
    with pytest.raises(EngineError) as caught:
        write_pass(target, STREAM, tuning=SMALL, limits=limits)
    assert isinstance(caught.value.report, WriteReport)
    assert not caught.value.report.complete
    return caught.value, caught.value.report


@pytest.mark.parametrize("number", [errno.EIO, errno.ENODATA])
def test_one_bad_sector_is_pinned_and_everything_else_is_written(target: FailingTarget, number: int) -> None:
    target.writes[200] = (number, FOREVER)
    told: list[Problem] = []
    report = write_pass(target, STREAM, tuning=SMALL, record=told.append)
    assert [(one.start, one.length) for one in report.problems] == [(200 * BLOCK, BLOCK)]
    assert report.problems[0].what == f"write: {errno.errorcode[number]} ({os.strerror(number)})"
    assert told == report.problems
    assert report.complete
    assert report.bytes_written == SIZE - BLOCK
    assert (report.error_count, report.error_bytes) == (1, BLOCK)
    assert content(target) == expected({200})


def test_a_bad_sector_that_holds_the_start_counts_only_from_there(target: FailingTarget) -> None:
    target.writes[200] = (errno.EIO, FOREVER)
    told: list[Problem] = []
    start = 200 * BLOCK + 100
    report = write_pass(target, STREAM, start=start, tuning=SMALL, record=told.append)
    assert [(one.start, one.length) for one in report.problems] == [(200 * BLOCK, BLOCK)]
    assert told == report.problems
    assert report.bytes_written == SIZE - 201 * BLOCK


def test_a_sector_that_works_at_the_second_retry_is_no_problem(target: FailingTarget) -> None:
    fails_until_alone = 1 + 7 + 1  # its chunk of 128 blocks, the seven halves down to it, one retry
    target.writes[200] = (errno.EIO, fails_until_alone)
    report = write_pass(target, STREAM, tuning=SMALL)
    assert report.problems == []
    assert report.bytes_written == SIZE
    assert content(target) == expected(set())


def test_retries_are_two(target: FailingTarget) -> None:
    target.writes[200] = (errno.EIO, FOREVER)
    write_pass(target, STREAM, tuning=SMALL)
    assert FOREVER - target.writes[200][1] == 1 + 7 + 2


@settings(max_examples=30, deadline=None)
@given(
    bad=st.sets(st.integers(0, BLOCKS - 1), max_size=20),
    run=st.tuples(st.integers(0, BLOCKS - 1), st.integers(0, 150)),
    data=st.data(),
)
def test_any_set_of_bad_sectors_is_listed_exactly(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], run: tuple[int, int], data: st.DataObject
) -> None:
    bad |= {block for block in range(run[0], sum(run)) if block < BLOCKS and len(bad) < BLOCKS - 40}
    start = data.draw(st.one_of(st.just(0), st.integers(0, SIZE - 1)))
    path = tmp_path_factory.mktemp("bad") / "f"
    path.write_bytes(b"\xa5" * SIZE)
    target = FailingTarget(os.open(path, os.O_RDWR), SIZE)
    target.writes = dict.fromkeys(bad, (errno.EIO, FOREVER))
    told: list[Problem] = []
    report = write_pass(target, STREAM, start=start, tuning=SMALL, record=told.append)
    seen = {block for block in bad if block >= start // BLOCK}
    assert blocks_of(report.problems) == blocks_of(told) == seen
    assert report.error_bytes == length_of(seen)
    assert report.bytes_written == SIZE - start - sum(
        min((block + 1) * BLOCK, SIZE) - max(block * BLOCK, start) for block in seen
    )
    assert report.complete
    untouched = set(range(start // BLOCK))
    assert content(target) == expected(seen | untouched)

    target.reads = dict.fromkeys(bad, (errno.ENODATA, FOREVER))
    back = verify(target, STREAM, tuning=SMALL)
    assert blocks_of(back.unreadable) == bad
    assert back.unreadable_bytes == length_of(bad)
    assert back.bytes_read == SIZE - length_of(bad)
    assert back.complete
    assert back.mismatched_bytes == sum(
        one != other
        for index, (one, other) in enumerate(zip(content(target), expected(set()), strict=True))
        if index // BLOCK not in bad
    )
    assert back.clean == (not bad and not untouched)
    target.close()


def test_a_target_that_fails_everywhere_is_gone(target: FailingTarget) -> None:
    target.writes = dict.fromkeys(range(BLOCKS), (errno.EIO, FOREVER))
    target.reads = dict(target.writes)
    error, report = failing(target)
    assert isinstance(error, TargetGone)
    assert "no other place answers" in str(error)
    assert (report.durable, report.bytes_written) == (0, 0)
    assert target.calls < 500


def test_a_target_that_only_reads_is_listed_as_a_whole(target: FailingTarget) -> None:
    target.writes = dict.fromkeys(range(BLOCKS), (errno.EIO, FOREVER))
    report = write_pass(target, STREAM, tuning=SMALL, limits=Limits(bad_blocks=100))
    assert report.complete
    assert (report.durable, report.bytes_written) == (SIZE, 0)
    assert [(one.start, one.length) for one in report.problems] == [(0, SIZE)]
    assert (report.error_count, report.error_bytes) == (1, SIZE)
    assert target.calls < 600


def ticking() -> Callable[[], int]:
    """A clock on which every look takes a second."""
    ticks = iter(range(0, 1 << 60, 1_000_000_000))
    lock = threading.Lock()

    def clock() -> int:
        with lock:
            return next(ticks)

    return clock


def test_time_spent_on_fine_work_is_limited(target: FailingTarget) -> None:
    target.writes = dict.fromkeys(range(100, 300), (errno.EIO, FOREVER))
    report = write_pass(target, STREAM, tuning=SMALL, limits=Limits(error_seconds=20), clock=ticking())
    assert report.complete
    listed = blocks_of(report.problems)
    assert set(range(100, 300)) <= listed <= set(range(384)), "nothing beyond the pieces that failed"
    assert content(target) == expected(listed)
    assert target.calls < 300


def test_time_spent_on_errors_ends_it_at_last(target: FailingTarget) -> None:
    target.writes = dict.fromkeys(range(100, 300), (errno.EIO, FOREVER))
    limits = Limits(error_seconds=20, give_up_seconds=20)
    with pytest.raises(GiveUp, match="20 s"):
        write_pass(target, STREAM, tuning=SMALL, limits=limits, clock=ticking())


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, NoSpaceOnTarget), (errno.ENODEV, TargetGone), (errno.EROFS, TargetRefused)],
)
def test_ends_that_are_not_the_medium_s_are_told_apart(
    target: FailingTarget, number: int, kind: type[EngineError]
) -> None:
    target.writes[5 * CHUNK // BLOCK] = (number, FOREVER)
    error, report = failing(target)
    assert type(error) is kind
    assert report.durable <= 5 * CHUNK
    assert content(target)[: report.durable] == expected(set())[: report.durable]
    if kind is not TargetGone:
        assert report.durable == 5 * CHUNK  # what was written before is kept
    assert report.problems == []


def test_a_sector_lost_at_the_flush_is_pinned(target: FailingTarget) -> None:
    target.volatile = {300}
    told: list[Problem] = []
    checkpoints: list[int] = []
    report = write_pass(target, STREAM, tuning=SMALL, record=told.append, checkpoint=checkpoints.append)
    assert [(one.start, one.length) for one in report.problems] == [(300 * BLOCK, BLOCK)]
    assert report.problems[0].what.startswith("flush: EIO")
    assert told == report.problems
    assert report.complete
    assert report.flushed
    assert report.bytes_written == SIZE - BLOCK
    assert checkpoints[-1] == SIZE
    there = content(target)
    assert there[: 300 * BLOCK] == expected(set())[: 300 * BLOCK]
    assert there[301 * BLOCK :] == expected(set())[301 * BLOCK :]


def test_a_flush_that_fails_once_loses_nothing(target: FailingTarget) -> None:
    target.flushes_fail, target.failing_flushes = errno.EIO, 1
    target.writes[40] = (errno.EIO, FOREVER)
    report = write_pass(target, STREAM, tuning=SMALL)
    assert blocks_of(report.problems) == {40}
    assert report.error_bytes == BLOCK
    assert report.bytes_written == SIZE - BLOCK
    assert content(target) == expected({40})


def test_a_flush_that_always_fails_leaves_nothing_written(target: FailingTarget) -> None:
    target.flushes_fail, target.failing_flushes = errno.EIO, FOREVER
    told: list[Problem] = []
    report = write_pass(target, STREAM, tuning=SMALL, record=told.append, limits=Limits(bad_blocks=50))
    assert (report.durable, report.bytes_written) == (SIZE, 0)
    assert sum(one.length for one in told) == SIZE
    assert [(one.start, one.length) for one in report.problems] == [(0, SIZE)]
    assert report.problems[0].what.startswith("flush: EIO")


def test_a_flush_that_takes_too_long_to_mend_leaves_nothing_durable(target: FailingTarget) -> None:
    target.flushes_fail, target.failing_flushes = errno.EIO, FOREVER
    checkpoints: list[int] = []
    limits = Limits(error_seconds=2, give_up_seconds=3)
    with pytest.raises(GiveUp) as caught:
        write_pass(
            target, STREAM, tuning=SMALL, checkpoint=checkpoints.append, limits=limits, clock=ticking()
        )
    report = caught.value.report
    assert (report.durable, report.bytes_written) == (0, 0)
    assert not report.flushed
    assert [(one.start, one.length) for one in report.problems] == [(0, SIZE)]
    assert report.problems[0].what.startswith("flush: EIO")
    assert checkpoints == []


def test_a_flush_without_space_says_so(target: FailingTarget) -> None:
    target.flushes_fail, target.failing_flushes = errno.ENOSPC, 1
    error, report = failing(target)
    assert isinstance(error, NoSpaceOnTarget)
    assert report.durable == 0


def test_a_failure_after_a_failed_flush_never_makes_the_lost_bytes_durable(target: FailingTarget) -> None:
    """The second flush succeeds, as a kernel's does; the bytes are lost all the same."""
    release = threading.Event()

    class Slow(KeyedStream):
        def for_worker(self) -> Slow:
            return Slow("aes-256-ctr", bytes(range(32)))

        def fill(self, view: memoryview, offset: int) -> None:
            if offset >= 6 * CHUNK:
                assert release.wait(10)
            super().fill(view, offset)

    original = target.flush

    def flush() -> None:
        try:
            original()
        finally:
            release.set()

    target.flush = flush  # type: ignore[method-assign]
    target.flushes_fail, target.failing_flushes = errno.EIO, 1
    checkpoints: list[int] = []
    target.writes[6 * CHUNK // BLOCK] = (errno.ENOSPC, FOREVER)
    with pytest.raises(NoSpaceOnTarget) as caught:
        write_pass(
            target,
            Slow("aes-256-ctr", bytes(range(32))),
            tuning=SMALL,
            checkpoint=checkpoints.append,
            checkpoint_interval=0.0,
        )
    assert checkpoints == []
    assert (caught.value.report.durable, caught.value.report.flushed) == (0, False)


def test_a_stop_while_bad_sectors_are_bisected_ends_it(target: FailingTarget) -> None:
    stop = threading.Event()
    target.writes = dict.fromkeys(range(128, 256), (errno.EIO, FOREVER))

    def record(problem: Problem) -> None:
        raise AssertionError(problem)

    fail = target._fail

    def counted(plan: dict[int, tuple[int, int]], view: memoryview, offset: int) -> None:
        if len(view) == BLOCK:
            stop.set()
        fail(plan, view, offset)

    target._fail = counted  # type: ignore[method-assign]
    report = write_pass(target, PatternSource(b"\0"), tuning=SMALL, stop=stop, record=record)
    assert report.stopped
    assert not report.complete
    assert report.durable == CHUNK  # the piece with the bad sectors counts as not done


def test_a_vanished_target_ends_a_verification(target: FailingTarget) -> None:
    target.reads[3 * CHUNK // BLOCK] = (errno.ENXIO, FOREVER)
    with pytest.raises(TargetGone) as caught:
        verify(target, STREAM, tuning=SMALL)
    assert not caught.value.report.complete


def test_a_verification_goes_on_past_the_limit(target: FailingTarget) -> None:
    write_pass(target, STREAM, tuning=SMALL)
    target.calls, target.reads = 0, dict.fromkeys(range(1, BLOCKS - 200), (errno.EIO, FOREVER))
    report = verify(target, STREAM, tuning=SMALL, limits=Limits(bad_blocks=64))
    assert report.complete
    assert report.unreadable_bytes == sum(one.length for one in report.unreadable)
    assert set(range(1, BLOCKS - 200)) <= blocks_of(report.unreadable) <= set(range(1, BLOCKS - 72))
    assert report.bytes_read == SIZE - report.unreadable_bytes
    assert report.mismatched_bytes == 0
    assert target.calls < 500
