"""Orders: signed, kept, moved forward only, expired only when they never left."""

from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from expunge_agent.errors import BusyError, NotFoundError, RefusedError, UsageError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Level, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.order import parse_order
from expunge_controller import dispatch, fleet
from expunge_controller.context import Controller
from expunge_controller.records.consistency import medium_of
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus
from support.controllers import FakeAgent, disk, enrolled, now, ordered


def again(controller: Controller, order: OrderRow) -> OrderRow:
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    return found


def custody(controller: Controller, number: int = 1) -> list[str]:
    with controller.store.read() as unit:
        return [event.event for event in unit.evidence.custody(medium_of(disk(number))[1])]


def event(order: OrderRow, kind: EventKind, **changes: object) -> Event:
    made = Event(kind=kind, order=order.digest, time=timestamp(now()))
    return replace(made, **changes)


def test_an_order_is_signed_kept_and_custody_begins(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    assert sshsig.verify(order.signature, sshsig.ORDER_NAMESPACE, order.body) == controller.signer.public_line
    document = parse_order(order.body)
    assert (document.issuer, document.machine_id) == ("controller:test", machine.machine_id)
    assert document.not_before < document.issued_at < document.expires
    assert again(controller, order) == order
    assert order.status is OrderStatus.CREATED
    assert custody(controller) == ["registered", "requested"]


def test_a_medium_is_registered_once(controller: Controller, machine: MachineRow) -> None:
    first = ordered(controller, machine)
    dispatch.reject(controller, machine.machine_id, first.digest, "no", now())
    ordered(controller, machine)
    assert custody(controller) == ["registered", "requested", "requested"]


def test_two_open_orders_for_one_medium_are_refused(controller: Controller, machine: MachineRow) -> None:
    first = ordered(controller, machine)
    with pytest.raises(BusyError, match=first.order_id):
        ordered(controller, machine, disk(2), disk(1))
    ordered(controller, machine, disk(3))
    assert custody(controller, 2) == []


def test_bad_targets_are_refused_before_anything_is_kept(controller: Controller, machine: MachineRow) -> None:
    with pytest.raises(UsageError, match="twice"):
        ordered(controller, machine, disk(1), disk(1))
    with pytest.raises(RefusedError, match="neither serial number nor WWN"):
        ordered(controller, machine, replace(disk(1), serial=" ", wwn=""))
    part = replace(disk(1), size=U64(1 << 20), instance="part2@1048576")
    with pytest.raises(RefusedError, match=r"^Target 3.* lies on target 1"):
        ordered(controller, machine, disk(1), disk(2), part)
    with pytest.raises(UsageError, match="1 to 64 targets"):
        ordered(controller, machine, *(disk(number) for number in range(65)))
    with pytest.raises(UsageError, match="aims at clear"):
        ordered(controller, machine, level=Level.PURGE)
    with controller.store.read() as unit:
        assert unit.orders.newest(10) == []
        assert unit.evidence.media() == []


def test_less_may_be_accepted_in_words(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine, level=Level.PURGE, allow_downgrade=True)
    assert parse_order(order.body).level is Level.PURGE


def test_an_order_moves_forward_and_never_back(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    handed_over = dispatch.advance(controller, order.digest, now())
    assert handed_over is not None
    assert (handed_over.status, handed_over.body) == (OrderStatus.SENT, order.body)
    dispatch.record_state(controller, machine.machine_id, order.digest, "running", now())
    dispatch.record_state(controller, machine.machine_id, order.digest, "spooled", now())
    assert again(controller, order).status is OrderStatus.RUNNING
    dispatch.record_state(controller, machine.machine_id, order.digest, "finished", now())
    assert again(controller, order).status is OrderStatus.RUNNING  # the receipt is the fact
    before = again(controller, order)
    assert dispatch.advance(controller, order.digest, now()) == before  # handed over again: re-attach


def test_an_order_that_never_left_expires(controller: Controller, machine: MachineRow) -> None:
    late = now() + timedelta(hours=25)
    first, second = ordered(controller, machine), ordered(controller, machine, disk(2))
    dispatch.advance(controller, second.digest, now())
    assert dispatch.expire_unsent(controller, now()) == []
    assert dispatch.expire_unsent(controller, late) == [first.order_id]
    assert again(controller, first).status is OrderStatus.EXPIRED
    assert again(controller, second).status is OrderStatus.SENT  # it may have arrived
    assert dispatch.advance(controller, first.digest, late) is None
    assert dispatch.advance(controller, second.digest, late) is not None


def test_an_order_that_expired_is_not_handed_over_even_without_a_sweep(
    controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    assert dispatch.advance(controller, order.digest, now() + timedelta(hours=25)) is None
    assert again(controller, order).status is OrderStatus.EXPIRED


def test_events_are_kept_once_and_progress_replaces_progress(
    controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    begun = event(order, EventKind.STARTED)
    started = event(order, EventKind.STEP_STARTED, target=0, title="pass 1 of 2")
    for _ in range(2):  # a re-attached watcher gets everything again
        dispatch.record_event(controller, machine.machine_id, begun, now())
        dispatch.record_event(controller, machine.machine_id, started, now())
        for done in (1, 2):
            tick = event(order, EventKind.PROGRESS, target=0, done=U64(done), total=U64(9))
            dispatch.record_event(controller, machine.machine_id, tick, now())
    with controller.store.read() as unit:
        assert len(unit.orders.events(order.digest, 0)) == 2
        assert b'"done":"2"' in (unit.orders.progress(order.digest) or b"")
    assert again(controller, order).status is OrderStatus.RUNNING
    assert custody(controller) == ["registered", "requested", "wipe-started"]


def test_a_machine_speaks_only_of_its_own_orders(controller: Controller, machine: MachineRow) -> None:
    stranger = enrolled(controller, FakeAgent(machine_id="2" * 32), "beta")
    order = ordered(controller, machine)
    dispatch.record_state(controller, stranger.machine_id, order.digest, "running", now())
    dispatch.record_event(controller, stranger.machine_id, event(order, EventKind.STARTED), now())
    dispatch.reject(controller, stranger.machine_id, order.digest, "no", now())
    assert again(controller, order) == order
    with controller.store.read() as unit:
        assert unit.orders.events(order.digest, 0) == []


def test_events_about_targets_that_are_not_there_do_no_harm(
    controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    for target in (-1, 1, 10**9):
        dispatch.record_event(
            controller, machine.machine_id, event(order, EventKind.STEP_STARTED, target=target), now()
        )
    assert custody(controller) == ["registered", "requested"]


def test_orders_are_found_by_id_and_by_digest(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    with controller.store.read() as unit:
        assert dispatch.find_order(unit, order.order_id) == order
        assert dispatch.find_order(unit, order.digest[:8]) == order
        for text in ("", "o-", "%", "______", "o-20260101-00000000"):
            with pytest.raises(NotFoundError):
                dispatch.find_order(unit, text)
        assert fleet.machine_named(unit, "alpha") == fleet.machine_named(unit, machine.machine_id)


def test_a_late_event_of_a_closed_order_starts_nothing(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    dispatch.reject(controller, machine.machine_id, order.digest, "no", now())
    started = event(order, EventKind.STEP_STARTED, target=0)
    dispatch.record_event(controller, machine.machine_id, started, now())
    assert custody(controller) == ["registered", "requested"]


def test_an_expired_order_sets_its_medium_free(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    dispatch.expire_unsent(controller, now() + timedelta(hours=25))
    assert again(controller, order).status is OrderStatus.EXPIRED
    assert custody(controller) == ["registered", "requested", "cancelled"]
