"""Reading back: exactly the bytes that differ, where they are, and what they look like."""

from __future__ import annotations

import errno
import itertools
import os
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import KIB, aligned
from expunge_agent.engine.differences import GAP, Findings
from expunge_agent.engine.findings import Examined
from expunge_agent.engine.likeness import look
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.problems import Problem, TargetRefused, TargetShrank
from expunge_agent.engine.ranges import Range, samples
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify

STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))
SMALL = Tuning(chunk=64 * KIB, stripes=3)
SIZE = 10 * 64 * KIB + 777
sources = st.one_of(
    st.builds(PatternSource, st.binary(min_size=1, max_size=64)),
    st.just(STREAM),
    st.just(KeyedStream("aes-256-xts", bytes(range(64)))),
    st.just(KeyedStream("chacha20", bytes(range(32)))),
)


def content(source: Source, size: int, offset: int = 0) -> bytearray:
    view = aligned(size)
    source.fill(view, offset)
    return bytearray(view)


def checked(path: Path, source: Source, ranges: list[Range] | None = None) -> VerifyReport:
    target = Target(os.open(path, os.O_RDONLY), path.stat().st_size)
    try:
        return verify(target, source, ranges, tuning=SMALL)
    finally:
        target.close()


def covers(problems: list[Problem], place: int) -> bool:
    return any(problem.start <= place < problem.end for problem in problems)


