"""What follows from an accepted receipt: custody of its media, certificates, the end of its order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from expunge_agent.errors import ExpungeError, RefusedError
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Receipt, TargetResult, Verification, parse_statement
from expunge_agent.protocol.receipt_erasure import Erasure
from expunge_controller import fleet
from expunge_controller.certifying import certify
from expunge_controller.context import Controller
from expunge_controller.ledger import append_custody, register_medium
from expunge_controller.records.certify import certifiable
from expunge_controller.records.consistency import medium_of, tells_of_work
from expunge_controller.records.custody import CustodyKind
from expunge_controller.records.erasure_checks import was_begun
from expunge_controller.records.key_checks import looked_at
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import (
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
WAITS = "A certificate waits for the log's witnesses (`expunge log cosign`)."


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
    second: SecondSignatures | None
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
            second=case.second,
            received_at=timestamp(case.now),
        )
    )
    notes = ["Receipts of this agent are missing before this one."] if case.gap else []
    if case.order is None:
        notes += _consequences(case)
        if notes:
            case.unit.fleet.set_note(case.machine.machine_id, " ".join(notes)[:1000])
    elif case.order.outcome:
        _second(case, case.order, notes)
    else:
        notes += _consequences(case)
        _end(case, case.order, OrderStatus.FINISHED, notes, str(case.receipt.outcome))


def _second(case: Accepted, order: OrderRow, notes: list[str]) -> None:
    """Another receipt for an order that has one: a person must look, and no fact may be lost.

    A receipt that tells of work done outranks one that only refused; otherwise the first one stands.
    """
    notes.append("The agent sent a second receipt for this order.")
    earlier = [row for row in case.unit.evidence.receipts_of_order(order.digest) if row.digest != case.digest]
    worked = any(tells_of_work(parse_statement(row.body).predicate) for row in earlier)
    outcome = order.outcome
    if tells_of_work(case.receipt) and not worked:
        outcome = str(case.receipt.outcome)
        notes.append(f"The first one said {order.outcome}; this one tells of work, so it is {outcome}.")
        notes += _consequences(case)
    else:
        notes.append(f"It says {case.receipt.outcome}; what the first one said stands.")
    _end(case, order, OrderStatus.ATTENTION, notes, outcome)


def _end(case: Accepted, order: OrderRow, status: OrderStatus, notes: list[str], outcome: str) -> None:
    moment = timestamp(case.now)
    case.unit.orders.change(order, status, moment, note=" ".join(notes)[:1000], outcome=outcome)


def _consequences(case: Accepted) -> list[str]:
    """Custody and certificates; returns what could not be recorded, as sentences."""
    order = parse_order(case.order.body) if case.order is not None else None
    notes: list[str] = []
    for number, result in enumerate(case.receipt.targets):
        try:
            _check_owner(case, result)
            medium = _medium(case, result)
            _record_ending(case, medium, result)
            if certifiable(result) is None:
                notes += _certify(case, medium, number)
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


def _check_owner(case: Accepted, result: TargetResult) -> None:
    """Without an order of ours a machine speaks only of its own media. Raises RefusedError."""
    _, digest = medium_of(result.target.identity)
    known = case.unit.evidence.medium(digest)
    if case.order is None and known is not None and known.machine_id != case.machine.machine_id:
        raise RefusedError(
            f"Receipt {case.digest[:16]}, not ordered here, names medium {digest[:16]}, which is "
            "registered for another machine: its custody was not touched.",
            "If the medium moved, register it for its new machine.",
        )


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
    if (result.passes or was_begun(result.erasure) or result.key is not None) and not started:
        _append(case, medium, CustodyKind.WIPE_STARTED, "learned from the receipt")
    refusal = result.refusal.detail if result.refusal else _why_refused(case.receipt)
    note = f"outcome {result.outcome}, level {result.level_achieved}. {result.failure or refusal}".strip()
    _append(case, medium, ENDING[result.outcome], note)
    verified = _verified(result)
    if ENDING[result.outcome] is CustodyKind.WIPED and verified:
        _append(case, medium, CustodyKind.VERIFIED, verified)


def _verified(result: TargetResult) -> str:
    """What was verified without a flaw, in words; empty where anything was wrong or nothing was looked at."""
    if was_begun(result.erasure):
        return _verified_erasure(result.erasure)
    if looked_at(result) and result.outcome is Outcome.SANITIZED:
        return "the kernel has no such key, no file of the folder opens, what stored the key was overwritten and read back"
    checked = [run for run in result.verifications if run.kind != "none"]
    if not checked or not all(map(_is_clean, checked)):
        return ""
    return f"{checked[-1].kind} verification, {checked[-1].bytes_read} bytes read, no mismatch"


def _verified_erasure(erasure: Erasure | None) -> str:
    if erasure is None or erasure.canaries is None or erasure.read_back is None:
        return ""
    seen, read = erasure.canaries, erasure.read_back
    gone = seen.looked_for == seen.written > 0 and not (seen.found or seen.kept or seen.unreadable)
    if not gone or not read.complete or not read.reads_medium or read.unreadable_bytes:
        return ""
    return f"{seen.written} canaries gone, {read.kind} read-back, {read.bytes_read} bytes read"


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


def _certify(case: Accepted, medium: MediumRow, target: int) -> list[str]:
    receipt = case.unit.evidence.receipt(case.digest)
    if receipt is None or certify(case.unit, case.controller, receipt, target, medium, case.now):
        return []
    return [WAITS]


def _why_refused(receipt: Receipt) -> str:
    return receipt.refusal.detail if receipt.refusal else ""
