"""A dead region of a medium ends nothing: what lies behind is written and read, what was stepped over is listed.

`Regions` is a medium in memory whose dead ranges fail as a drive's do; everything else is the engine's own path.
"""

from __future__ import annotations

import errno
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.buffers import KIB, MIB, aligned
from expunge_agent.engine.faults import Ledger
from expunge_agent.engine.listing import Listing
from expunge_agent.engine.problems import Limits, Problem
from expunge_agent.engine.ranges import Range
from expunge_agent.engine.sources import KeyedStream, PatternSource
from expunge_agent.engine.survey import survey
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import WriteReport, write_pass

BLOCK = 512
CHUNK = 64 * KIB
STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))
FEW = Limits(bad_blocks=20, step=16 * CHUNK)
OLD = 0xA5

Spans = list[tuple[int, int]]


class Regions(Target):
    """Bytes in memory; whatever touches a dead [start, end) fails. Counts what was asked in vain."""

    def __init__(self, size: int, dead: Spans, *, readable: bool = True) -> None:
        self.size, self.block = size, BLOCK
        self.writable, self.memory = True, True
        self.data = bytearray([OLD]) * size
        self.dead = dead
        self.readable = readable
        self.failed = 0
        self._counting = threading.Lock()
        self._fd = self._direct = -1

    def _meet(self, start: int, end: int) -> None:
        if any(first < end and start < last for first, last in self.dead):
            with self._counting:
                self.failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def write(self, view: memoryview, offset: int) -> None:
        self._meet(offset, offset + len(view))
        self.data[offset : offset + len(view)] = view

    def read_into(self, view: memoryview, offset: int) -> None:
        if not self.readable:
            self._meet(offset, offset + len(view))
        view[:] = memoryview(self.data)[offset : offset + len(view)]

    def flush(self) -> None:
        """Memory needs none."""

    def check(self) -> None:
        """It is always there."""


def spans(problems: list[Problem]) -> Spans:
    """(start, end) of the ranges, those that touch made one."""
    out: Spans = []
    for one in sorted(problems, key=lambda item: item.start):
        assert not out or out[-1][1] <= one.start, "ranges overlap"
        if out and out[-1][1] == one.start:
            out[-1] = (out[-1][0], one.end)
        else:
            out.append((one.start, one.end))
    return out


