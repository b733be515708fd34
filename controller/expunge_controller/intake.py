"""Receipts: checked, then stored with all that follows from them in one transaction.

A receipt that fails a check is kept aside with the reasons and acknowledged all the same: it is
evidence too, and must neither be lost nor sent for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from expunge_agent.errors import DocumentError, EnrolmentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_agent.protocol.receipt import NO_RECEIPT_BEFORE, Receipt, parse_statement
from expunge_controller import consequences, fleet, key_history, policies
from expunge_controller.context import Controller
from expunge_controller.records.findings import failures
from expunge_controller.records.receipt_checks import KnownReceipts, ReceiptVerdict, check_receipt
from expunge_controller.records.second_checks import SECOND
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import AsideRow, MachineRow, OrderRow, OrderStatus


@dataclass(frozen=True)
class Stored:
    """What became of a receipt. ``digest`` is what to acknowledge; ``reasons`` is empty when it was accepted."""

    digest: str
    reasons: tuple[str, ...]
    gap: bool = False
    repeated: bool = False


@dataclass(frozen=True, kw_only=True)
class _Arrival:
    """A receipt as it came, in the transaction that stores it. ``receipt`` is None where it cannot be read."""

    unit: Unit
    controller: Controller
    machine: MachineRow
    order: OrderRow | None
    receipt: Receipt | None
    body: bytes
    signature: bytes
    second: SecondSignatures | None
    now: datetime


def store_receipt(
    controller: Controller,
    machine_id: str,
    body: bytes,
    signature: bytes,
    *,
    second: SecondSignatures | None = None,
    order_hint: str = "",
    now: datetime,
) -> Stored:
    """Check and store a receipt that the machine delivered; storing it again changes nothing.

    `order_hint` is the order that the wire named with it, for a body that cannot be read. On
    return everything is durable. Raises EnrolmentError for a machine that is not enrolled, and
    NoSpaceError, BusyError or StateError from the store.
    """
    digest = canonical.sha256_hex(body)
    with controller.store.write() as unit:
        machine = unit.fleet.machine(machine_id)
        if machine is None:
            raise EnrolmentError("The machine is not enrolled here.", "Enrol it first.")
        if unit.evidence.is_aside(machine_id, digest, signature, second):
            return Stored(digest, ("kept aside before",), repeated=True)
        kept = unit.evidence.receipt(digest)
        if kept is not None and (kept.machine_id, kept.signature, kept.second) == (
            machine_id,
            signature,
            second,
        ):
            return Stored(digest, (), repeated=True)  # also one from before the machine had a second key
        receipt = _peek(body)
        arrival = _Arrival(
            unit=unit,
            controller=controller,
            machine=machine,
            order=unit.orders.get(receipt.order.digest if receipt else order_hint),
            receipt=receipt,
            body=body,
            signature=signature,
            second=second,
            now=now,
        )
        return _store(arrival, _verdict(arrival))


def _store(arrival: _Arrival, verdict: ReceiptVerdict) -> Stored:
    if verdict.accepted and arrival.unit.evidence.receipt(verdict.digest) is not None:
        return Stored(verdict.digest, (), repeated=True)
    receipt = arrival.receipt if _is_authentic(arrival, verdict) else None
    if receipt is not None and receipt.counter > arrival.machine.counter:
        arrival.unit.fleet.set_chain(arrival.machine.machine_id, int(receipt.counter), verdict.digest)
    if receipt is None or not verdict.accepted:
        return _keep_aside(arrival, verdict, int(receipt.counter) if receipt else 0)
    if arrival.machine.mldsa65_key is None and arrival.second is not None:
        arrival.unit.fleet.set_mldsa65_key(arrival.machine.machine_id, arrival.second.mldsa65_key)
    consequences.keep(
        consequences.Accepted(
            unit=arrival.unit,
            controller=arrival.controller,
            machine=arrival.machine,
            order=arrival.order,
            receipt=receipt,
            body=arrival.body,
            signature=arrival.signature,
            second=arrival.second,
            digest=verdict.digest,
            gap=verdict.gap,
            now=arrival.now,
        )
    )
    return Stored(verdict.digest, (), gap=verdict.gap)


def _peek(body: bytes) -> Receipt | None:
    try:
        return parse_statement(body).predicate
    except DocumentError:
        return None


def _verdict(arrival: _Arrival) -> ReceiptVerdict:
    unit, machine, receipt = arrival.unit, arrival.machine, arrival.receipt
    counter = int(receipt.counter) if receipt else 0
    near = {n: unit.evidence.digest_at(machine.machine_id, n) for n in range(counter - 1, counter + 2)}
    profile = None
    if receipt is not None and receipt.profile is not None:
        profile = policies.profile_with_digest(arrival.controller.home, receipt.profile.digest)
    return check_receipt(
        arrival.body,
        arrival.signature,
        agent_signers=key_history.agents_now(unit),
        order_body=None if arrival.order is None else arrival.order.body,
        known=KnownReceipts(
            last_counter=machine.counter,
            last_digest=machine.last_digest or NO_RECEIPT_BEFORE,
            digests={n: digest for n, digest in near.items() if digest is not None},
        ),
        delivered_by=machine.machine_id,
        profile=profile,
        second=arrival.second,
        mldsa65_key=machine.mldsa65_key,
    )


def _is_authentic(arrival: _Arrival, verdict: ReceiptVerdict) -> bool:
    """Whether the machine that delivered the receipt signed it, with every key it is known to have, and it says so itself."""
    machine_id = arrival.machine.machine_id
    return (
        verdict.signer is not None
        and verdict.signer.principal == fleet.agent_principal(machine_id)
        and arrival.receipt is not None
        and arrival.receipt.agent.machine_id == machine_id
        and SECOND not in [step.title for step in failures(verdict.steps)]
    )


def _keep_aside(arrival: _Arrival, verdict: ReceiptVerdict, counter: int) -> Stored:
    reasons = tuple(f"{step.title}: {step.detail}" for step in failures(verdict.steps))
    order, machine = arrival.order, arrival.machine
    arrival.unit.evidence.add_aside(
        AsideRow(
            digest=verdict.digest,
            machine_id=machine.machine_id,
            order_digest="" if order is None else order.digest,
            counter=counter,
            reasons=reasons,
            body=arrival.body,
            signature=arrival.signature,
            second=arrival.second,
            received_at=timestamp(arrival.now),
        )
    )
    ours = order is not None and order.machine_id == machine.machine_id
    if ours and order is not None and order.status is not OrderStatus.FINISHED:
        note = "Its receipt was kept aside: " + "; ".join(reasons)
        arrival.unit.orders.change(order, OrderStatus.ATTENTION, timestamp(arrival.now), note=note[:1000])
    return Stored(verdict.digest, reasons)
