"""One overwrite pass: stripes over a source, durable checkpoints, errors pinned to ranges."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from expunge_agent.engine.buffers import MIB, aligned
from expunge_agent.engine.faults import Ledger
from expunge_agent.engine.meter import SECOND, Meter, Progress
from expunge_agent.engine.pace import FREE, Pace
from expunge_agent.engine.problems import (
    EngineError,
    Limits,
    Problem,
    Stalled,
    TargetGone,
    TargetShrank,
    describe,
    fatal,
    is_medium_error,
)
from expunge_agent.engine.ranges import pieces, rest
from expunge_agent.engine.sources import Source
from expunge_agent.engine.stripes import Stopped, Stripes, Work
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.watchdog import PATIENCE, TICK, Watchdog

UNFLUSHED_DIRECT = 4096 * MIB  # flush at the latest after so much, so that a failing flush is pinned soon
UNFLUSHED_BUFFERED = 256 * MIB
CRAWL = MIB  # bytes per second at which even a poor medium empties a cache


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What one run of a pass did; bytes and nanoseconds.

    ``durable``: everything below was written and flushed, except ``problems``. ``bytes_written``: the
    part of it from this run, problems not counted, so it never claims more than is on the medium.
    ``complete``: the pass went to the end and all was flushed (problems may remain). ``problems`` are
    merged ranges, at least the first `listing.MOST`; ``error_count`` and ``error_bytes`` count all. Rates
    are bytes per second.
    """

    start: int
    bytes_written: int
    durable: int
    complete: bool
    flushed: bool
    stopped: bool
    duration_ns: int
    io_mode: str
    problems: list[Problem]
    error_count: int
    error_bytes: int
    rate: int
    slowest: int
    fastest: int


def write_pass(
    target: Target,
    source: Source,
    *,
    start: int = 0,
    end: int | None = None,
    tuning: Tuning | None = None,
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    checkpoint_interval: float = 5.0,
    record: Callable[[Problem], None] | None = None,
    limits: Limits | None = None,
    pace: Pace | None = None,
    patience: float = PATIENCE,
    clock: Callable[[], int] = time.monotonic_ns,
) -> WriteReport:
    """Write `source` over `target` from `start` (a durable offset of an earlier run) to `end`, or to its end.

    `checkpoint(offset)` is called with growing offsets below which every byte was written *and*
    flushed, about every `checkpoint_interval` seconds and at the end; whatever bad range lies below
    went to `record` just before. `progress` comes at most five times a second. All three run in the
    caller's thread; what they raise ends the pass and comes through. `stop` ends it after the pieces
    at work, with a truthful report. A target that answers nothing for `patience` seconds ends it too;
    threads stuck in the kernel, and the target's descriptors, are then left to the end of the process.

    Raises an EngineError whose ``report`` is the WriteReport until then: TargetGone, TargetShrank,
    NoSpaceOnTarget, TargetRefused, GiveUp, Stalled. Raises ValueError for a `start` or `end` outside the
    target, or an `end` that is no multiple of its block.
    """
    last = target.size if end is None else end
    if not 0 <= start <= last <= target.size or (last % target.block and last != target.size):
        raise ValueError(f"cannot start at {start} and end at {last} of {target.size} bytes")
    run = _Pass(
        target,
        source,
        start=start,
        end=last,
        tuning=tuning or Tuning.default(),
        progress=progress,
        checkpoint=checkpoint,
        stop=stop or threading.Event(),
        interval=int(checkpoint_interval * SECOND),
        record=record,
        limits=limits or Limits(),
        pace=pace or FREE,
        watchdog=(watchdog := Watchdog(patience, clock)),
        clock=clock,
    )
    try:
        run.run()
    except EngineError as error:
        error.report = run.report()
        raise
    finally:
        run.release()
        if watchdog.stalled:
            target.abandon()
    return run.report()