def check_listed(listed: Spans, dead: Spans, start: int, size: int) -> None:
    """`listed` covers all that is dead from `start` on, and begins and ends with a piece that is not sound."""
    for begin, end in dead:
        first, last = max(begin // BLOCK * BLOCK, start), min(-(-end // BLOCK) * BLOCK, size)
        assert first >= last or any(one <= first and last <= other for one, other in listed)
    for first, last in listed:
        for begin, end in ((first, min(last, first + CHUNK)), (max(first, last - CHUNK), last)):
            assert any(one < end and begin < other for one, other in dead), "a sound end was given up"


def check_written(target: Regions, listed: Spans, start: int) -> None:
    expected = aligned(target.size)
    STREAM.fill(expected, 0)
    at = start
    for first, last in [*listed, (target.size, target.size)]:
        assert target.data[at:first] == expected[at:first], "what is not listed was not written"
        at = last


def test_four_dead_mebibytes_of_sixty_four_cost_four_mebibytes() -> None:
    target = Regions(64 * MIB, [(4 * MIB, 8 * MIB)])
    told: list[Problem] = []
    report = write_pass(target, STREAM, record=told.append)
    assert report.complete
    assert spans(report.problems) == spans(told) == [(4 * MIB, 8 * MIB)]
    assert (report.error_bytes, report.bytes_written) == (4 * MIB, 60 * MIB)
    check_written(target, [(4 * MIB, 8 * MIB)], 0)
    back = verify(target, STREAM)
    assert back.complete
    assert spans(back.mismatches) == [(4 * MIB, 8 * MIB)]


@pytest.mark.parametrize("piece", [BLOCK, 3 * BLOCK, CHUNK, 32 * CHUNK])
def test_what_is_stepped_over_grows_to_the_limit_in_bytes_whatever_the_pieces(piece: int) -> None:
    def dead(_start: int, _end: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    ledger = Ledger(Regions(CHUNK, []), Limits(bad_blocks=0, step=16 * CHUNK), lambda: 0)
    steps = [ledger.reach(CHUNK)]
    while len(steps) < 20:
        ledger.do(0, 2 * CHUNK, CHUNK, dead, doing="write", stopping=lambda: False)
        steps.append(ledger.reach(CHUNK))
    assert steps[:6] == [CHUNK * factor for factor in (1, 2, 4, 8, 16, 16)]
    assert ledger.reach(piece) == max(piece, 16 * CHUNK // piece * piece)


def test_a_large_dead_region_costs_few_attempts() -> None:
    size, dead = 2048 * CHUNK, [(100 * CHUNK, 1900 * CHUNK + 3 * BLOCK)]
    target = Regions(size, dead)
    report = write_pass(target, STREAM, tuning=Tuning(chunk=CHUNK, stripes=2), limits=FEW)
    assert spans(report.problems) == [(100 * CHUNK, 1901 * CHUNK)]
    assert report.bytes_written == size - 1801 * CHUNK
    check_written(target, spans(report.problems), 0)
    # Fine work on a chunk or two; then, of each 16 chunks, the first and the last.
    assert target.failed < 2 * 1800 / 16 + 150


def test_behind_a_dead_region_the_steps_are_small_again() -> None:
    islands = [(at * CHUNK, (at + 1) * CHUNK) for at in (160, 162, 164)]
    dead = [(10 * CHUNK, 120 * CHUNK), *islands]
    target = Regions(200 * CHUNK, dead)
    report = write_pass(target, STREAM, tuning=Tuning(chunk=CHUNK, stripes=1), limits=FEW)
    assert spans(report.problems) == dead
    check_written(target, dead, 0)


def test_reads_step_over_too() -> None:
    dead = [(100 * CHUNK, 900 * CHUNK)]
    target = Regions(1024 * CHUNK, dead, readable=False)
    target.data[:] = bytes(target.size)
    tuning = Tuning(chunk=CHUNK, stripes=2)
    back = verify(target, PatternSource(b"\0"), tuning=tuning, limits=FEW)
    assert back.complete
    assert (spans(back.unreadable), back.unreadable_bytes) == (dead, 800 * CHUNK)
    assert back.bytes_read == target.size - 800 * CHUNK
    assert target.failed < 2 * 800 / 16 + 150
    target.failed = 0
    seen = survey(target, [Range(0, target.size)], limits=Limits(bad_blocks=40))
    (found,) = spans(seen.unreadable)
    assert found[0] == dead[0][0]
    assert dead[0][1] <= found[1] < dead[0][1] + MIB
    assert seen.read + seen.unreadable_bytes == seen.expected == target.size
    assert seen.zeros == seen.read
    assert target.failed < 250


@settings(max_examples=60, deadline=None)
@given(
    dead=st.lists(
        st.tuples(st.integers(0, 119 * CHUNK), st.one_of(st.integers(1, 3000), st.integers(1, 60 * CHUNK))),
        min_size=1,
        max_size=6,
    ),
    odd=st.integers(0, BLOCK - 1),
    start=st.one_of(st.just(0), st.integers(0, 120 * CHUNK)),
    stripes=st.integers(1, 4),
)
def test_whatever_is_dead_the_living_rest_is_written(dead: Spans, odd: int, start: int, stripes: int) -> None:
    size = 120 * CHUNK + odd
    gone = [(first, min(size, first + length)) for first, length in dead]
    target = Regions(size, gone)
    told: list[Problem] = []
    base = start // BLOCK * BLOCK
    report = write_pass(
        target,
        STREAM,
        start=start,
        tuning=Tuning(chunk=CHUNK, stripes=stripes),
        limits=FEW,
        record=told.append,
        checkpoint_interval=0.0,
    )
    assert report.complete
    listed = spans(told)
    assert spans(report.problems) == listed
    check_listed(listed, gone, base, size)
    check_written(target, listed, start)
    assert report.error_bytes == sum(last - first for first, last in listed)
    assert report.bytes_written == size - start - sum(last - max(first, start) for first, last in listed)


@settings(max_examples=40, deadline=None)
@given(
    dead=st.lists(st.tuples(st.integers(0, 119 * CHUNK), st.integers(1, 50 * CHUNK)), min_size=1, max_size=4),
    deaths=st.lists(st.integers(0, 120 * CHUNK), min_size=1, max_size=4),
    stripes=st.integers(1, 3),
)
def test_runs_that_die_at_work_neither_lose_ranges_nor_invent_any(
    dead: Spans, deaths: list[int], stripes: int
) -> None:
    """Each run dies at its first attempt behind an offset; what is kept is what was told before the last checkpoint."""
    size = 120 * CHUNK + 77
    gone = [(first, min(size, first + length)) for first, length in dead]
    target = Regions(size, gone)
    kept: list[Problem] = []
    durable = 0
    for death in [*sorted(deaths), size]:
        durable, more, done = one_life(target, durable, death, stripes)
        kept += more
    assert done
    listed = spans(kept)
    check_listed(listed, gone, 0, size)
    check_written(target, listed, 0)


class Died(BaseException):
    """Stands for kill -9."""


def one_life(
    target: Regions, start: int, death: int, stripes: int
) -> tuple[int, list[Problem], WriteReport | None]:
    durable, told, kept = start, [], []

    def checkpoint(offset: int) -> None:
        nonlocal durable
        durable = offset
        kept.extend(told)
        told.clear()

    def meet(first: int, last: int) -> None:
        if death < first:
            raise Died
        Regions._meet(target, first, last)

    target._meet = meet  # type: ignore[method-assign]
    try:
        report = write_pass(
            target,
            STREAM,
            start=start,
            tuning=Tuning(chunk=CHUNK, stripes=stripes),
            limits=FEW,
            record=told.append,
            checkpoint=checkpoint,
            checkpoint_interval=0.0,
        )
    except Died:
        return durable, kept, None
    return durable, kept, report


def test_very_many_ranges_are_counted_and_the_first_are_kept() -> None:
    count, apart = 3000, 4 * KIB
    target = Regions(count * apart, [])

    def meet(first: int, last: int) -> None:
        if -(-first // apart) * apart < last:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    target._meet = meet  # type: ignore[method-assign]
    target.readable = False
    tuning = Tuning(chunk=CHUNK, stripes=2)
    report = write_pass(target, STREAM, tuning=tuning, limits=Limits(retries=0, bad_blocks=5000))
    assert report.complete
    assert (report.error_count, report.error_bytes) == (count, count * BLOCK)
    assert report.bytes_written == target.size - count * BLOCK
    assert report.problems == [
        Problem(at * apart, BLOCK, report.problems[0].what) for at in range(len(report.problems))
    ]
    back = verify(target, STREAM, tuning=tuning, limits=Limits(retries=0, bad_blocks=5000))
    assert (back.complete, back.mismatched_bytes) == (True, 0)
    assert (back.bytes_read, back.unreadable_bytes) == (report.bytes_written, report.error_bytes)
    for listed in (report.problems, back.unreadable):
        assert len(listed) == 1024


def test_a_listing_is_bounded_and_exact_in_bytes() -> None:
    listing = Listing(most=3)
    for at in range(0, 100, 10):
        listing.add(Problem(at, 2, "x"))
        listing.add(Problem(at + 2, 2, "x"))
        assert listing.settle(at + 10) == [Problem(at, 4, "x")]
    listing.add(Problem(200, 5, "y"))
    assert listing.ranges() == [*(Problem(at, 4, "x") for at in (0, 10, 20)), Problem(200, 5, "y")]
    assert listing.figures() == (11, 45)
    assert len(listing) == 11
    listing.forget(0, 1000)
    assert listing.figures() == (10, 40), "what is settled stays"
    assert listing.settle(1000) == []


@pytest.mark.parametrize(("start", "end", "lost"), [(0, 100, 10), (2, 100, 8), (2, 23, 5), (4, 20, 0)])
def test_what_was_lost_of_a_range_is_counted_by_place(start: int, end: int, lost: int) -> None:
    listing = Listing()
    listing.add(Problem(0, 4, "x"))
    listing.settle(10)
    listing.add(Problem(20, 6, "x"))
    assert listing.lost(start, end) == lost
