"""Failing disks on the kernel's own path: exact ranges and totals, ends told apart, and never a hang.

The faults are those of a real small block layer (support/fuse_disk.py), used as a file and as a loop
device over it. Every test is bounded in time; what is stuck is let go or killed by the fixture.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import KIB, MIB, aligned
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.opening import target_over
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.problems import (
    EngineError,
    GiveUp,
    Limits,
    NoSpaceOnTarget,
    Problem,
    Stalled,
    TargetGone,
    TargetShrank,
)
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.engine.watchdog import Watchdog
from expunge_agent.engine.writer import WriteReport, write_pass
from expunge_agent.protocol.base import Outcome
from support.agents import Bench
from support.fuse_lab import FuseDisk, FuseLab, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

SECTOR = 512
CHUNK = 64 * KIB
SIZE = 2 * MIB
OLD = b"\xa5" * SIZE
TWO = Tuning(chunk=CHUNK, stripes=2)
ONE = Tuning(chunk=CHUNK, stripes=1)
STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))
LONGEST = 60.0  # seconds for any one test; nothing here may hang


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """A test that hangs is a failure, not a wait."""

    def too_long(number: int, frame: object) -> None:
        raise AssertionError(f"not finished after {LONGEST:.0f} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[FuseLab]:
    with FuseLab(tmp_path.resolve()) as lab:
        yield lab


@pytest.fixture(params=["file", "loop"])
def over(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def opened(disk: FuseDisk, over: str) -> Target:
    if over == "file":
        return disk.open()
    device = disk.loop()
    if Path(f"/sys/block/{Path(device).name}/loop/dio").read_text().strip() != "1":
        pytest.skip("needs a kernel whose loop devices do direct I/O on FUSE")
    return disk.open(device)


def expected(size: int = SIZE) -> bytes:
    view = aligned(size)
    STREAM.fill(view, 0)
    return bytes(view)


WRITTEN = expected()


def with_gaps(ranges: list[tuple[int, int]]) -> bytes:
    """The stream, with the old content in `ranges` of bytes."""
    data = bytearray(WRITTEN)
    for start, end in ranges:
        data[start:end] = OLD[start:end]
    return bytes(data)


def spans(problems: list[Problem]) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in problems]


def sectors(numbers: set[int]) -> list[tuple[int, int]]:
    """Numbers of sectors as merged ranges of bytes."""
    out: list[tuple[int, int]] = []
    for number in sorted(numbers):
        start, end = number * SECTOR, (number + 1) * SECTOR
        if out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        else:
            out.append((start, end))
    return out


def bad(ranges: list[tuple[int, int]], name: str = "EIO", times: int | None = None) -> list[list[Any]]:
    return [[start, end, name, times] for start, end in ranges]


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began <= seconds


def wait_for(so: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not so():
        assert time.monotonic() < until
        time.sleep(0.02)


def ends(call: Callable[[], object]) -> tuple[EngineError, Any]:
    """The end that `call` comes to, and the report of it."""
    with pytest.raises(EngineError) as caught:
        call()
    report = caught.value.report
    assert not report.complete
    return caught.value, report


# Bad sectors.


@pytest.mark.parametrize("name", ["EIO", "ENODATA"])
@pytest.mark.parametrize("number", [0, 777, SIZE // SECTOR - 1])
def test_one_bad_sector_of_writes_is_pinned(disks: FuseLab, over: str, name: str, number: int) -> None:
    disk = disks.disk(OLD)
    gaps = sectors({number})
    disk.set(bad_writes=bad(gaps, name))
    told: list[Problem] = []
    target = opened(disk, over)
    report = write_pass(target, STREAM, tuning=TWO, record=told.append)
    assert report.complete
    assert report.flushed
    assert spans(report.problems) == spans(told) == gaps
    assert report.problems[0].what == f"write: {name} ({os.strerror(getattr(errno, name))})"
    assert (report.bytes_written, report.error_bytes, report.error_count) == (SIZE - SECTOR, SECTOR, 1)
    assert disk.truth() == with_gaps(gaps)
    back = verify(target, STREAM, tuning=TWO)
    assert not back.clean
    assert (back.mismatches[0].start, back.mismatches[0].what) == (gaps[0][0], "byte 0xa5 throughout")
    assert back.mismatched_bytes == sum(a != 0xA5 for a in WRITTEN[gaps[0][0] : gaps[0][1]])


@pytest.mark.parametrize("name", ["EIO", "ENODATA"])
def test_bad_sectors_of_reads_are_pinned(disks: FuseLab, over: str, name: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    assert write_pass(target, STREAM, tuning=TWO).complete
    gaps = sectors({5, 6, 7, 2000, 2002})
    disk.set(bad_reads=bad(gaps, name))
    back = verify(target, STREAM, tuning=TWO)
    assert back.complete
    assert not back.clean
    assert spans(back.unreadable) == gaps
    assert {one.what for one in back.unreadable} == {f"read: {name} ({os.strerror(getattr(errno, name))})"}
    assert (back.unreadable_bytes, back.bytes_read) == (5 * SECTOR, SIZE - 5 * SECTOR)
    assert back.mismatched_bytes == 0


def test_a_sector_that_works_again_is_retried_and_no_problem(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    halvings = 8  # a chunk of 128 sectors: once whole, seven halves, once alone
    disk.set(bad_writes=bad(sectors({100}), times=halvings + 1))
    target = opened(disk, over)
    report = write_pass(target, STREAM, tuning=TWO)
    assert (report.problems, report.bytes_written) == ([], SIZE)
    assert disk.truth() == WRITTEN
    disk.set(bad_reads=bad(sectors({100}), times=halvings + 1))
    assert verify(target, STREAM, tuning=TWO).clean


def test_retries_are_by_rule(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    tries = 8 + 2
    disk.set(bad_writes=bad(sectors({100}), times=tries))
    report = write_pass(target, STREAM, tuning=TWO, limits=Limits(retries=2))
    assert spans(report.problems) == sectors({100})
    disk.set(bad_writes=bad(sectors({100}), times=tries))
    assert write_pass(target, STREAM, tuning=TWO, limits=Limits(retries=3)).problems == []


def test_a_bad_area_is_written_around(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    gaps = [(300 * SECTOR, 700 * SECTOR), (3000 * SECTOR, 3001 * SECTOR)]
    disk.set(bad_writes=bad(gaps))
    report = write_pass(opened(disk, over), STREAM, tuning=TWO)
    assert report.complete
    assert spans(report.problems) == gaps
    assert report.bytes_written == SIZE - 401 * SECTOR
    assert disk.truth() == with_gaps(gaps)


_BAD = st.tuples(
    st.sets(st.integers(0, SIZE // SECTOR - 1), max_size=12),
    st.lists(st.tuples(st.integers(0, SIZE // SECTOR - 1), st.integers(1, 200)), max_size=2),
).map(
    lambda both: (
        both[0]
        | {number for first, count in both[1] for number in range(first, min(first + count, SIZE // SECTOR))}
    )
)


@pytest.mark.parametrize("over", ["file", "loop"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
@given(writes=_BAD, reads=_BAD)
def test_any_bad_ranges_are_listed_exactly_and_the_totals_are_right(
    tmp_path_factory: pytest.TempPathFactory, over: str, writes: set[int], reads: set[int]
) -> None:
    with FuseLab(tmp_path_factory.mktemp("any").resolve()) as lab:
        disk = lab.disk(OLD)
        target = opened(disk, over)
        disk.set(bad_writes=bad(sectors(writes)))
        told: list[Problem] = []
        report = write_pass(target, STREAM, tuning=TWO, record=told.append)
        assert report.complete
        assert spans(report.problems) == sectors(writes)
        assert report.error_bytes == len(writes) * SECTOR
        assert report.bytes_written == SIZE - len(writes) * SECTOR
        assert sum(one.length for one in told) == len(writes) * SECTOR
        truth = disk.truth()
        assert truth == with_gaps(sectors(writes))

        disk.set(bad_reads=bad(sectors(reads), "ENODATA"))
        back = verify(target, STREAM, tuning=TWO)
        assert back.complete
        assert spans(back.unreadable) == sectors(reads)
        assert back.unreadable_bytes == len(reads) * SECTOR
        assert back.bytes_read == SIZE - len(reads) * SECTOR
        wrong = writes - reads
        assert back.mismatched_bytes == sum(
            sum(a != 0xA5 for a in WRITTEN[number * SECTOR : (number + 1) * SECTOR]) for number in wrong
        )
        assert back.clean == (not reads and not writes)


# Limits.


@pytest.mark.parametrize("what", ["bad_writes", "bad_reads"])
def test_too_many_bad_sectors_are_stepped_over(disks: FuseLab, over: str, what: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    if what == "bad_reads":
        assert write_pass(target, STREAM, tuning=TWO).complete
    dead, behind = (3 * CHUNK, 27 * CHUNK - SECTOR), 27 * CHUNK
    disk.set(**{what: bad([dead])})
    before, limits = disk.set(), Limits(bad_blocks=100)
    with takes_at_most(30):
        if what == "bad_writes":
            report = write_pass(target, STREAM, tuning=TWO, limits=limits)
            assert report.complete
            listed, lost = report.problems, report.error_bytes
            assert report.bytes_written == SIZE - lost
            assert disk.truth() == with_gaps([(dead[0], behind)])
        else:
            back = verify(target, STREAM, tuning=TWO, limits=limits)
            assert (back.complete, back.mismatched_bytes) == (True, 0)
            listed, lost = back.unreadable, back.unreadable_bytes
            assert back.bytes_read == SIZE - lost
    assert spans(listed) == [(dead[0], behind)]
    assert lost == behind - dead[0]
    assert disk.set() - before < 1500


def test_time_spent_on_errors_ends_it(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(bad_writes=bad([(CHUNK, SIZE)]), slow=0.02)
    limits = Limits(give_up_seconds=1.0)
    with takes_at_most(20):
        error, _ = ends(lambda: write_pass(target, STREAM, tuning=TWO, limits=limits))
    assert isinstance(error, GiveUp)
    assert "1 s" in str(error)


# Ends that are not the medium's, told apart.


def test_no_space_is_no_bad_sector(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(full_from=0)
    try:
        target.write(aligned(CHUNK), 0)
    except OSError as refused:
        if refused.errno != errno.ENOSPC:
            pytest.skip("needs a kernel whose loop driver hands ENOSPC on")
    disk.set(full_from=SIZE // 2)
    error, report = ends(lambda: write_pass(target, STREAM, tuning=ONE))
    assert isinstance(error, NoSpaceOnTarget)
    assert report.problems == []
    assert report.durable == SIZE // 2 == report.bytes_written
    assert disk.truth() == with_gaps([(SIZE // 2, SIZE)])


@pytest.mark.parametrize("name", ["ENODEV", "ENOTCONN", "EIO"])
def test_a_disk_that_vanishes_is_gone(disks: FuseLab, over: str, name: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(vanish_after=SIZE // 2, vanish_error=name)
    with takes_at_most(20):
        error, report = ends(lambda: write_pass(target, STREAM, tuning=TWO))
    assert isinstance(error, TargetGone)
    assert report.bytes_written == report.durable == 0, "what was not flushed may be lost"
    assert len(report.problems) <= 20
    error, report = ends(lambda: verify(target, STREAM, tuning=TWO))
    assert isinstance(error, TargetGone)
    assert report.bytes_read == 0


def test_a_disk_whose_driver_dies_is_gone(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(slow=0.02)
    killer = threading.Timer(0.3, disk.kill)
    killer.start()
    with takes_at_most(20):
        error, report = ends(lambda: write_pass(target, STREAM, tuning=TWO, checkpoint_interval=0.0))
    killer.join()
    assert isinstance(error, TargetGone)
    assert disk.truth()[: report.durable] == WRITTEN[: report.durable]


def test_a_disk_that_shrinks_is_told(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(shrunk_to=SIZE // 2)
    error, report = ends(lambda: write_pass(target, STREAM, tuning=TWO))
    assert isinstance(error, TargetShrank)
    assert report.durable <= SIZE // 2
    error, _ = ends(lambda: verify(target, STREAM, tuning=TWO))
    assert isinstance(error, TargetShrank)


# Errors that only show at the flush.


def test_a_loss_told_only_at_the_flush_is_pinned(disks: FuseLab, over: str) -> None:
    """Every write was confirmed; only fsync says that something went wrong, and not where."""
    disk = disks.disk(OLD)
    gaps = sectors({1000, 1001, 3333})
    disk.set(lost_at_flush=bad(gaps))
    told: list[Problem] = []
    report = write_pass(opened(disk, over), STREAM, tuning=TWO, record=told.append)
    assert report.complete
    assert spans(report.problems) == spans(told) == gaps
    assert {one.what for one in told} == {f"flush: EIO ({os.strerror(errno.EIO)})"}
    assert report.bytes_written == SIZE - 3 * SECTOR
    assert disk.truth() == with_gaps(gaps)


def test_a_loss_at_one_flush_alone_is_repaired(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    disk.set(lost_at_flush=bad([(CHUNK, 3 * CHUNK)], times=2))
    report = write_pass(opened(disk, over), STREAM, tuning=TWO)
    assert (report.problems, report.bytes_written, report.complete) == ([], SIZE, True)
    assert disk.truth() == WRITTEN


def test_the_kernel_s_own_writeback_errors_are_pinned(disks: FuseLab) -> None:
    """Without direct I/O the page cache takes every write; EIO comes from writeback, at fsync."""
    disk = disks.disk(OLD, direct=False, writeback=True)
    disk.set(refuse_direct=True, bad_writes=bad(sectors(set(range(1600, 1608)))))
    target = opened(disk, "file")
    assert target.io_mode == "buffered"
    report = write_pass(target, STREAM, tuning=TWO)
    assert report.complete
    assert spans(report.problems) == sectors(set(range(1600, 1608)))
    assert report.problems[0].what.startswith("flush: EIO")
    assert disk.truth() == with_gaps(spans(report.problems))


# A disk that answers nothing.


def stalling(
    work: Callable[..., object], target: Target, patience: float = 1.0, **more: Any
) -> tuple[EngineError, Any, list[Progress]]:
    moments: list[Progress] = []
    with takes_at_most(patience + 6):
        error, report = ends(
            lambda: work(target, STREAM, tuning=TWO, patience=patience, progress=moments.append, **more)
        )
    return error, report, moments


def test_a_disk_that_is_silent_at_its_opening_ends_in_time(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    path = str(disk.path) if over == "file" else disk.loop()
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    disk.set(stall_after=0)
    with takes_at_most(3.0), pytest.raises(Stalled, match="opening: no answer for 1 s"):
        target_over(fd, SIZE, 1.0)
    assert os.readlink(f"/proc/self/fd/{fd}") == path, "closed under a thread that still reads through it"
    disk.free()
    wait_for(lambda: not os.path.exists(f"/proc/self/fd/{fd}"))
    assert disk.truth() == OLD


def test_an_order_for_a_disk_that_is_silent_ends_as_failed(disks: FuseLab, tmp_path: Path, over: str) -> None:
    disk = disks.disk(OLD)
    path = Path(disk.path) if over == "file" else Path(disk.loop())
    bench = Bench.make(tmp_path / "agent")
    order = bench.order(path)
    disk.set(stall_after=0)
    with takes_at_most(30.0):
        receipt = bench.run(order, patience=1.0)
    (result,) = receipt.targets
    assert (result.outcome, result.passes) == (Outcome.FAILED, [])
    assert result.failure.startswith("The target stopped answering: opening: no answer for 1 s")
    assert any("first bytes could not be read" in one for one in result.medium.notes)  # type: ignore[union-attr]
    disk.free()
    assert disk.truth() == OLD


def test_a_stuck_write_ends_in_time_with_the_truth(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(stall_after=SIZE // 2, slow=0.01)
    told: list[int] = []
    error, report, moments = stalling(write_pass, target, checkpoint=told.append, checkpoint_interval=0.0)
    assert isinstance(error, Stalled)
    assert "no answer for 1 s, waiting at byte" in str(error)
    assert not report.stopped
    assert report.durable == report.bytes_written == (told[-1] if told else 0) < SIZE
    assert disk.truth()[: report.durable] == WRITTEN[: report.durable]
    assert len(moments) >= 4, "progress goes on while nothing moves"
    disk.free()


def test_a_stuck_read_ends_in_time_with_the_truth(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    assert write_pass(target, STREAM, tuning=TWO).complete
    disk.set(stall_after=SIZE // 2)
    error, report, moments = stalling(verify, target)
    assert isinstance(error, Stalled)
    assert isinstance(report, VerifyReport)
    assert 0 < report.bytes_read < SIZE
    assert not report.clean
    assert len(moments) >= 4


def test_a_stuck_flush_ends_in_time_and_nothing_counts_as_durable(disks: FuseLab, over: str) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(stall_flush=True)
    error, report, moments = stalling(write_pass, target)
    assert isinstance(error, Stalled)
    assert str(error).startswith("flush: no answer for 1 s")
    assert (report.durable, report.bytes_written, report.flushed) == (0, 0, False)
    assert len(moments) >= 4, "progress goes on while a flush blocks"


def test_a_repair_that_gets_stuck_ends_in_time(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(lost_at_flush=bad(sectors({1})), stall_after=SIZE + 4 * CHUNK)
    error, report, _ = stalling(write_pass, target)
    assert isinstance(error, Stalled)
    assert isinstance(report, WriteReport)
    assert CHUNK <= report.durable < SIZE
    assert report.durable % CHUNK == 0
    assert spans(report.problems) == [(SECTOR, 2 * SECTOR), (report.durable, SIZE)]
    assert report.bytes_written == report.durable - SECTOR


@pytest.mark.parametrize("what", [{"stall_after": SIZE // 2}, {"stall_flush": True}], ids=["write", "flush"])
def test_a_pause_shorter_than_patience_is_no_stall(disks: FuseLab, over: str, what: dict[str, Any]) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, over)
    disk.set(stall_seconds=0.8, **what)
    over_again = threading.Timer(1.0, lambda: disk.set(stall_after=None, stall_flush=None))
    over_again.start()
    report = write_pass(target, STREAM, tuning=TWO, patience=5.0)
    over_again.join()
    assert report.complete
    assert disk.truth() == WRITTEN


def test_a_slow_disk_is_no_stall(disks: FuseLab) -> None:
    """It takes longer than patience altogether, but answers all the time."""
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(slow=0.06)
    began = time.monotonic()
    report = write_pass(target, STREAM, tuning=ONE, patience=0.5)
    assert time.monotonic() - began > 1
    assert report.complete


def test_errors_are_answers(disks: FuseLab) -> None:
    """No byte moves for longer than patience, but the disk says so each time: limits decide, not the watchdog."""
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(bad_writes=bad([(CHUNK, CHUNK + 40 * SECTOR)]), slow=0.02)
    report = write_pass(target, STREAM, tuning=ONE, patience=0.5)
    assert spans(report.problems) == [(CHUNK, CHUNK + 40 * SECTOR)]


def test_a_paused_run_is_no_stall(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    pace = Pace()
    pace.pause()
    threading.Timer(1.5, pace.resume).start()
    report = write_pass(opened(disk, "file"), STREAM, tuning=TWO, patience=0.5, pace=pace)
    assert report.complete
    assert report.duration_ns > 1_400_000_000


def test_a_stop_while_stuck_ends_in_time(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(stall_after=SIZE // 2)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    error, report, _ = stalling(write_pass, target, stop=stop)
    assert isinstance(error, Stalled)
    assert report.stopped


def test_what_a_callback_raises_comes_through_although_workers_are_stuck(disks: FuseLab) -> None:
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(stall_after=SIZE // 2)

    class JournalFullError(Exception):
        pass

    def progress(now: Progress) -> None:
        raise JournalFullError

    with takes_at_most(7), pytest.raises(JournalFullError):
        write_pass(target, STREAM, tuning=TWO, patience=1.0, progress=progress)
    target.close()


def test_a_thread_that_wakes_up_late_writes_to_its_own_disk_alone(disks: FuseLab, tmp_path: Path) -> None:
    """Its descriptor's number must not have become another file's in the meantime."""
    disk = disks.disk(OLD)
    target = opened(disk, "file")
    disk.set(stall_after=SIZE // 2, short=4096)
    error, _, _ = stalling(write_pass, target)
    assert isinstance(error, Stalled)
    target.close()
    others = [tmp_path / f"other{number}" for number in range(40)]
    for path in others:
        path.write_bytes(b"precious")
    files = [path.open("r+b") for path in others]
    try:
        disk.free()
        until = time.monotonic() + 10
        while any(one.name.startswith("stripe-") for one in threading.enumerate()):
            assert time.monotonic() < until, "the threads did not end once they were let go"
            time.sleep(0.02)
    finally:
        for file in files:
            file.close()
    assert {path.read_bytes() for path in others} == {b"precious"}


def test_an_order_on_a_stuck_disk_is_sealed_as_failed(disks: FuseLab, over: str, tmp_path: Path) -> None:
    disk = disks.disk(OLD)
    path = disk.path if over == "file" else Path(disk.loop())
    bench = Bench.make(tmp_path / "state")
    order = bench.order(path)
    disk.set(stall_after=SIZE // 2)
    with takes_at_most(20):
        receipt = bench.run(order, tuning=TWO, patience=1.0)
    assert receipt.outcome is Outcome.FAILED
    assert "no answer for 1 s" in receipt.targets[0].failure
    (only,) = receipt.targets[0].passes
    assert not only.complete
    assert disk.truth()[: int(only.bytes_written)] == bytes(int(only.bytes_written))


def test_the_watchdog_by_the_clock() -> None:
    now = [0]
    watchdog = Watchdog(120.0, lambda: now[0])
    second = 1_000_000_000

    def at(seconds: float) -> None:
        now[0] = int(seconds * second)
        watchdog.look("write")

    at(1000)  # nothing was asked
    with watchdog.asking(4096):
        at(1001)
        at(1100)
        watchdog.answered()
        at(1110)
        at(1230)
        with pytest.raises(Stalled, match=r"write: no answer for 120 s, waiting at byte 4096"):
            at(1230.001)
    assert watchdog.stalled
    at(5000)