class _Pass:
    """The state of one run."""

    def __init__(
        self,
        target: Target,
        source: Source,
        *,
        start: int,
        end: int,
        tuning: Tuning,
        progress: Callable[[Progress], None] | None,
        checkpoint: Callable[[int], None] | None,
        stop: threading.Event,
        interval: int,
        record: Callable[[Problem], None] | None,
        limits: Limits,
        pace: Pace,
        watchdog: Watchdog,
        clock: Callable[[], int],
    ) -> None:
        self._target = target
        self._source = source
        self._start = start
        self._end = end
        self._tuning = tuning
        self._progress = progress
        self._checkpoint = checkpoint
        self._stop = stop
        self._interval = interval
        self._record = record
        self._watchdog = watchdog
        self._clock = clock
        self._began = self._flushed_at = clock()
        self._meter = Meter(target.size, self._began, done=start)
        self._ledger = Ledger(target, limits, clock, watchdog.answered)
        # A start inside a block is taken back to its border: the same bytes are written there again.
        self._base = start - start % target.block if start < end else start
        self._durable = start
        self._told = start
        self._finished = False
        self._flush_error: OSError | None = None
        plan = pieces(rest(end, self._base), tuning.chunk, self._ledger.reach)
        self._stripes = Stripes(
            plan,
            [self._worker() for _ in range(tuning.stripes)],
            stop,
            pace.wait,
        )

    def run(self) -> None:
        """Write to the end, or until stopped or failed."""
        stripes = self._stripes
        while not (stripes.exhausted or self._stop.is_set()):
            stripes.start()
            self._watchdog.follow(stripes, self._follow)
            if stripes.failure is not None:
                self._rescue(stripes.failure)
                raise stripes.failure
            if not self._secure():
                return
        self._finished = self._durable == self._end
        self._show()

    def release(self) -> None:
        """Free the buffers now, not when the collector of cycles comes by."""
        self._stripes.release()

    def report(self) -> WriteReport:
        """What is known now."""
        listing = self._ledger.listing
        lost = listing.lost(self._start, self._durable)
        error_count, error_bytes = listing.figures()
        return WriteReport(
            start=self._start,
            bytes_written=max(0, self._durable - self._start - lost),
            durable=self._durable,
            complete=self._finished,
            flushed=self._durable >= self._low(),
            stopped=self._stop.is_set() and not self._finished,
            duration_ns=self._clock() - self._began,
            io_mode=self._target.io_mode,
            problems=listing.ranges(),
            error_count=error_count,
            error_bytes=error_bytes,
            rate=int(self._meter.average),
            slowest=self._meter.slowest,
            fastest=self._meter.fastest,
        )

    def _worker(self) -> Work:
        """One stripe: its own clone of the source, its own buffer."""
        target, source = self._target, self._source.for_worker()
        buffer: list[memoryview] = []  # made at first need: patterns need none

        def write(start: int, end: int) -> None:
            view = source.ready(start, end - start)
            if view is None:
                if not buffer:
                    buffer.append(aligned(self._tuning.chunk))
                view = buffer[0][: end - start]
                source.fill(view, start)
            target.write(view, start)

        def work(start: int, end: int) -> None:
            with self._watchdog.asking(start):
                self._ledger.do(
                    start,
                    end,
                    self._tuning.chunk,
                    write,
                    doing="write",
                    stopping=lambda: self._stripes.stopping,
                )

        return work

    def _low(self) -> int:
        """Below this every byte was given to the system."""
        return max(self._start, self._stripes.low(self._base))

    def _follow(self) -> None:
        """Watch the workers; flush and checkpoint now and then. Returns when none is at work, or a flush failed."""
        most = UNFLUSHED_DIRECT if self._target.direct else UNFLUSHED_BUFFERED
        while not self._stripes.wait(TICK):
            self._show()
            self._watchdog.look("write")
            due = self._clock() - self._flushed_at >= self._interval or self._low() - self._durable >= most
            if due and not self._try_flush():
                return  # halted by the caller, and repaired there

    def _try_flush(self) -> bool:
        """Flush what is finished so far; whether that worked. The workers may go on meanwhile."""
        low = self._low()  # what is finished before the flush begins is what the flush covers
        self._flushed_at = self._clock()
        crawling = 0.0 if self._target.direct else (low - self._durable) / CRAWL
        try:
            self._watchdog.watched(self._target.flush, "flush", self._show, grace=crawling)
        except OSError as error:
            self._flush_error = error
            return False
        self._settle(low)
        return True

    def _secure(self) -> bool:
        """Make everything written durable, workers at rest. False if a stop cut that short."""
        if self._flush_error is None:
            self._try_flush()
        if self._flush_error is not None:
            try:
                self._repair(self._flush_error)
            except Stopped:
                return False
            self._flush_error = None
        self._watchdog.watched(self._target.check, "size", self._show)
        return True

    def _rescue(self, failure: BaseException) -> None:
        """After a failure: keep what can still be made durable, unless a flush failed before."""
        if (
            isinstance(failure, TargetGone | Stalled)
            or not isinstance(failure, EngineError)
            or self._flush_error
        ):
            return
        if isinstance(failure, TargetShrank):
            self._durable = min(self._durable, self._target.current_size())
            return
        with suppress(Stalled):  # the failure says more
            self._try_flush()

    def _settle(self, durable: int) -> None:
        """Everything below `durable` is on the medium: tell of bad ranges there, then of the offset."""
        self._durable = durable
        if durable <= self._told:
            return
        for problem in self._ledger.listing.settle(durable):
            if self._record is not None:
                self._record(problem)
        self._told = durable
        if self._checkpoint is not None:
            self._checkpoint(durable)

    def _repair(self, error: OSError) -> None:
        """A flush failed, so any byte since the last good one may be lost: write them again in pieces.

        Each piece is flushed by itself, so that the error is pinned to the blocks it belongs to. A
        second flush alone would prove nothing: the kernel marks failed pages clean and reports once.
        If the repair has to end early, the whole range that is left is listed.
        """
        low, source = self._low(), self._source.for_worker()
        self._watchdog.watched(self._target.check, "size", self._show)
        if not is_medium_error(error):
            raise fatal(error, "flush") from error
        self._ledger.listing.forget(self._durable, low)
        buffer = aligned(self._tuning.chunk)
        first = reached = self._durable - self._durable % self._target.block
        halt = threading.Event()

        def stopping() -> bool:
            return halt.is_set() or self._stop.is_set()

        def attempt(first: int, last: int) -> None:
            view = buffer[: last - first]
            source.fill(view, first)
            self._target.write(view, first)
            self._target.flush()

        def mend() -> None:
            nonlocal reached
            chunk = self._tuning.chunk
            for start, end in pieces(rest(low, first), chunk, self._ledger.reach):
                if stopping():
                    raise Stopped
                self._ledger.do(start, end, chunk, attempt, doing="flush", stopping=stopping)
                reached = end
                self._watchdog.answered()

        def settle() -> None:
            try:
                self._show()
                self._settle(max(reached, self._durable))
            except BaseException:
                halt.set()
                raise

        try:
            self._watchdog.watched(mend, "flush", settle)
        except (Stopped, EngineError) as end:
            halt.set()
            self._settle(max(reached, self._durable))
            if isinstance(end, EngineError):
                self._ledger.listing.forget(self._durable, low)
                self._ledger.listing.add(
                    Problem(self._durable, low - self._durable, f"flush: {describe(error)}")
                )
            raise
        self._settle(low)

    def _show(self) -> None:
        self._meter.update(self._low(), self._clock())
        if self._progress is not None:
            self._progress(self._meter.progress(len(self._ledger.listing)))
