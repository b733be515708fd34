"""Read back and compare with what should be there: exact counts, never from the page cache."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from expunge_agent.engine.buffers import aligned
from expunge_agent.engine.differences import Comparison
from expunge_agent.engine.faults import Ledger
from expunge_agent.engine.findings import Findings
from expunge_agent.engine.meter import Meter, Progress
from expunge_agent.engine.pace import FREE, Pace
from expunge_agent.engine.problems import EngineError, Limits, Problem, fatal, is_medium_error
from expunge_agent.engine.ranges import Range, pieces, whole
from expunge_agent.engine.sources import Source
from expunge_agent.engine.stripes import Stripes, Work
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.watchdog import PATIENCE, TICK, Watchdog


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was read back; bytes and nanoseconds.

    ``mismatched_bytes`` is exact; ``mismatches`` are the ranges that hold them (up to 63 equal bytes
    between two differences are inside a range; more where ``mismatch_gap`` > 0, as there were too many
    to list one by one). ``complete``: every byte asked for was read or found unreadable.
    ``unreadable``: the ranges of ``unreadable_bytes``, at least the first `listing.MOST`.
    ``reads_medium``: nothing can have come from the page cache; ``io_mode`` says how. ``looks`` says in
    words what the mismatches look like, a named lie of the medium first ("wrapped capacity of …").
    """

    bytes_expected: int
    bytes_read: int
    mismatched_bytes: int
    mismatches: list[Problem]
    mismatch_gap: int
    unreadable_bytes: int
    unreadable: list[Problem]
    complete: bool
    stopped: bool
    duration_ns: int
    io_mode: str
    reads_medium: bool
    rate: int
    slowest: int
    fastest: int
    looks: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether everything asked for, and that was something, was read and is as expected."""
        return (
            self.complete
            and 0 < self.bytes_expected == self.bytes_read
            and not self.mismatched_bytes
            and not self.unreadable_bytes
        )


def verify(
    target: Target,
    source: Source,
    ranges: Iterable[Range] | None = None,
    *,
    tuning: Tuning | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
    limits: Limits | None = None,
    pace: Pace | None = None,
    earlier: Sequence[Source] = (),
    patience: float = PATIENCE,
    clock: Callable[[], int] = time.monotonic_ns,
) -> VerifyReport:
    """Compare `target` with `source` in `ranges` (ascending, apart, aligned to the block; None: whole).

    `ranges` are gone through twice, one at a time: first to check and count them, then to read. An iterator,
    which can be gone through once only, is kept in memory; for very many give an object that can be
    iterated again (`confidence.Drawn`).

    `progress` comes at most five times a second, in the caller's thread; what it raises ends the
    verification and comes through. `earlier`: what passes before this one wrote, newest first, so that
    old data is recognised. A target that answers nothing for `patience` seconds ends it as it ends
    `write_pass`. Raises an EngineError whose ``report`` is the VerifyReport until then (TargetGone,
    TargetShrank, TargetRefused, GiveUp, Stalled), and ValueError for ranges that overlap, descend or
    leave the target.
    """
    plan = whole(target.size) if ranges is None else list(ranges) if isinstance(ranges, Iterator) else ranges
    run = _Verification(
        target,
        source,
        plan,
        _bytes_of(plan, target),
        tuning=tuning or Tuning.default(),
        stop=stop or threading.Event(),
        limits=limits or Limits(),
        pace=pace or FREE,
        earlier=earlier,
        watchdog=(watchdog := Watchdog(patience, clock)),
        clock=clock,
    )
    try:
        run.run(progress)
    except EngineError as error:
        error.report = run.report()
        raise
    finally:
        run.release()
        if watchdog.stalled:
            target.abandon()
    return run.report()


def _bytes_of(plan: Iterable[Range], target: Target) -> int:
    """How many bytes `plan` asks for. Raises ValueError where it would spoil the totals."""
    end = total = 0
    for item in plan:
        if item.start < end or item.length <= 0 or item.end > target.size:
            raise ValueError(f"bytes {item.start} to {item.end} overlap, descend or leave the target")
        if item.start % target.block or (item.end % target.block and item.end != target.size):
            raise ValueError(f"bytes {item.start} to {item.end} are not aligned to {target.block}")
        end = item.end
        total += item.length
    return total


class _Verification:
    """The state of one run."""

    def __init__(
        self,
        target: Target,
        source: Source,
        plan: Iterable[Range],
        expected: int,
        *,
        tuning: Tuning,
        stop: threading.Event,
        limits: Limits,
        pace: Pace,
        earlier: Sequence[Source],
        watchdog: Watchdog,
        clock: Callable[[], int],
    ) -> None:
        self._target = target
        self._source = source
        self._tuning = tuning
        self._stop = stop
        self._earlier = earlier
        self._watchdog = watchdog
        self._clock = clock
        self._began = clock()
        self._expected = expected
        self._read = 0
        self._lock = threading.Lock()
        self._findings = Findings()
        self._ledger = Ledger(target, limits, clock, watchdog.answered)
        self._meter = Meter(self._expected, self._began)
        workers = [self._worker() for _ in range(tuning.stripes)]
        self._stripes = Stripes(
            pieces(plan, tuning.chunk, self._ledger.reach),
            workers,
            self._stop,
            pace.wait,
        )

    def run(self, progress: Callable[[Progress], None] | None) -> None:
        """Read to the end, or until stopped or failed."""

        def show() -> None:
            self._show(progress)

        def follow() -> None:
            while not self._stripes.wait(TICK):
                show()
                self._watchdog.look("read")

        self._watchdog.watched(self._leave_cache, "flush", show)
        self._stripes.start()
        self._watchdog.follow(self._stripes, follow)
        if self._stripes.failure is not None:
            raise self._stripes.failure
        self._watchdog.watched(self._target.check, "size", show)
        show()

    def release(self) -> None:
        """Free the buffers now, not when the collector of cycles comes by."""
        self._stripes.release()

    def report(self) -> VerifyReport:
        """What is known now."""
        _, lost = self._ledger.listing.figures()
        complete = self._read + lost == self._expected
        mismatches, looks = self._findings.named(self._target.size, self._read)
        return VerifyReport(
            bytes_expected=self._expected,
            bytes_read=self._read,
            mismatched_bytes=self._findings.total,
            mismatches=mismatches,
            mismatch_gap=self._findings.gap,
            unreadable_bytes=lost,
            unreadable=self._ledger.listing.ranges(),
            complete=complete,
            stopped=self._stop.is_set() and not complete,
            duration_ns=self._clock() - self._began,
            io_mode=self._target.io_mode,
            reads_medium=self._target.reads_medium,
            rate=int(self._meter.average),
            slowest=self._meter.slowest,
            fastest=self._meter.fastest,
            looks=looks,
        )

    def _leave_cache(self) -> None:
        """See to it that reads come from the medium, where direct reads do not see to it anyway."""
        if self._target.direct or self._target.memory:
            return
        try:
            try:
                self._target.drop_cache()
            except OSError as error:
                if not is_medium_error(error):
                    raise
                # Bytes were lost on their way, and reading will show where. Another flush may fail for
                # ever; what cannot be dropped without it is counted and told (`reads_medium`).
                self._target.forget_cache()
        except OSError as error:
            raise fatal(error, "flush") from error

    def _worker(self) -> Work:
        """One stripe: its own clone of the source, its own buffer."""
        target, comparison = self._target, Comparison(self._source, self._findings, self._earlier)
        buffer: list[memoryview] = []

        def compare(start: int, end: int) -> None:
            if not buffer:
                buffer.append(aligned(self._tuning.chunk))
            view = buffer[0][: end - start]
            target.read_into(view, start)
            comparison.check(view, start)
            with self._lock:
                self._read += end - start

        def work(start: int, end: int) -> None:
            with self._watchdog.asking(start):
                self._ledger.do(
                    start,
                    end,
                    self._tuning.chunk,
                    compare,
                    doing="read",
                    stopping=lambda: self._stripes.stopping,
                )

        return work

    def _show(self, progress: Callable[[Progress], None] | None) -> None:
        self._ledger.listing.settle(self._stripes.low(0))  # nothing below is forgotten again
        self._meter.update(self._read, self._clock())
        if progress is not None:
            progress(self._meter.progress(len(self._findings) + len(self._ledger.listing)))
