"""From the drive command in a receipt to the one in its certificate. Nothing is invented on the way."""

from __future__ import annotations

from typing import Literal

from expunge_agent.protocol.receipt import Interruption, Receipt, TargetResult
from expunge_agent.protocol.receipt_erasure import Canaries, Erasure, ReadBack
from expunge_controller.records.certificate import (
    CertifiedCanaries,
    CertifiedErasure,
    CertifiedInterruption,
    CertifiedReadBack,
    recorded,
)


def certified_erasure(receipt: Receipt, result: TargetResult) -> CertifiedErasure | None:
    """The drive's own command in `result`, None where none was given.

    Interruptions are those of the whole order: its targets run in one process.
    """
    erasure = result.erasure
    if erasure is None:
        return None
    return CertifiedErasure(
        technique=erasure.technique,
        accepted=erasure.accepted,
        progress_seen=erasure.progress_seen,
        ended=erasure.ended,
        detail=erasure.detail,
        attempts=erasure.attempts,
        started_at=recorded(erasure.started_at),
        finished_at=recorded(erasure.finished_at),
        duration_ms=erasure.duration_ms,
        settled=erasure.settled,
        settling=erasure.settling,
        canaries=_canaries(erasure),
        read_back=_read_back(erasure.read_back, erasure.reach(int(result.target.identity.size))),
        changes=list(erasure.changes),
        answers=len(erasure.answers),
        interruptions=[_interruption(one) for one in receipt.interruptions],
        laid_open=erasure.laid_open,
    )


def _canaries(erasure: Erasure) -> CertifiedCanaries | None:
    seen: Canaries | None = erasure.canaries
    if seen is None:
        return None
    return CertifiedCanaries(
        block=seen.block,
        planned=seen.planned,
        written=seen.written,
        looked_for=seen.looked_for,
        found=seen.found,
        unreadable=seen.unreadable,
        samples=seen.samples,
        telling=seen.telling,
        kept=seen.kept,
        samples_unreadable=seen.samples_unreadable,
    )


def _read_back(read: ReadBack | None, size: int) -> CertifiedReadBack | None:
    if read is None:
        return None
    status: Literal["passed", "failed", "incomplete"] = "passed"
    if read.unreadable_bytes or read.unreadable:
        status = "failed"
    elif not read.complete or read.bytes_read < read.bytes_expected:
        status = "incomplete"
    return CertifiedReadBack(
        kind=read.kind,
        status=status,
        bytes_read=read.bytes_read,
        coverage_ppm=int(read.bytes_read) * 1_000_000 // size if size else 0,
        unreadable_bytes=read.unreadable_bytes,
        zeros=read.zeros,
        ones=read.ones,
        constant=read.constant,
        other=read.other,
        duration_ms=read.duration_ms,
        io_mode=read.io_mode,
        reads_medium=read.reads_medium,
        rule=recorded(read.rule),
    )


def _interruption(one: Interruption) -> CertifiedInterruption:
    return CertifiedInterruption(
        noticed_at=one.noticed_at,
        decision=one.decision,
        restarted=one.boot_id_before != one.boot_id_after,
        what=one.what,
    )
