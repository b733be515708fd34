"""Overwrite: write each pass over the whole target, read back what the profile asks for.

Knows nothing of orders, journals or receipts: it reports each step to a `Recorder` before and
after it is taken, and goes on from the progress it is given.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

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
from expunge_agent.engine.verifier import verify
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
    """What was written and flushed a moment ago is not there."""


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
        """Reading back came to its end."""

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
            if index not in so_far.verifications and not work.stop.is_set():
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
    """A pass as the receipt shows it, from its last checkpoint; complete only with a complete `report`."""
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
        io_mode=report.io_mode if report else "not known",
        resumed_at=list(taken.resumed_at),
        errors=taken.errors[:MAX_LISTED_RANGES],
        error_count=last.error_count,
        error_bytes=last.error_bytes,
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
    else:
        work.recorder.pass_resumed(index, start)
    watch = _PassWatch(work, index, step)
    tuning, report = _write(work, index, watch, start)
    if report.complete:
        finished_at = timestamp(work.now())
        taken = work.so_far.passes[index]
        work.recorder.pass_finished(
            index, pass_result(work.plan, index, taken, tuning, finished_at=finished_at, report=report)
        )


def _write(work: Work, index: int, watch: _PassWatch, start: int) -> tuple[Tuning, WriteReport]:
    """Write a pass from `start`, where it is worth it first trying which tuning suits this target."""

    def write(begin: int, end: int | None, tuning: Tuning) -> WriteReport:
        return write_pass(
            work.target,
            source_of(work.plan.passes[index]),
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
        self._began = time.monotonic_ns()

    def progress(self, progress: Progress) -> None:
        """Show how far the pass is."""
        self._work.recorder.progress(self._step, self._title, progress)

    def checkpoint(self, durable: int) -> None:
        """Read back a little of what has just become durable, then keep the checkpoint."""
        self._spot_check(durable)
        warm = self._work.celsius()
        if warm is not None:
            self._celsius = warm if self._celsius is None else max(self._celsius, warm)
        self._work.recorder.checkpoint(self._index, self._as_checkpoint(durable))
        self._durable, self._told = durable, len(self.bad)

    def _as_checkpoint(self, durable: int) -> Checkpoint:
        """The checkpoint of an earlier run and what this run added below `durable`."""
        before = self._before
        error_bytes = before.error_bytes + sum(problem.length for problem in self.bad)
        elapsed = (time.monotonic_ns() - self._began) // MILLISECOND
        return Checkpoint(
            durable=U64(durable),
            elapsed_ms=U64(before.elapsed_ms + elapsed),
            written=U64(durable - error_bytes),
            new_errors=_listed(self.bad[self._told :]),
            error_count=U64(before.error_count + len(self.bad)),
            error_bytes=U64(error_bytes),
            spot_checked=U64(before.spot_checked + self._spot_checked),
            celsius_max=self._celsius,
        )

    def _spot_check(self, durable: int) -> None:
        """A drive that drops writes is found out now, not after hours (only where reads pass the cache)."""
        target, last = self._work.target, self._work.plan.passes[self._index]
        if not target.direct:
            return
        places = [
            place
            for place in spots(self._durable, durable, target.block, secrets.token_bytes(16))
            if not any(one.start < place.end and place.start < one.end for one in self.bad)
        ]
        report = verify(
            target,
            source_of(last),
            places,
            tuning=replace(self._work.tuning, stripes=1),
            patience=self._work.patience,
            earlier=_earlier(self._work.plan, self._index),
        )
        self._spot_checked += report.bytes_read
        if report.mismatched_bytes:
            first = report.mismatches[0]
            raise SpotCheckFailed(
                f"a spot check during pass {self._index + 1} read {report.mismatched_bytes} wrong bytes "
                f"at byte {first.start} ({first.what}), though the medium had confirmed the write"
            )


def _take_verification(work: Work, index: int, step: int) -> None:
    plan = work.plan.verification
    seed = secrets.token_bytes(16)  # drawn only now: no drive can have known the places
    work.recheck()
    work.recorder.verify_started(index)
    started_at = timestamp(work.now())
    title = f"verify pass {index + 1} of {len(work.plan.passes)}"
    report = verify(
        work.target,
        source_of(work.plan.passes[index]),
        _places(plan, work.target, seed),
        earlier=_earlier(work.plan, index),
        tuning=work.tuning,
        progress=lambda progress: work.recorder.progress(step, title, progress),
        stop=work.stop,
        pace=work.pace,
        patience=work.patience,
    )
    if not report.complete:
        return
    work.recorder.verify_finished(
        Verification(
            kind="full" if plan.kind == "full" else "sampled",
            of_pass=index,
            bytes_expected=U64(report.bytes_expected),
            bytes_read=U64(report.bytes_read),
            mismatched_bytes=U64(report.mismatched_bytes),
            unreadable_bytes=U64(report.unreadable_bytes),
            unreadable=_listed(report.unreadable),
            mismatches=_listed(report.mismatches),
            mismatch_count=U64(len(report.mismatches)),
            looks=report.looks,
            started_at=started_at,
            finished_at=timestamp(work.now()),
            duration_ms=U64(report.duration_ns // MILLISECOND),
            io_mode=report.io_mode,
            reads_medium=report.reads_medium,
            complete=report.complete,
            seed="" if plan.kind == "full" else seed.hex(),
            rule=plan.rule,
        )
    )


def _earlier(plan: TargetPlan, index: int) -> list[Source]:
    """What the passes before this one wrote, newest first: so that a write that was dropped is known for one."""
    return [source_of(step) for step in reversed(plan.passes[:index])]


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
