"""Passes and read-backs as the receipt shows them."""

from __future__ import annotations

import hashlib

from expunge_agent.core.pass_progress import PassProgress
from expunge_agent.core.plan import TargetPlan, VerificationPlan, describe_pass
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import VerifyReport
from expunge_agent.engine.writer import WriteReport
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_LISTED_RANGES, Conduct, PassResult, Stream, Verification
from expunge_agent.techniques.read_back import listed

MILLISECOND = 1_000_000  # nanoseconds


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


def verification(report: VerifyReport, plan: VerificationPlan, seed: bytes, block: int) -> Verification:
    """What was read back, as the receipt shows it; of which pass and when is still to be filled in."""
    full = plan.kind == "full"
    return Verification(
        kind="full" if full else "sampled",
        of_pass=0,
        bytes_expected=U64(report.bytes_expected),
        bytes_read=U64(report.bytes_read),
        mismatched_bytes=U64(report.mismatched_bytes),
        unreadable_bytes=U64(report.unreadable_bytes),
        unreadable=listed(report.unreadable),
        mismatches=listed(report.mismatches),
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


def _stream(plan: TargetPlan, index: int) -> Stream | None:
    step = plan.passes[index]
    if not step.cipher:
        return None
    sealed = plan.seal and index == len(plan.passes) - 1
    key_digest = hashlib.sha256(bytes.fromhex(step.key)).hexdigest()
    return Stream(cipher=step.cipher, key_digest=key_digest, key=step.key if sealed else "")
