"""One connection: what a well-behaved agent gets, and what a broken or hostile one costs."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from expunge_agent.errors import ExpungeError
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import fleet, rotating
from expunge_controller.context import Controller
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus
from expunge_controller.transport.registry import Registry
from expunge_controller.transport.session import Peer, Session
from support.controllers import (
    FakeAgent,
    SocketStream,
    Wire,
    disk,
    enrolled,
    eventually,
    in_thread,
    now,
    ordered,
    quiet_log,
)
from support.logs import fresh_signer


class Line:
    """A connection between a session under test and the test, which plays the agent."""

    def __init__(
        self, controller: Controller, peer: Peer, registry: Registry | None = None, until_idle: bool = False
    ) -> None:
        ours, theirs = socket.socketpair()
        self.session = Session(
            controller,
            SocketStream(theirs),
            peer,
            registry or Registry(),
            quiet_log(),
            until_idle=lambda: until_idle,
        )
        self.thread, self.raised = in_thread(self.session.run)
        self.wire = Wire(ours)

    def end(self) -> ExpungeError | None:
        """Hang up; what the session raised."""
        self.wire.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        error = self.raised[0] if self.raised else None
        assert error is None or isinstance(error, ExpungeError), error
        return error


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    made: list[Line] = []
    yield made
    for line in made:
        line.wire.close()
        line.thread.join(10)


def known(machine: MachineRow, agent: FakeAgent) -> Peer:
    return Peer(address="test", proven_key=agent.dial_line, machine=machine)


def greeted(line: Line, agent: FakeAgent, **changes: Any) -> Wire:
    line.wire.send(agent.hello(**changes))
    hello = line.wire.expect(wire.Hello)
    assert (hello.role, hello.name, hello.version) == ("controller", "test", 1)
    return line.wire


def status(controller: Controller, order: OrderRow) -> OrderStatus:
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    return found.status


def test_an_order_goes_down_and_events_and_receipt_come_up(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    handed = peer.expect(wire.SubmitOrder)
    assert handed.document.bytes() == (order.body, order.signature)
    assert status(controller, order) is OrderStatus.SENT
    peer.send(wire.OrderState(order=order.digest, state="spooled"))
    eventually(lambda: status(controller, order) is OrderStatus.ACCEPTED)
    started = Event(kind=EventKind.STEP_STARTED, order=order.digest, time=timestamp(now()), target=0, step=0)
    peer.send(wire.Progress(event=started))
    eventually(lambda: status(controller, order) is OrderStatus.RUNNING)
    body, signature = agent.receipt(order.body)
    peer.send(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(body, signature)))
    assert peer.expect(wire.Acknowledge).receipt == canonical.sha256_hex(body)
    assert status(controller, order) is OrderStatus.FINISHED
    assert line.end() is None


def test_orders_are_handed_over_one_at_a_time(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    orders = [ordered(controller, machine, disk(number)) for number in (1, 2)]
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    first = canonical.sha256_hex(peer.expect(wire.SubmitOrder).document.bytes()[0])
    assert sum(status(controller, order) is OrderStatus.SENT for order in orders) == 1
    peer.send(wire.OrderState(order=first, state="spooled"))
    second = canonical.sha256_hex(peer.expect(wire.SubmitOrder).document.bytes()[0])
    assert {first, second} == {order.digest for order in orders}


def test_a_new_connection_hands_the_same_order_over_again(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    """The connection is cut right after the order left; nobody knows whether it arrived."""
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    for _ in range(2):
        lines.append(line := Line(controller, known(machine, agent)))
        peer = greeted(line, agent)
        assert peer.expect(wire.SubmitOrder).document.bytes() == (order.body, order.signature)
        line.end()
    assert status(controller, order) is OrderStatus.SENT


def test_a_receipt_is_acknowledged_again_when_the_answer_was_lost(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    body, signature = agent.receipt(order.body)
    for _ in range(2):
        lines.append(line := Line(controller, known(machine, agent)))
        peer = greeted(line, agent)
        message = wire.ReceiptMessage(order=order.digest, document=wire.Document.of(body, signature))
        peer.send(message)
        answers = [peer.receive()]
        while not isinstance(answers[-1], wire.Acknowledge):
            answers.append(peer.receive())
        assert answers[-1].receipt == canonical.sha256_hex(body)
        line.end()


def test_a_bad_receipt_is_acknowledged_too(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.send(wire.ReceiptMessage(order="0" * 64, document=wire.Document.of(b"no receipt", b"no signature")))
    assert peer.expect(wire.Acknowledge).receipt == canonical.sha256_hex(b"no receipt")
    with controller.store.read() as unit:
        (kept,) = unit.evidence.aside(10)
    assert kept.body == b"no receipt"


def found(controller: Controller, order: OrderRow) -> OrderRow:
    with controller.store.read() as unit:
        row = unit.orders.get(order.digest)
    assert row is not None
    return row


@pytest.mark.parametrize("code", ["document", "protocol"])
def test_an_order_that_the_agent_cannot_use_needs_a_person(
    controller: Controller, agent: FakeAgent, lines: list[Line], code: str
) -> None:
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.expect(wire.SubmitOrder)
    peer.send(wire.Failure(code=code, message="What is this?", remedy="Update."))
    eventually(lambda: status(controller, order) is OrderStatus.ATTENTION)
    assert found(controller, order).note == f"The agent answered {code}: What is this? Update."
    assert found(controller, order).problem == code


@pytest.mark.parametrize("code", ["no-space", "busy", "state", "permission"])
def test_what_may_pass_is_tried_again_on_the_same_connection(
    controller: Controller, agent: FakeAgent, lines: list[Line], monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr("expunge_controller.transport.session.FIRST_PAUSE", 0.3)
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    for _ in range(2):
        peer.expect(wire.SubmitOrder)
        peer.send(wire.Failure(code=code, message="Not now.", remedy="Later."))
        eventually(lambda: found(controller, order).problem == code)
        assert found(controller, order).status is OrderStatus.SENT
        assert found(controller, order).note == f"The agent answered {code}: Not now. Later."
    peer.expect(wire.SubmitOrder)
    peer.send(wire.OrderState(order=order.digest, state="spooled"))
    eventually(lambda: status(controller, order) is OrderStatus.ACCEPTED)
    assert (found(controller, order).note, found(controller, order).problem) == ("", "")


def test_a_session_leaves_when_everything_is_handed_over_and_nobody_follows(
    controller: Controller, agent: FakeAgent, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge_controller.transport.session.LINGER_SECONDS", 0.5)
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    with controller.store.write() as unit:
        unit.orders.follow(order.digest, timestamp(now() + timedelta(seconds=60)))
    lines.append(line := Line(controller, known(machine, agent), until_idle=True))
    peer = greeted(line, agent)
    peer.expect(wire.SubmitOrder)
    peer.send(wire.OrderState(order=order.digest, state="running"))
    tick = Event(kind=EventKind.PROGRESS, order=order.digest, time=timestamp(now()), target=0)
    line.thread.join(1.5)
    assert line.thread.is_alive()  # somebody follows
    with controller.store.write() as unit:
        unit.orders.follow(order.digest, timestamp(now()))
    for _ in range(100):  # progress keeps nobody
        peer.send(wire.Progress(event=tick))
        line.thread.join(0.1)
        if not line.thread.is_alive():
            break
    assert not line.thread.is_alive()
    peer.expect(wire.Bye)
    assert status(controller, order) is OrderStatus.RUNNING


def test_a_question_left_in_the_store_is_asked_and_answered(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    with controller.store.write() as unit:
        number = unit.orders.ask(machine.machine_id, ["/disk.img"], timestamp(now()))
        old = unit.orders.ask(machine.machine_id, [], timestamp(now() - timedelta(hours=1)))
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    assert peer.expect(wire.InventoryRequest).paths == ["/disk.img"]
    answer = wire.Inventory(items=[], problems=["/disk.img: not there"])
    peer.send(answer)

    def status_of(request: int) -> str:
        with controller.store.read() as unit:
            row = unit.orders.request(request)
        assert row is not None
        return row.status

    eventually(lambda: status_of(number) == "answered")
    with controller.store.read() as unit:
        row = unit.orders.request(number)
    assert row is not None
    assert wire.decode(row.answer) == answer
    assert status_of(old) == "waiting"


def test_without_work_a_session_says_bye_only_when_asked_to(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent), until_idle=True))
    peer = greeted(line, agent)
    peer.expect(wire.Bye)
    assert line.end() is None


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b'{"type":"hello"}\n', "protocol"),
        (b"not json\n", "protocol"),
        (b"\xff\xfe\n", "protocol"),
        (b"[" * 100_000 + b"\n", "protocol"),
        (b'{"type":"ping","type":"ping"}\n', "protocol"),
        (b'{"type":"reboot"}\n', "protocol"),
        (wire.encode(wire.Ping()), "protocol"),
        (b"x" * (wire.MAX_FRAME + 1), "protocol"),
    ],
)
@pytest.mark.parametrize("greet", [False, True])
def test_what_is_no_message_costs_the_connection(
    controller: Controller, agent: FakeAgent, lines: list[Line], greet: bool, sent: bytes, code: str
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    if greet:
        greeted(line, agent)
        if sent == wire.encode(wire.Ping()):
            sent = wire.encode(wire.Enrolled(name="x"))  # an agent never says that
    line.wire.channel.sendall(sent)
    failure = line.wire.expect(wire.Failure)
    assert failure.code == code
    assert failure.remedy
    error = line.end()
    assert error is not None
    assert error.code == code


def test_a_frame_cut_short_is_told_from_a_plain_close(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    line.wire.channel.sendall(wire.encode(agent.hello())[:-20])
    error = line.end()
    assert error is not None
    assert "in the middle of a frame" in error.message


@pytest.mark.parametrize(
    "changes",
    [{"role": "controller"}, {"version": 2}, {"machine_id": "3" * 32}],
)
def test_a_wrong_hello_is_refused(
    controller: Controller, agent: FakeAgent, lines: list[Line], changes: dict[str, Any]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    line.wire.send(agent.hello(**changes))
    assert line.wire.receive() is not None
    assert line.end() is not None


def test_documents_in_broken_base64_cost_the_connection(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.send(wire.ReceiptMessage(order="0" * 64, document=wire.Document(body="%%%", signature="é")))
    assert peer.expect(wire.Failure).code == "document"


def test_an_inventory_that_nobody_asked_for_costs_the_connection(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.send(wire.Inventory(items=[], problems=[]))
    assert peer.expect(wire.Failure).code == "protocol"


def test_a_second_agent_with_the_same_identity_is_refused_and_shown(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    registry = Registry()
    lines.append(first := Line(controller, known(machine, agent), registry))
    peer = greeted(first, agent, instance="one")
    eventually(lambda: registry.is_live(machine.machine_id))
    in_thread(lambda: print(peer.receive()))  # answers pings
    lines.append(second := Line(controller, known(machine, agent), registry))
    copy = greeted(second, agent, instance="two")
    assert copy.expect(wire.Failure).code == "duplicate-agent"
    with controller.store.read() as unit:
        row = unit.fleet.machine(machine.machine_id)
    assert row is not None
    assert "second agent" in row.note
    assert first.thread.is_alive()


def test_a_second_agent_takes_over_when_the_first_is_gone(
    controller: Controller, agent: FakeAgent, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine lost power: its old connection is open but nobody answers on it."""
    monkeypatch.setattr("expunge_controller.transport.registry.PROOF_SECONDS", 0.6)
    machine = enrolled(controller, agent)
    registry = Registry()
    lines.append(first := Line(controller, known(machine, agent), registry))
    greeted(first, agent, instance="one")
    eventually(lambda: registry.is_live(machine.machine_id))
    order = ordered(controller, machine)
    eventually(lambda: status(controller, order) is OrderStatus.SENT)
    lines.append(second := Line(controller, known(machine, agent), registry))
    peer = greeted(second, agent, instance="two")
    assert peer.expect(wire.SubmitOrder).document.bytes() == (order.body, order.signature)
    first.thread.join(5)
    assert not first.thread.is_alive()


