"""Orders: made, signed, handed over, followed. The agent executes; this side reconciles.

    created → sent → accepted → running → finished (by its receipt, see `intake`)
       ↓ never sent in time        ↓ the agent cannot use it, or a receipt kept aside
    expired, cancelled          attention

`sent` is recorded before the order leaves, so an order that may have arrived is never called
expired: it is handed over again, which re-attaches, until its receipt comes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from expunge_agent.errors import BusyError, NotFoundError, RefusedError, UsageError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, timestamp
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.identity import Target, is_identifying, subject_name
from expunge_agent.protocol.order import MAX_TARGETS, Order, ProfileRef, order_digest, parse_order
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.overlap import REMEDY, overlapping
from expunge_agent.protocol.wire import Document
from expunge_controller import key_history
from expunge_controller.context import Controller
from expunge_controller.fleet import agent_principal
from expunge_controller.ledger import append_custody, register_medium
from expunge_controller.problems import FINAL_ANSWERS
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import CustodyKind, Standing, parse_custody_event
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import OPEN, MachineRow, OrderRow, OrderStatus
from expunge_profiles.schema import Profile

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far an agent's clock may lag before it holds an order for not yet valid."""
STATUS_OF_AGENT = {"spooled": OrderStatus.ACCEPTED, "running": OrderStatus.RUNNING}
RANK = {status: rank for rank, status in enumerate(OPEN)}


def draft_order(
    controller: Controller,
    machine: MachineRow,
    targets: Sequence[Target],
    profile: Profile,
    *,
    level: Level | None,
    requested_by: str,
    case_number: str,
    reason: str,
    expires_in: timedelta,
    allow_downgrade: bool,
    now: datetime,
    deactivate: bool = False,
    keys: KeyWish | None = None,
    allow_exceptions: bool = False,
    keep: bool = False,
) -> Order:
    """The order as it would be signed; nothing is kept.

    Raises UsageError for no target, too many, one named twice, or a level that the profile does
    not aim at; RefusedError for a target without identity, and for a drive beside its own partition.
    """
    _check_targets(targets)
    wanted = level or Level(profile.level)
    if not Level(profile.level).reaches(wanted) and not allow_downgrade:
        raise UsageError(
            f"The profile {profile.id} aims at {profile.level}; {wanted} was asked for.",
            "Choose another profile, or accept less with --allow-downgrade.",
        )
    return Order(
        format="expunge/order/v1",
        order_id=f"o-{now:%Y%m%d}-{secrets.token_hex(4)}",
        machine_id=machine.machine_id,
        issuer=controller.principal,
        issued_at=timestamp(now),
        not_before=timestamp(now - CLOCK_TOLERANCE),
        expires=timestamp(now + expires_in),
        requested_by=requested_by,
        case_number=case_number,
        reason=reason,
        level=wanted,
        allow_downgrade=allow_downgrade,
        profile=ProfileRef(id=profile.id, version=profile.version, digest=profile.digest),
        targets=list(targets),
        approvals=[],
        nonce=secrets.token_hex(16),
        deactivate=deactivate,
        keys=keys,
        allow_exceptions=allow_exceptions,
        keep=keep,
    )


def create_order(controller: Controller, order: Order, now: datetime) -> OrderRow:
    """Sign and keep `order`; its media are registered and their custody says ``requested``.

    Raises BusyError when another open order names one of its media, RefusedError for a machine whose key was revoked.
    """
    body = canonical.dumps(order)
    row = OrderRow(
        digest=order_digest(body),
        order_id=order.order_id,
        machine_id=order.machine_id,
        body=body,
        signature=sshsig.sign(controller.signer, sshsig.ORDER_NAMESPACE, body),
        status=OrderStatus.CREATED,
        outcome="",
        rev=0,
        created_at=timestamp(now),
        updated_at=timestamp(now),
        expires_at=order.expires,
        note="",
    )
    with controller.store.write() as unit:
        _check_free(unit, order)
        key_history.must_be_good(unit, order.machine_id)
        unit.orders.add(row)
        for target in order.targets:
            medium = register_medium(
                unit,
                controller,
                target.identity,
                machine_id=order.machine_id,
                hint=target.hint,
                actor=order.requested_by,
                now=now,
            )
            append_custody(
                unit,
                controller,
                medium,
                CustodyKind.REQUESTED,
                actor=order.requested_by,
                now=now,
                order=row.digest,
                order_id=row.order_id,
                note=f"profile {order.profile.id} version {order.profile.version}, level {order.level}",
            )
    return row


