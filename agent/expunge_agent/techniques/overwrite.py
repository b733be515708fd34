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
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from expunge_agent.core.plan import PassPlan, TargetPlan, VerificationPlan, describe_pass
from expunge_agent.core.progress import Checkpoint, PassProgress, TargetProgress
from expunge_agent.engine.confidence import drawn
from expunge_agent.engine.meter import Progress
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.problems import Problem
from expunge_agent.engine.ranges import Range, samples
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import (
    MAX_LISTED_RANGES,
    ByteRange,
    PassResult,
    RangeProblem,
    Stream,
    Verification,
)

MILLISECOND = 1_000_000  # nanoseconds


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
    """What an overwrite works with. `recheck` raises when the target is not the one opened any more."""

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
    plan: TargetPlan, index: int, taken: PassProgress, finished_at: str, complete: bool, io_mode: str
) -> PassResult:
    """A pass as the receipt shows it, from its last checkpoint."""
    step, last = plan.passes[index], taken.checkpoint
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
        io_mode=io_mode,
        resumed_at=list(taken.resumed_at),
        errors=list(last.errors),
        error_count=last.error_count,
        error_bytes=last.error_bytes,
    )


def _take_pass(work: Work, index: int, step: int) -> None:
    taken = work.so_far.passes.get(index)
    start = int(taken.checkpoint.durable) if taken is not None else 0
    work.recheck()
    if taken is None:
        work.recorder.pass_started(index)
    else:
        work.recorder.pass_resumed(index, start)
    before = work.so_far.passes[index].checkpoint
    title = f"pass {index + 1} of {len(work.plan.passes)}: {describe_pass(work.plan.passes[index])}"
    began = time.monotonic_ns()
    bad: list[Problem] = []

    def advance(durable: int) -> None:
        work.recorder.checkpoint(index, _add(before, durable, bad, time.monotonic_ns() - began))

    report = write_pass(
        work.target,
        source_of(work.plan.passes[index]),
        start=start,
        tuning=work.tuning,
        progress=lambda progress: work.recorder.progress(step, title, progress),
        checkpoint=advance,
        checkpoint_interval=work.checkpoint_seconds,
        record=bad.append,
        stop=work.stop,
        pace=work.pace,
    )
    if report.complete:
        taken = work.so_far.passes[index]
        finished_at = timestamp(work.now())
        work.recorder.pass_finished(
            index, pass_result(work.plan, index, taken, finished_at, True, report.io_mode)
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
        tuning=work.tuning,
        progress=lambda progress: work.recorder.progress(step, title, progress),
        stop=work.stop,
        pace=work.pace,
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


def _places(plan: VerificationPlan, target: Target, seed: bytes) -> Iterable[Range] | None:
    """What to read back; None is all."""
    if plan.kind == "sampled":
        return samples(target.size, target.block, seed)
    if plan.kind == "confidence":
        return drawn(target.size, target.block, seed, plan.max_unsanitized_ppm, plan.confidence_ppm)
    return None


def _add(before: Checkpoint, durable: int, bad: list[Problem], elapsed_ns: int) -> Checkpoint:
    """The checkpoint of an earlier run and what this run added below `durable`."""
    error_bytes = before.error_bytes + sum(problem.length for problem in bad)
    return Checkpoint(
        durable=U64(durable),
        elapsed_ms=U64(before.elapsed_ms + elapsed_ns // MILLISECOND),
        written=U64(durable - error_bytes),
        errors=(before.errors + _listed(bad))[:MAX_LISTED_RANGES],
        error_count=U64(before.error_count + len(bad)),
        error_bytes=U64(error_bytes),
    )


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