def test_the_same_agent_calling_again_replaces_its_older_connection(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    registry = Registry()
    lines.append(first := Line(controller, known(machine, agent), registry))
    greeted(first, agent)
    eventually(lambda: registry.is_live(machine.machine_id))
    lines.append(second := Line(controller, known(machine, agent), registry))
    greeted(second, agent)
    first.thread.join(5)
    assert not first.thread.is_alive()
    assert second.thread.is_alive()
    assert registry.count() == 1


def test_a_session_that_comes_too_late_is_ended(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    registry = Registry()
    registry.close()
    lines.append(line := Line(controller, known(machine, agent), registry))
    greeted(line, agent)
    line.thread.join(5)
    assert not line.thread.is_alive()
    assert registry.count() == 0


def test_a_machine_enrols_by_calling_in(controller: Controller, agent: FakeAgent, lines: list[Line]) -> None:
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    lines.append(line := Line(controller, Peer(address="test", proven_key=agent.dial_line)))
    line.wire.send(
        agent.hello(instance=""), wire.EnrolRequest(document=wire.Document.of(*agent.enrolment(token)))
    )
    line.wire.expect(wire.Hello)
    assert line.wire.expect(wire.Enrolled).name == "alpha"
    assert line.end() is None


def test_a_stranger_may_do_nothing_but_enrol(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    lines.append(line := Line(controller, Peer(address="test", proven_key=agent.dial_line)))
    peer = greeted(line, agent)
    receipt = wire.ReceiptMessage(order="0" * 64, document=wire.Document.of(b"{}", b""))
    peer.send(receipt)
    assert peer.expect(wire.Failure).code == "enrolment"
    with controller.store.read() as unit:
        assert unit.evidence.aside(1) == []


def test_a_full_disk_is_said_and_nothing_is_acknowledged(
    controller: Controller, agent: FakeAgent, lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy as sa

    from expunge_controller.store.sql_evidence import SqlEvidence

    def full(*_: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    monkeypatch.setattr(SqlEvidence, "add_aside", full)
    machine = enrolled(controller, agent)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.send(wire.ReceiptMessage(order="0" * 64, document=wire.Document.of(b"no receipt", b"")))
    assert peer.expect(wire.Failure).code == "no-space"


def test_every_frame_that_leaves_is_one_line_of_json(controller: Controller, agent: FakeAgent) -> None:
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    frame = wire.encode(wire.SubmitOrder(document=wire.Document.of(order.body, order.signature)))
    assert frame.count(b"\n") == 1
    assert base64.b64decode(json.loads(frame)["document"]["body"]) == order.body


def test_a_new_signing_key_comes_before_the_receipts_signed_with_it(
    controller: Controller, agent: FakeAgent, lines: list[Line]
) -> None:
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    lines.append(line := Line(controller, known(machine, agent)))
    peer = greeted(line, agent)
    peer.expect(wire.SubmitOrder)

    def rotation(secret: str) -> tuple[wire.RotateKey, PrivateKeySigner]:
        new = fresh_signer()
        body, signature, endorsement = agent.rotation(new, secret)
        told = wire.Document.of(body, signature)
        return wire.RotateKey(document=told, endorsement=endorsement.decode()), new

    # One without a token is refused, and the connection goes on.
    refused, _ = rotation("0" * 32)
    peer.send(refused)
    with controller.store.read() as unit:
        eventually(lambda: "new signing key was refused" in note_of(controller))
        assert fleet.machine_named(unit, "alpha").signing_key == machine.signing_key
    token = rotating.rotation_token(controller, machine, valid_for=timedelta(hours=1), now=now())
    accepted, new = rotation(token.secret)
    peer.send(accepted)
    agent.world.agent = new
    body, signature = agent.receipt(order.body)
    peer.send(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(body, signature)))
    assert peer.expect(wire.Acknowledge).receipt == canonical.sha256_hex(body)
    assert status(controller, order) is OrderStatus.FINISHED
    assert line.end() is None


def note_of(controller: Controller) -> str:
    with controller.store.read() as unit:
        return fleet.machine_named(unit, "alpha").note
