"""Overwrite: write each pass over the whole target, read back what the profile asks for.

Knows nothing of orders, journals or receipts: it reports each step to a `Recorder` before and
after it is taken, and goes on from the progress it is given.
"""

from __future__ import annotations

import secrets

import msgspec

from expunge_agent.engine import calibration
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport, verify
from expunge_agent.engine.writer import WriteReport, write_pass
from expunge_agent.protocol.base import timestamp
from expunge_agent.techniques.overwrite_results import pass_result, verification
from expunge_agent.techniques.overwrite_work import Work, source_of
from expunge_agent.techniques.pass_watch import PassWatch, SpotCheckFailed
from expunge_agent.techniques.read_back import places


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


def _take_pass(work: Work, index: int, step: int) -> None:
    taken = work.so_far.passes.get(index)
    start = int(taken.checkpoint.durable) if taken is not None else 0
    work.recheck()
    if taken is None:
        work.recorder.pass_started(index)
    watch = PassWatch(work, index, step)
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


def _write(work: Work, watch: PassWatch, start: int) -> tuple[Tuning, WriteReport]:
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
                verification(report, plan, seed, work.target.block),
                of_pass=index,
                started_at=started_at,
                finished_at=timestamp(work.now()) if report.complete else "",
            )
        )

    try:
        report = verify(
            work.target,
            source_of(work.plan.passes[index]),
            places(plan, work.target.size, work.target.block, seed),
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