def advance(controller: Controller, digest: str, now: datetime) -> OrderRow | None:
    """Take the next step of an order that an agent is ready for; asking again changes nothing.

    Returns the order when it must be handed over now, None when there is nothing to do.
    """
    with controller.store.write() as unit:
        order = unit.orders.get(digest)
        if order is None or order.status not in OPEN:
            return None
        if order.status is OrderStatus.CREATED:
            if _expire(unit, controller, order, now):
                return None
            unit.orders.change(order, OrderStatus.SENT, timestamp(now))
        return unit.orders.get(digest)


def expire_unsent(controller: Controller, now: datetime) -> list[str]:
    """Close orders that never left and may no longer; returns their ids."""
    moment = timestamp(now)
    with controller.store.read() as unit:
        due = [row for row in unit.orders.all_open() if _is_due(row, moment)]
    if not due:
        return []
    with controller.store.write() as unit:
        fresh = [unit.orders.get(row.digest) for row in due]
        return [row.order_id for row in fresh if row is not None and _expire(unit, controller, row, now)]


def targets_of(order: OrderRow) -> list[Target]:
    """The targets that an order names."""
    return parse_order(order.body).targets


def document_of(order: OrderRow) -> Document:
    """The order as the wire carries it."""
    return Document.of(order.body, order.signature)


def record_state(controller: Controller, machine_id: str, digest: str, state: str, now: datetime) -> None:
    """Note what the agent says of an order; ``finished`` waits for the receipt, which is the fact."""
    status = STATUS_OF_AGENT.get(state)
    if status is None:
        return
    with controller.store.write() as unit:
        order = _order_of(unit, machine_id, digest)
        if order is not None:
            _forward(unit, order, status, now)


def record_event(controller: Controller, machine_id: str, event: Event, now: datetime) -> None:
    """Keep an event of an order: progress replaces progress, everything else is appended once."""
    body = canonical.dumps(event)
    with controller.store.write() as unit:
        order = _order_of(unit, machine_id, event.order)
        if order is None:
            return
        if event.kind is EventKind.PROGRESS:
            unit.orders.set_progress(order.digest, body)
        elif not unit.orders.add_event(order.digest, body):
            return
        if event.kind is EventKind.SPOOLED:
            _forward(unit, order, OrderStatus.ACCEPTED, now)
        elif event.kind is not EventKind.FINISHED:
            _forward(unit, order, OrderStatus.RUNNING, now)
        if event.kind is EventKind.STEP_STARTED and order.status in OPEN:
            _record_start(unit, controller, order, event.target, now)


def reject(
    controller: Controller, machine_id: str, digest: str, why: str, now: datetime, *, code: str = "document"
) -> None:
    """The agent did not take the order, for the reason `why` with the word `code`.

    What may pass (a full disk, a busy lock) leaves the order as it stands, to be handed over again;
    for an answer that the same order would get again (`FINAL_ANSWERS`) a person must look.
    """
    with controller.store.write() as unit:
        order = _order_of(unit, machine_id, digest)
        if order is not None and order.status in OPEN:
            status = OrderStatus.ATTENTION if code in FINAL_ANSWERS else order.status
            unit.orders.change(order, status, timestamp(now), note=why[:1000], problem=code)


def cancel(controller: Controller, text: str, *, by: str, reason: str, now: datetime) -> OrderRow:
    """Close the order called `text` (see `find_order`) that was never sent; its media are free again.

    Raises RefusedError for an order that left already or has ended: it cannot be recalled.
    """
    with controller.store.write() as unit:
        order = find_order(unit, text)
        if order.status is not OrderStatus.CREATED:
            raise RefusedError(
                f"The order {order.order_id} is {order.status}: only one that was never sent can be cancelled.",
                "What was sent cannot be recalled; it ends with its receipt.",
            )
        note = f"Cancelled by {by}, never sent." + (f" {reason}" if reason else "")
        unit.orders.change(order, OrderStatus.CANCELLED, timestamp(now), note=note[:1000])
        _release(unit, controller, order, by, note, now)
        return find_order(unit, order.digest)


