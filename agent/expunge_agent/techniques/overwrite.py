"""Overwrite: write each pass over the whole target, read back what the profile asks for.

Knows nothing of orders, journals or receipts: it reports each step to a `Recorder` before and
after it is taken, and goes on from the progress it is given.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Protocol

import msgspec

from expunge_agent.core.plan import PassPlan, TargetPlan, VerificationPlan, describe_pass
from expunge_agent.core.progress import Checkpoint, PassProgress, TargetProgress
from expunge_agent.engine import calibration
from expunge_agent.engine.confidence import drawn
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.problems import EngineError, Problem
from expunge_agent.engine.ranges import Range, samples, spots
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.engine.writer import WriteReport, write_pass
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import (
    MAX_LISTED_RANGES,
    ByteRange,
    Conduct,
    PassResult,
    RangeProblem,
    Stream,
    Verification,
)

MILLISECOND = 1_000_000  # nanoseconds


class SpotCheckFailed(EngineError):  # noqa: N818 - named like the engine's other ends
    """What was written and flushed is not there; `found` says where."""

    def __init__(self, message: str, found: list[Problem]) -> None:
        super().__init__(message)
        self.found = [replace(one, what=f"spot check: {one.what}") for one in found]


class Recorder(Protocol):
    """Where the steps are written down, each before it is taken, and shown."""

    def pass_started(self, index: int) -> None:
        """Pass `index` is about to write its first byte."""

    def pass_resumed(self, index: int, durable: int) -> None:
        """Pass `index` is about to go on at byte `durable`."""

    def checkpoint(self, index: int, checkpoint: Checkpoint) -> None:
        """Everything the checkpoint says is durable on the target."""

    def pass_finished(self, index: int, result: PassResult) -> None:
        """Pass `index` came to its end."""

    def verify_started(self, of_pass: int) -> None:
        """Reading back begins."""

    def verify_finished(self, result: Verification) -> None:
        """Reading back came to its end, or (not `complete`) was broken off."""

    def progress(self, step: int, title: str, progress: Progress) -> None:
        """For the eyes only."""


@dataclass(frozen=True)
class Work:
    """What an overwrite works with. `recheck` raises when the target is not the one opened any more;
    with `calibrate` chunk and stripes are chosen by trying."""

    target: Target
    plan: TargetPlan
    so_far: TargetProgress
    recorder: Recorder
    recheck: Callable[[], None]
    now: Callable[[], datetime]
    tuning: Tuning
    checkpoint_seconds: float
    stop: threading.Event
    pace: Pace
    patience: float
    calibrate: bool = False
    celsius: Callable[[], int | None] = lambda: None

    @cached_property
    def sources(self) -> list[Source]:
        """What each pass writes, to recognise it by. To write a pass take a source of its own, whose
        memory goes with it."""
        return [source_of(step) for step in self.plan.passes]

    def earlier(self, index: int) -> list[Source]:
        """What the passes before `index` wrote, newest first: so that a write that was dropped is known for one."""
        return self.sources[:index][::-1]


def overwrite(work: Work) -> None:
    """Take every step that is still missing; returns early when `work.stop` is set.

    Raises what `recheck` raises, and the engine's `TargetGone` and its kin.
    """
    plan, so_far = work.plan, work.so_far
    step = 0
    for index in range(len(plan.passes)):
        done = so_far.passes.get(index)
        if done is None or done.result is None:
            _take_pass(work, index, step)
        step += 1
        if index in plan.verify_after:
            check = so_far.verifications.get(index)
            if (check is None or not check.complete) and not work.stop.is_set():
                _take_verification(work, index, step)
            step += 1
        if work.stop.is_set():
            return


def source_of(step: PassPlan) -> Source:
    """The bytes a pass writes."""
    if step.cipher:
        return KeyedStream(step.cipher, bytes.fromhex(step.key))
    return PatternSource(bytes.fromhex(step.fixed))


def pass_result(
    plan: TargetPlan,
    index: int,
    taken: PassProgress,
    tuning: Tuning,
    *,
    finished_at: str = "",
    report: WriteReport | None = None,
) -> PassResult:
    """A pass as the receipt shows it, from its last checkpoint; complete only with a complete `report`.

    What stood open when it was broken off is among its errors.
    """
    step, last = plan.passes[index], taken.checkpoint
    complete = report is not None and report.complete
    return PassResult(
        index=index,
        pattern=describe_pass(step),
        fixed=step.fixed,
        stream=_stream(plan, index),
        bytes_written=last.written,
        started_at=taken.started_at,
        finished_at=finished_at,
        duration_ms=last.elapsed_ms,
        complete=complete,
        flushed=complete,
        io_mode=report.io_mode if report else last.io_mode or "not known",
        resumed_at=list(taken.resumed_at),
        errors=[*taken.errors, *last.open_errors][:MAX_LISTED_RANGES],
        error_count=U64(last.error_count + last.open_count),
        error_bytes=U64(last.error_bytes + last.open_bytes),
        conduct=Conduct(
            chunk=tuning.chunk,
            stripes=tuning.stripes,
            slowest=U64(report.slowest if report else 0),
            fastest=U64(report.fastest if report else 0),
            spot_checked=last.spot_checked,
            celsius_max=last.celsius_max,
        ),
    )


def _take_pass(work: Work, index: int, step: int) -> None:
    taken = work.so_far.passes.get(index)
    start = int(taken.checkpoint.durable) if taken is not None else 0
    work.recheck()
    if taken is None:
        work.recorder.pass_started(index)
    watch = _PassWatch(work, index, step)
    try:
        if taken is not None:
            watch.check_again(start)
            work.recorder.pass_resumed(index, start)
        tuning, report = _write(work, watch, start)
    except EngineError as error:
        watch.broken_off(error.report, error.found if isinstance(error, SpotCheckFailed) else [])
        raise
    if not report.complete:
        watch.broken_off(report)
    else:
        finished_at = timestamp(work.now())
        taken = work.so_far.passes[index]
        work.recorder.pass_finished(
            index, pass_result(work.plan, index, taken, tuning, finished_at=finished_at, report=report)
        )


def _write(work: Work, watch: _PassWatch, start: int) -> tuple[Tuning, WriteReport]:
    """Write a pass from `start`, where it is worth it first trying which tuning suits this target."""

    def write(begin: int, end: int | None, tuning: Tuning) -> WriteReport:
        return write_pass(
            work.target,
            watch.source,
            start=begin,
            end=end,
            tuning=tuning,
            progress=watch.progress,
            checkpoint=watch.checkpoint,
            checkpoint_interval=work.checkpoint_seconds,
            record=watch.bad.append,
            stop=work.stop,
            pace=work.pace,
            patience=work.patience,
        )

    tuning = work.tuning
    if work.calibrate and work.target.size - start >= calibration.WORTH_IT:
        rates = []
        for candidate in calibration.candidates(tuning):
            end = calibration.segment(start)
            report = write(start, end, candidate)
            if not report.complete:
                return tuning, report
            rates.append((candidate, (end - start) / report.duration_ns))
            start = end
        tuning = calibration.best(rates)
    return tuning, write(start, None, tuning)


class _PassWatch:
    """What happens beside a pass: progress shown, temperature read, samples read back, checkpoints kept."""

    def __init__(self, work: Work, index: int, step: int) -> None:
        self.bad: list[Problem] = []
        self.source = source_of(work.plan.passes[index])
        self._work = work
        self._index = index
        self._step = step
        passes = work.plan.passes
        self._title = f"pass {index + 1} of {len(passes)}: {describe_pass(passes[index])}"
        self._before = work.so_far.passes[index].checkpoint
        self._durable = int(self._before.durable)
        self._told = 0
        self._spot_checked = 0
        self._celsius: int | None = self._before.celsius_max
        self._io_mode = self._before.io_mode
        self._began = time.monotonic_ns()

    def progress(self, progress: Progress) -> None:
        """Show how far the pass is."""
        self._work.recorder.progress(self._step, self._title, progress)

    def checkpoint(self, durable: int) -> None:
        """Read back a little of what has just become durable, then keep the checkpoint."""
        self._io_mode = self._work.target.io_mode
        self._spot_check(durable)
        warm = self._work.celsius()
        if warm is not None:
            self._celsius = warm if self._celsius is None else max(self._celsius, warm)
        self._work.recorder.checkpoint(self._index, self._as_checkpoint(durable))
        self._durable, self._told = durable, len(self.bad)

    def check_again(self, durable: int) -> None:
        """Before a pass goes on: look whether what it had confirmed until then is still there."""
        known = self._work.so_far.passes[self._index].errors
        if not durable or self._before.error_count > len(known):
            return  # nothing yet, or not all bad ranges were listed, so a difference would prove nothing
        report = self._read_back(
            0, durable, [(one.range.start, one.range.start + one.range.length) for one in known]
        )
        if report.mismatched_bytes:
            raise SpotCheckFailed(
                f"before pass {self._index + 1} went on at byte {durable}, what came back is not what was "
                f"written: another medium, or it lost what it had confirmed ({report.mismatched_bytes} wrong "
                f"bytes from byte {report.mismatches[0].start} on, {report.mismatches[0].what})",
                report.mismatches,
            )

    def broken_off(self, report: object, lies: Sequence[Problem] = ()) -> None:
        """Keep how far a pass came that ended before its end: what is durable, and all that failed besides.

        `lies` are places where the medium does not hold what it confirmed.
        """
        del self.bad[self._told :]  # of a checkpoint that was not kept; they are among the report's
        durable, found = self._durable, list(lies)
        if isinstance(report, WriteReport):
            durable = min(durable, report.durable)
            self._io_mode = self._io_mode or report.io_mode
            found += [
                Problem(first := max(one.start, self._durable), one.end - first, one.what)
                for one in report.problems
                if one.end > self._durable
            ]
        lost = sum(max(0, min(one.end, durable) - one.start) for one in lies)
        kept = self._as_checkpoint(durable)
        self._work.recorder.checkpoint(
            self._index,
            msgspec.structs.replace(
                kept,
                written=U64(max(0, kept.written - lost)),
                broken_off=True,
                open_errors=_listed(sorted(found, key=lambda one: one.start)),
                open_count=U64(len(found)),
                open_bytes=U64(sum(one.length for one in found)),
            ),
        )

    def _as_checkpoint(self, durable: int) -> Checkpoint:
        """The checkpoint of an earlier run and what this run added below `durable`."""
        before = self._before
        error_bytes = before.error_bytes + sum(problem.length for problem in self.bad)
        elapsed = (time.monotonic_ns() - self._began) // MILLISECOND
        return Checkpoint(
            durable=U64(durable),
            elapsed_ms=U64(before.elapsed_ms + elapsed),
            written=U64(max(0, durable - error_bytes)),
            new_errors=_listed(self.bad[self._told :]),
            error_count=U64(before.error_count + len(self.bad)),
            error_bytes=U64(error_bytes),
            spot_checked=U64(before.spot_checked + self._spot_checked),
            celsius_max=self._celsius,
            io_mode=self._io_mode,
        )

    def _spot_check(self, durable: int) -> None:
        """A drive that drops writes is found out now, not after hours (only where reads pass the cache)."""
        if not self._work.target.direct:
            return
        report = self._read_back(self._durable, durable, [(one.start, one.end) for one in self.bad])
        if report.mismatched_bytes:
            first = report.mismatches[0]
            raise SpotCheckFailed(
                f"a spot check during pass {self._index + 1} read {report.mismatched_bytes} wrong bytes "
                f"at byte {first.start} ({first.what}), though the medium had confirmed the write",
                report.mismatches,
            )

    def _read_back(self, start: int, end: int, bad: list[tuple[int, int]]) -> VerifyReport:
        """Compare a few random places in [start, end) that have no byte in `bad`."""
        work = self._work
        report = verify(
            work.target,
            self.source,
            [
                place
                for place in spots(start, end, work.target.block, secrets.token_bytes(16))
                if not any(first < place.end and place.start < last for first, last in bad)
            ],
            tuning=replace(work.tuning, stripes=1),
            patience=work.patience,
            earlier=work.earlier(self._index),
        )
        self._spot_checked += report.bytes_read
        return report


def _take_verification(work: Work, index: int, step: int) -> None:
    plan = work.plan.verification
    seed = secrets.token_bytes(16)  # drawn only now: no drive can have known the places
    work.recheck()
    work.recorder.verify_started(index)
    started_at = timestamp(work.now())
    title = f"verify pass {index + 1} of {len(work.plan.passes)}"

    def finished(report: VerifyReport) -> None:
        work.recorder.verify_finished(
            msgspec.structs.replace(
                _verification(report, plan, seed, work.target.block),
                of_pass=index,
                started_at=started_at,
                finished_at=timestamp(work.now()) if report.complete else "",
            )
        )

    try:
        report = verify(
            work.target,
            source_of(work.plan.passes[index]),
            _places(plan, work.target, seed),
            earlier=work.earlier(index),
            tuning=work.tuning,
            progress=lambda progress: work.recorder.progress(step, title, progress),
            stop=work.stop,
            pace=work.pace,
            patience=work.patience,
        )
    except EngineError as error:
        if isinstance(error.report, VerifyReport):
            finished(error.report)
        raise
    finished(report)


def _verification(report: VerifyReport, plan: VerificationPlan, seed: bytes, block: int) -> Verification:
    """What was read back, as the receipt shows it; of which pass and when is still to be filled in."""
    full = plan.kind == "full"
    return Verification(
        kind="full" if full else "sampled",
        of_pass=0,
        bytes_expected=U64(report.bytes_expected),
        bytes_read=U64(report.bytes_read),
        mismatched_bytes=U64(report.mismatched_bytes),
        unreadable_bytes=U64(report.unreadable_bytes),
        unreadable=_listed(report.unreadable),
        mismatches=_listed(report.mismatches),
        mismatch_count=U64(len(report.mismatches)),
        looks=report.looks,
        started_at="",
        finished_at="",
        duration_ms=U64(report.duration_ns // MILLISECOND),
        io_mode=report.io_mode,
        reads_medium=report.reads_medium,
        complete=report.complete,
        seed="" if full else seed.hex(),
        rule=plan.rule,
        block=0 if full else block,
    )


def _places(plan: VerificationPlan, target: Target, seed: bytes) -> Iterable[Range] | None:
    """What to read back; None is all."""
    if plan.kind == "sampled":
        return samples(target.size, target.block, seed)
    if plan.kind == "confidence":
        return drawn(target.size, target.block, seed, plan.max_unsanitized_ppm, plan.confidence_ppm)
    return None


def _listed(problems: list[Problem]) -> list[RangeProblem]:
    return [
        RangeProblem(range=ByteRange(start=U64(one.start), length=U64(one.length)), what=one.what)
        for one in problems[:MAX_LISTED_RANGES]
    ]


def _stream(plan: TargetPlan, index: int) -> Stream | None:
    step = plan.passes[index]
    if not step.cipher:
        return None
    sealed = plan.seal and index == len(plan.passes) - 1
    key_digest = hashlib.sha256(bytes.fromhex(step.key)).hexdigest()
    return Stream(cipher=step.cipher, key_digest=key_digest, key=step.key if sealed else "")