@settings(max_examples=100, deadline=None)
@given(size=st.integers(1, 400_000), source=sources, data=st.data())
def test_exactly_the_flipped_bytes_are_found(
    tmp_path_factory: pytest.TempPathFactory, size: int, source: Source, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("flip") / "f"
    bytes_there = content(source, size)
    flips = data.draw(st.dictionaries(st.integers(0, size - 1), st.integers(1, 255), max_size=12))
    for place, mask in flips.items():
        bytes_there[place] ^= mask
    path.write_bytes(bytes_there)
    report = checked(path, source)
    assert report.complete
    assert (report.bytes_expected, report.bytes_read) == (size, size)
    assert report.mismatched_bytes == len(flips)
    assert report.clean == (not flips)
    listed = report.mismatches
    assert all(covers(listed, place) for place in flips)
    ends = {one.start for one in listed} | {one.end - 1 for one in listed}
    assert ends <= set(flips)
    for one, other in itertools.pairwise(listed):
        assert other.start > one.end + GAP or other.what != one.what


def test_what_is_there_instead_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f"
    there = content(STREAM, SIZE)
    there[1000:3000] = bytes(2000)
    there[100_000:100_512] = b"\xff" * 512
    there[150_000:150_100] = b"U" * 100
    there[200_000:204_096] = content(STREAM, 4096, 200_000 + 1 << 20)
    there[204_800:208_896] = content(STREAM, 4096, 204_800 + (1 << 20))
    there[300_000:310_000] = (b"record 4711: Jane Example, 1 Main Street; " * 300)[:10_000]
    there[400_000:410_000] = os.urandom(10_000)
    there[SIZE - 1] ^= 1
    path.write_bytes(there)
    report = checked(path, STREAM)
    told = {one.what for one in report.mismatches}
    assert told >= {"zeros", "0xFF", "byte 0x55 throughout", "structured data", "noise", "other data"}
    assert f"shifted stream: belongs {1 << 20:+d} bytes away" in told
    assert report.mismatched_bytes == sum(
        one != other for one, other in zip(there, content(STREAM, SIZE), strict=True)
    )


def test_a_shifted_pattern_is_told() -> None:
    assert look(b"bca" * 20, 0, PatternSource(b"abc")).what == "shifted stream: belongs +1 bytes away"


def test_a_medium_full_of_something_else_is_one_range(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    report = checked(path, STREAM)
    expected = content(STREAM, SIZE)
    assert report.mismatched_bytes == SIZE - expected.count(0)
    assert {one.what for one in report.mismatches} == {"zeros"}
    assert len(report.mismatches) == 1


def test_too_many_ranges_are_joined_and_still_cover_everything() -> None:
    findings = Findings(most=10)
    places = [n * 1000 for n in range(500)]
    for place in places:
        findings.take(Examined(1, [Problem(place, 1, "other data" if place % 3000 else "zeros")]))
    listed = findings.ranges()
    assert findings.total == 500
    assert len(listed) <= 10
    assert findings.gap > 0
    assert all(covers(listed, place) for place in places)


def test_only_the_ranges_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    there = content(STREAM, SIZE)
    there[8192] ^= 1
    there[20_480] ^= 1
    path.write_bytes(there)
    report = checked(
        path, STREAM, [Range(0, 8192), Range(16_384, 8192), Range(SIZE // 4096 * 4096, SIZE % 4096)]
    )
    assert report.bytes_expected == report.bytes_read == 16_384 + SIZE % 4096
    assert [(one.start, one.length) for one in report.mismatches] == [(20_480, 1)]


def test_samples_are_read_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "f"
    size = 50_000 * 512 + 100
    path.write_bytes(content(STREAM, size))
    plan = list(samples(size, 512, bytes(16)))
    report = checked(path, STREAM, plan)
    assert report.clean
    assert size // 10 < report.bytes_read == sum(item.length for item in plan) < size // 5


@pytest.mark.parametrize(
    "plan",
    [
        [Range(4096, 4096), Range(0, 4096)],
        [Range(0, 8192), Range(4096, 4096)],
        [Range(0, SIZE + 1)],
        [Range(0, 100)],
    ],
)
def test_ranges_that_would_spoil_the_totals_are_refused(tmp_path: Path, plan: list[Range]) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    with pytest.raises(ValueError, match=r"overlap|aligned"):
        checked(path, PatternSource(b"\0"), plan)


def test_reading_nothing_is_not_clean(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    report = checked(path, PatternSource(b"\0"), [])
    assert report.complete
    assert not report.clean


def test_a_stop_leaves_it_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    stop = threading.Event()
    stop.set()
    target = Target(os.open(path, os.O_RDONLY), SIZE)
    report = verify(target, PatternSource(b"\0"), stop=stop)
    target.close()
    assert (report.complete, report.stopped, report.clean) == (False, True, False)
    assert report.bytes_read == 0


def test_a_file_cut_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    target = Target(os.open(path, os.O_RDONLY), SIZE)
    os.truncate(path, 5000)
    with pytest.raises(TargetShrank) as caught:
        verify(target, PatternSource(b"\0"), tuning=SMALL)
    target.close()
    assert not caught.value.report.complete


def test_progress_ends_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    moments: list[Progress] = []
    target = Target(os.open(path, os.O_RDONLY), SIZE)
    report = verify(target, PatternSource(b"\0"), progress=moments.append)
    target.close()
    assert moments[-1].done == moments[-1].total == SIZE
    assert report.reads_medium
    assert report.io_mode.startswith(("direct", "buffered, cache dropped", "memory"))


class Every:
    """The first sector of every page, made anew each time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.times = 0

    def __iter__(self) -> Iterator[Range]:
        self.times += 1
        return (Range(start, 512) for start in range(0, self.size, 4096))


def test_very_many_ranges_are_gone_through_one_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "f"
    size = 30_000 * 4096
    with path.open("wb") as file:
        file.truncate(size)
    target = Target(os.open(path, os.O_RDONLY), size)
    plan = Every(size)
    tracemalloc.start()
    try:
        report = verify(target, PatternSource(b"\0"), plan, tuning=SMALL)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        target.close()
    assert report.clean
    assert report.bytes_expected == report.bytes_read == 30_000 * 512
    assert plan.times == 2
    assert peak < 1_500_000, "thirty thousand ranges kept would be 3 MB and more"


def test_ranges_that_can_be_gone_through_once_only_are_all_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE))
    target = Target(os.open(path, os.O_RDONLY), SIZE)
    report = verify(target, PatternSource(b"\0"), iter([Range(0, 4096), Range(8192, 4096)]), tuning=SMALL)
    target.close()
    assert report.clean
    assert report.bytes_read == 8192


class UnflushableTarget(Target):
    """A buffered file whose every flush fails with `number`."""

    number = errno.EIO

    def _open_direct(self, block: int | None) -> tuple[int, int]:
        return -1, self.block

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_a_flush_that_fails_again_and_again_does_not_escape(tmp_path: Path) -> None:
    """What was lost shows when it is read; that no cache answered is asserted, not believed."""
    path = tmp_path / "f"
    path.write_bytes(bytes(SIZE - 1) + b"x")
    os.sync()
    target = UnflushableTarget(os.open(path, os.O_RDWR), SIZE)
    report = verify(target, PatternSource(b"\0"), tuning=SMALL)
    assert report.complete
    assert report.mismatched_bytes == 1
    assert report.reads_medium == ("stayed" not in report.io_mode and "not checked" not in report.io_mode)
    target.number = errno.EROFS
    with pytest.raises(TargetRefused, match="flush: EROFS"):
        verify(target, PatternSource(b"\0"), tuning=SMALL)
    target.close()
