"""From a receipt, its order and the register to a certificate. Nothing is invented on the way."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import (
    PassResult,
    Receipt,
    TargetResult,
    Verification,
    parse_statement,
)
from expunge_controller.records.certificate import (
    ATTESTATION,
    AWAITING,
    Blank,
    Certificate,
    CertifiedPass,
    CertifiedVerification,
    Evidence,
    LogReference,
    Media,
    MediumRecord,
    Sanitization,
    recorded,
)
from expunge_controller.records.certify_erasure import certified_erasure
from expunge_controller.records.certify_space import certified_space
from expunge_controller.records.certify_volume import certified_volume
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.extent import size_of
from expunge_controller.records.key_checks import looked_at
from expunge_controller.records.log_words import witness_sentence

CERTIFIED = (Outcome.SANITIZED, Outcome.EXCEPTIONS)
NO_TIME = "Times are those of the clocks of the machine and the controller; no third party confirms them."


def certifiable(result: TargetResult) -> str | None:
    """Why no certificate may be issued for this target; None when one may.

    Only ``sanitized`` and ``sanitized-with-exceptions`` are certified; of every other outcome the
    receipt itself is the record.
    """
    if result.outcome in CERTIFIED:
        return None
    return f"The target's outcome is {result.outcome}; only a sanitized medium gets a certificate."


def certificate_from(
    receipt_body: bytes,
    receipt_signature: bytes,
    target: int,
    *,
    order: Order | None,
    facts: MediumRecord,
    number: str,
    issued_at: datetime,
    issuer: str,
    log: LogReference | None = None,
    dsse: str = "",
) -> Certificate:
    """The certificate about target number `target` (from 0) of a receipt that was checked before.

    `order` is None for a wipe that no controller ordered; `issuer` the signing controller's
    principal; `log` where the receipt stands in the transparency log, `dsse` the SHA-256 of its
    envelope with the second signatures. Raises RefusedError where no certificate may be issued (`certifiable`), NotFoundError without such a target, DocumentError for a damaged receipt.
    """
    receipt = parse_statement(receipt_body).predicate
    if not 0 <= target < len(receipt.targets):
        raise NotFoundError(f"The receipt has no target number {target}.", "Count its targets from 0.")
    result = receipt.targets[target]
    obstacle = certifiable(result)
    if obstacle:
        raise RefusedError(obstacle, "Read the receipt, mend the cause, and order the wipe again.")
    return Certificate(
        format="expunge/certificate/v1",
        number=number,
        status=AWAITING,
        issued_at=timestamp(issued_at),
        issuer=issuer,
        media=_media(result),
        register=facts,
        sanitization=_sanitization(receipt, result),
        evidence=replace(
            _evidence(receipt_body, receipt_signature, receipt, target, order), log=log, dsse=dsse
        ),
        assurance=[witness_sentence(log), NO_TIME],
        attestation_text=ATTESTATION,
        attestation=Blank(),
        validation=Blank(),
        concurrence=Blank(),
    )


def _media(result: TargetResult) -> Media:
    identity, seen = result.target.identity, result.medium
    block = identity if isinstance(identity, BlockIdentity) else None
    subject, digest = medium_of(identity)
    return Media(
        digest=digest,
        subject=subject,
        identity=identity,
        type=recorded(seen.type if seen else ""),
        model=recorded(block.model if block else ""),
        serial=recorded(block.serial if block else ""),
        wwn=recorded(block.wwn if block else ""),
        size=identity.size,
        firmware=recorded(seen.firmware if seen else ""),
        logical_sector=seen.logical_sector if seen else -1,
        physical_sector=seen.physical_sector if seen else -1,
        path=recorded(seen.path if seen else ""),
        notes=list(seen.notes) if seen else [],
    )


def _sanitization(receipt: Receipt, result: TargetResult) -> Sanitization:
    return Sanitization(
        outcome=result.outcome,
        method=result.level_achieved,
        level_requested=recorded(str(receipt.level_requested or "")),
        level_achieved=result.level_achieved,
        technique=recorded(result.technique),
        profile=receipt.profile,
        tool=receipt.agent.software,
        started_at=receipt.started_at,
        finished_at=receipt.finished_at,
        clock=recorded(receipt.clock),
        passes=[_pass(run) for run in result.passes],
        verifications=[_verification(check, size_of(result)) for check in result.verifications],
        verification_status=_status(result),
        exceptions=list(result.exceptions),
        not_covered=list(result.not_covered),
        limitations=list(receipt.limitations),
        erasure=certified_erasure(receipt, result),
        downgrade=result.downgrade,
        space=certified_space(result),
        volume=certified_volume(result),
        key=None if result.key is None else replace(result.key, evidence=[]),
        files=result.files,
    )


def _evidence(body: bytes, signature: bytes, receipt: Receipt, target: int, order: Order | None) -> Evidence:
    return Evidence(
        receipt=canonical.sha256_hex(body),
        receipt_signature=canonical.sha256_hex(signature),
        counter=receipt.counter,
        target=target,
        order=receipt.order.digest,
        order_id=recorded(receipt.order.order_id),
        requested_by=recorded(receipt.order.requested_by),
        case_number=recorded(receipt.order.case_number),
        reason=recorded(order.reason if order else ""),
        machine_id=receipt.agent.machine_id,
        hostname=recorded(receipt.agent.hostname),
        agent_key=receipt.agent.key,
        boot_id=recorded(receipt.agent.boot_id),
        kernel=recorded(receipt.agent.kernel),
        mldsa65_key=receipt.agent.mldsa65_key,
    )


def _pass(run: PassResult) -> CertifiedPass:
    milliseconds = int(run.duration_ms)
    return CertifiedPass(
        number=run.index + 1,
        pattern=run.pattern,
        bytes_written=run.bytes_written,
        started_at=run.started_at,
        finished_at=recorded(run.finished_at),
        duration_ms=run.duration_ms,
        throughput=U64(int(run.bytes_written) * 1000 // milliseconds if milliseconds else 0),
        complete=run.complete,
        flushed=run.flushed,
        io_mode=run.io_mode,
        times_resumed=len(run.resumed_at),
        error_count=run.error_count,
        error_bytes=run.error_bytes,
    )


def _verification(check: Verification, size: int) -> CertifiedVerification:
    status: Literal["passed", "failed", "incomplete"] = "passed"
    if check.mismatched_bytes or check.unreadable_bytes or check.mismatch_count:
        status = "failed"
    elif not check.complete or check.bytes_read < check.bytes_expected:
        status = "incomplete"
    return CertifiedVerification(
        kind=check.kind,
        of_pass=check.of_pass + 1,
        status=status,
        bytes_read=check.bytes_read,
        coverage_ppm=min(int(check.bytes_read) * 1_000_000 // int(size), 1_000_000) if size else 0,
        mismatched_bytes=check.mismatched_bytes,
        unreadable_bytes=check.unreadable_bytes,
        duration_ms=check.duration_ms,
        io_mode=check.io_mode,
        reads_medium=check.reads_medium,
        rule=recorded(check.rule),
    )


def _status(result: TargetResult) -> Literal["passed", "passed with exceptions", "none"]:
    command = result.erasure
    read_back = command is not None and command.read_back is not None
    read_back = read_back or (result.files is not None and result.files.verification is not None)
    if (
        not read_back
        and not looked_at(result)
        and not any(check.kind != "none" for check in result.verifications)
    ):
        return "none"
    return "passed" if result.outcome is Outcome.SANITIZED else "passed with exceptions"
