"""What follows from an accepted receipt: custody of its media, certificates, the end of its order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from expunge_agent.errors import ExpungeError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.order import Order, parse_order
from expunge_agent.protocol.receipt import Receipt, TargetResult, Verification
from expunge_controller import fleet
from expunge_controller.context import Controller
from expunge_controller.ledger import append_custody, record_of, register_medium
from expunge_controller.records.certificate import freeze_certificate
from expunge_controller.records.certify import certifiable, certificate_from
from expunge_controller.records.custody import CustodyKind
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import (
    CertificateRow,
    MachineRow,
    MediumRow,
    OrderRow,
    OrderStatus,
    ReceiptRow,
)

ENDING = {
    Outcome.SANITIZED: CustodyKind.WIPED,
    Outcome.EXCEPTIONS: CustodyKind.WIPED,
    Outcome.REFUSED: CustodyKind.REFUSED,
    Outcome.FAILED: CustodyKind.WIPE_FAILED,
    Outcome.UNKNOWN: CustodyKind.WIPE_FAILED,
    Outcome.INTERRUPTED: CustodyKind.INTERRUPTED,
}


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """An accepted receipt and everything it touches, in the transaction of ``unit``."""

    unit: Unit
    controller: Controller
    machine: MachineRow
    order: OrderRow | None
    receipt: Receipt
    body: bytes
    signature: bytes
    digest: str
    gap: bool
    now: datetime


def keep(case: Accepted) -> None:
    """Store the receipt with custody, certificates and the order's end."""
    case.unit.evidence.add_receipt(
        ReceiptRow(
            digest=case.digest,
            order_digest=case.receipt.order.digest,
            machine_id=case.machine.machine_id,
            counter=int(case.receipt.counter),
            outcome=str(case.receipt.outcome),
            body=case.body,
            signature=case.signature,
            received_at=timestamp(case.now),
        )
    )
    notes = []
    if case.gap:
        notes.append("Receipts of this agent are missing before this one.")
    if case.order is not None and case.order.status is OrderStatus.FINISHED:
        notes.append("The agent sent a second receipt for this order.")
    else:
        notes += _consequences(case)
    if case.order is not None:
        case.unit.orders.change(
            case.order,
            OrderStatus.FINISHED,
            timestamp(case.now),
            note=" ".join(notes),
            outcome=case.order.outcome or str(case.receipt.outcome),
        )


def _consequences(case: Accepted) -> list[str]:
    """Custody and certificates; returns what could not be recorded, as sentences."""
    order = parse_order(case.order.body) if case.order is not None else None
    notes: list[str] = []
    for number, result in enumerate(case.receipt.targets):
        try:
            medium = _medium(case, result)
            _record_ending(case, medium, result)
            if certifiable(result) is None:
                _certify(case, order, medium, number)
        except ExpungeError as error:  # the receipt is the fact; a rule of the register cannot undo it
            notes.append(error.message)
    if not case.receipt.targets and order is not None:
        for target in order.targets:
            medium = register_medium(
                case.unit,
                case.controller,
                target.identity,
                machine_id=case.machine.machine_id,
                hint=target.hint,
                actor=order.requested_by,
                now=case.now,
            )
            _append(case, medium, CustodyKind.REFUSED, _why_refused(case.receipt))
    return notes


def _medium(case: Accepted, result: TargetResult) -> MediumRow:
    return register_medium(
        case.unit,
        case.controller,
        result.target.identity,
        machine_id=case.machine.machine_id,
        hint=result.target.hint,
        actor=fleet.agent_principal(case.machine.machine_id),
        now=case.now,
    )


def _record_ending(case: Accepted, medium: MediumRow, result: TargetResult) -> None:
    order = case.receipt.order.digest
    started = case.unit.evidence.has_custody(medium.digest, str(CustodyKind.WIPE_STARTED), order)
    if result.passes and not started:
        _append(case, medium, CustodyKind.WIPE_STARTED, "learned from the receipt")
    refusal = result.refusal.detail if result.refusal else _why_refused(case.receipt)
    note = f"outcome {result.outcome}, level {result.level_achieved}. {result.failure or refusal}".strip()
    _append(case, medium, ENDING[result.outcome], note)
    checked = [run for run in result.verifications if run.kind != "none"]
    if ENDING[result.outcome] is CustodyKind.WIPED and checked and all(map(_is_clean, checked)):
        last = checked[-1]
        note = f"{last.kind} verification, {last.bytes_read} bytes read, no mismatch"
        _append(case, medium, CustodyKind.VERIFIED, note)


def _is_clean(check: Verification) -> bool:
    """Whether a verification reached its end, read the medium itself, and found nothing wrong."""
    wrong = check.mismatched_bytes or check.unreadable_bytes or check.mismatch_count
    return check.complete and check.reads_medium and not wrong


def _append(case: Accepted, medium: MediumRow, kind: CustodyKind, note: str) -> None:
    append_custody(
        case.unit,
        case.controller,
        medium,
        kind,
        actor=fleet.agent_principal(case.machine.machine_id),
        now=case.now,
        order=case.receipt.order.digest,
        order_id=case.receipt.order.order_id,
        receipt=case.digest,
        note=note[:1000],
    )


def _certify(case: Accepted, order: Order | None, medium: MediumRow, target: int) -> None:
    certificate = certificate_from(
        case.body,
        case.signature,
        target,
        order=order,
        facts=record_of(medium),
        number=_next_number(case.unit, case.now),
        issued_at=case.now,
        issuer=case.controller.principal,
    )
    body = freeze_certificate(certificate)
    case.unit.evidence.add_certificate(
        CertificateRow(
            number=certificate.number,
            receipt_digest=case.digest,
            order_digest=case.receipt.order.digest,
            target=target,
            medium=medium.digest,
            body=body,
            signature=sshsig.sign(case.controller.signer, sshsig.CERTIFICATE_NAMESPACE, body),
            issued_at=timestamp(case.now),
        )
    )


def _next_number(unit: Unit, now: datetime) -> str:
    prefix = f"CERT-{now:%Y}-"
    last = unit.evidence.last_certificate_number(prefix)
    return f"{prefix}{int(last.removeprefix(prefix)) + 1 if last else 1:06d}"


def _why_refused(receipt: Receipt) -> str:
    return receipt.refusal.detail if receipt.refusal else ""