def find_order(unit: Unit, text: str) -> OrderRow:
    """The order with the id `text`, or whose digest begins with it. Raises NotFoundError."""
    found = unit.orders.find(text) if len(text) >= 6 else []
    if not found:
        raise NotFoundError(f"There is no order {text!r}.", "See `expunge jobs`.")
    if len(found) > 1:
        raise NotFoundError(f"{len(found)} orders begin with {text!r}.", "Give more of the digest.")
    return found[0]


def _check_targets(targets: Sequence[Target]) -> None:
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise UsageError(
            f"An order names 1 to {MAX_TARGETS} targets, not {len(targets)}.",
            "Give a path or a serial number.",
        )
    seen = set()
    for target in targets:
        name, digest = medium_of(target.identity)
        if not is_identifying(target.identity):
            raise RefusedError(
                f"{target.hint or name} has neither serial number nor WWN, so an order cannot name it.",
                "Run `expunge-agent wipe` on the machine itself, where it can be seen which medium is meant.",
            )
        if digest in seen:
            raise UsageError(f"{name} is named twice.", "Name every target once.")
        seen.add(digest)
    if text := overlapping(targets):
        raise RefusedError(text, REMEDY)


def _check_free(unit: Unit, order: Order) -> None:
    wanted = {medium_of(target.identity)[1] for target in order.targets}
    for other in unit.orders.open_of(order.machine_id):
        for target in parse_order(other.body).targets:
            if medium_of(target.identity)[1] in wanted:
                raise BusyError(
                    f"The open order {other.order_id} names {subject_name(target.identity)} already.",
                    f"Follow it with `expunge jobs {other.order_id} --follow`.",
                )


def _order_of(unit: Unit, machine_id: str, digest: str) -> OrderRow | None:
    """The order, unless it is another machine's: an agent speaks only of its own."""
    order = unit.orders.get(digest)
    return order if order is not None and order.machine_id == machine_id else None


def _forward(unit: Unit, order: OrderRow, status: OrderStatus, now: datetime) -> None:
    """Move an open order on to `status`, never back; the agent has it, so what kept it out is over."""
    if order.status not in RANK:
        return
    status = max(status, order.status, key=RANK.__getitem__)
    if order.problem:
        unit.orders.change(order, status, timestamp(now), note="")
    elif status is not order.status:
        unit.orders.change(order, status, timestamp(now))


def _is_due(order: OrderRow, moment: str) -> bool:
    return order.status is OrderStatus.CREATED and order.expires_at <= moment


def _expire(unit: Unit, controller: Controller, order: OrderRow, now: datetime) -> bool:
    if not _is_due(order, timestamp(now)):
        return False
    note = "The agent was not reached before the order expired; nothing was wiped."
    unit.orders.change(order, OrderStatus.EXPIRED, timestamp(now), note=note)
    _release(unit, controller, order, controller.principal, note, now)
    return True


def _release(
    unit: Unit, controller: Controller, order: OrderRow, actor: str, note: str, now: datetime
) -> None:
    """Record with every medium that waits for `order` that nothing will come of it."""
    for target in parse_order(order.body).targets:
        medium = unit.evidence.medium(medium_of(target.identity)[1])
        last = unit.evidence.last_custody(medium.digest) if medium is not None else None
        if medium is None or last is None or parse_custody_event(last.body).standing is not Standing.ORDERED:
            continue
        append_custody(
            unit,
            controller,
            medium,
            CustodyKind.CANCELLED,
            actor=actor,
            now=now,
            order=order.digest,
            order_id=order.order_id,
            note=note[:1000],
        )


def _record_start(unit: Unit, controller: Controller, order: OrderRow, target: int, now: datetime) -> None:
    targets = parse_order(order.body).targets
    if not 0 <= target < len(targets):
        return
    _, digest = medium_of(targets[target].identity)
    medium = unit.evidence.medium(digest)
    if medium is None or unit.evidence.has_custody(digest, str(CustodyKind.WIPE_STARTED), order.digest):
        return
    append_custody(
        unit,
        controller,
        medium,
        CustodyKind.WIPE_STARTED,
        actor=agent_principal(order.machine_id),
        now=now,
        order=order.digest,
        order_id=order.order_id,
    )
