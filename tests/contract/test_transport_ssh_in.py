"""The SSH endpoint against a real SSH client that plays the agent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.canonical import U64
from expunge_controller import fleet
from expunge_controller.context import Controller
from expunge_controller.keys import load_key
from expunge_controller.store.rows import OrderStatus
from expunge_controller.transport.channel import key_line
from expunge_controller.transport.registry import Registry
from expunge_controller.transport.ssh_in import Endpoint
from support.controllers import (
    FakeAgent,
    Wire,
    disk,
    enrolled,
    eventually,
    fresh_machine_id,
    make_controller,
    now,
    ordered,
    quiet_log,
)

Dial = Callable[..., Wire]


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = make_controller(tmp_path / "home", max_connections=6)
    yield made
    made.store.close()


@pytest.fixture
def endpoint(controller: Controller) -> Iterator[Endpoint]:
    made = Endpoint(controller, Registry(), quiet_log(), port=0)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def dial(endpoint: Endpoint) -> Iterator[Dial]:
    """Connects as a user with a key, and opens the subsystem."""
    opened: list[Wire] = []

    def connect(agent: FakeAgent, user: str = "agent", key: Any = None, subsystem: str = "expunge") -> Wire:
        transport = paramiko.Transport(socket.create_connection(("127.0.0.1", endpoint.port), 10))
        try:
            transport.start_client(timeout=10)
            transport.auth_publickey(user, key or agent.paramiko_key)
            channel = transport.open_session(timeout=10)
            channel.invoke_subsystem(subsystem)
        except BaseException:
            transport.close()
            raise
        opened.append(made := Wire(channel, transport))
        return made

    yield connect
    for line in opened:
        line.close()


def greeted(line: Wire, agent: FakeAgent, **changes: Any) -> Wire:
    line.send(agent.hello(**changes))
    line.expect(wire.Hello)
    return line


def still_serves(dial: Dial, agent: FakeAgent) -> None:
    """The endpoint goes on for well-behaved agents."""
    line = greeted(dial(agent), agent, instance="still there")
    line.send(wire.Ping())
    line.expect(wire.Pong)
    line.close()


def test_it_shows_the_controllers_host_key(controller: Controller, endpoint: Endpoint) -> None:
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", endpoint.port), 10))
    transport.start_client(timeout=10)
    line = key_line(transport.get_remote_server_key())
    transport.close()
    assert line == load_key(controller.home.ssh_host_key).public_line


@pytest.mark.parametrize(
    ("kind", "weak"),
    [
        ("ciphers", ["aes256-cbc", "aes128-cbc", "3des-cbc"]),
        ("digests", ["hmac-sha1", "hmac-md5", "hmac-sha1-96"]),
    ],
)
def test_weak_algorithms_are_not_agreed_on(endpoint: Endpoint, kind: str, weak: list[str]) -> None:
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", endpoint.port), 10))
    setattr(transport.get_security_options(), kind, weak)
    with pytest.raises(paramiko.SSHException):
        transport.start_client(timeout=10)
    transport.close()


def test_an_order_and_its_receipt_over_ssh(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    line = greeted(dial(agent), agent)
    assert line.expect(wire.SubmitOrder).document.bytes() == (order.body, order.signature)
    body, signature = agent.receipt(order.body)
    line.send(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(body, signature)))
    assert line.expect(wire.Acknowledge).receipt == canonical.sha256_hex(body)
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    assert (found.status, found.outcome) == (OrderStatus.FINISHED, "sanitized")


def test_an_unknown_key_does_not_get_in(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    with pytest.raises(paramiko.AuthenticationException):
        dial(FakeAgent())
    still_serves(dial, agent)


@pytest.mark.parametrize("user", ["root", "", "Agent"])
def test_other_users_do_not_get_in(controller: Controller, dial: Dial, user: str) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    with pytest.raises(paramiko.SSHException):
        dial(agent, user=user)
    still_serves(dial, agent)


@pytest.mark.parametrize("bits", [2048])
def test_keys_of_other_kinds_do_not_get_in(dial: Dial, bits: int) -> None:
    with pytest.raises(paramiko.AuthenticationException):
        dial(FakeAgent(), user="enrol", key=paramiko.RSAKey.generate(bits))


def test_passwords_do_not_get_in(endpoint: Endpoint) -> None:
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", endpoint.port), 10))
    transport.start_client(timeout=10)
    with pytest.raises(paramiko.BadAuthenticationType) as caught:
        transport.auth_password("agent", "password")
    transport.close()
    assert caught.value.allowed_types == ["publickey"]


def test_nothing_but_the_subsystem_is_served(controller: Controller, dial: Dial, endpoint: Endpoint) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    with pytest.raises(paramiko.SSHException):
        dial(agent, subsystem="sftp")
    transport = paramiko.Transport(socket.create_connection(("127.0.0.1", endpoint.port), 10))
    transport.start_client(timeout=10)
    transport.auth_publickey("agent", agent.paramiko_key)
    with pytest.raises(paramiko.ChannelException):
        transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 0), timeout=10)
    with pytest.raises(paramiko.SSHException):
        transport.request_port_forward("127.0.0.1", 0)
    channel = transport.open_session(timeout=10)
    with pytest.raises(paramiko.SSHException):
        channel.exec_command("id")
    transport.close()
    still_serves(dial, agent)


def test_a_machine_enrols_and_comes_back(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    line = dial(agent, user="enrol")
    line.send(agent.hello(instance=""), wire.EnrolRequest(document=wire.Document.of(*agent.enrolment(token))))
    line.expect(wire.Hello)
    assert line.expect(wire.Enrolled).name == "alpha"
    line.close()
    still_serves(dial, agent)


def test_a_token_used_twice_is_refused_in_words(controller: Controller, dial: Dial) -> None:
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    answers = []
    for agent in (FakeAgent(), FakeAgent(machine_id=fresh_machine_id())):
        line = dial(agent, user="enrol")
        line.send(agent.hello(), wire.EnrolRequest(document=wire.Document.of(*agent.enrolment(token))))
        line.expect(wire.Hello)
        answers.append(line.receive())
        line.close()
    assert isinstance(answers[0], wire.Enrolled)
    assert isinstance(answers[1], wire.Failure)
    assert (answers[1].code, "used already" in answers[1].message) == ("enrolment", True)


def test_an_enrolment_for_another_dial_key_is_refused(controller: Controller, dial: Dial) -> None:
    agent, thief = FakeAgent(), FakeAgent()
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    line = dial(thief, user="enrol")
    line.send(agent.hello(), wire.EnrolRequest(document=wire.Document.of(*agent.enrolment(token))))
    line.expect(wire.Hello)
    assert line.expect(wire.Failure).code == "peer-identity"


def test_a_frame_of_100_megabytes_costs_the_connection_only(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    line = greeted(dial(agent), agent)
    sent = 0
    chunk = b"x" * (1 << 20)
    try:
        while sent < 100 * len(chunk):
            line.channel.sendall(chunk)
            sent += len(chunk)
    except OSError:
        pass
    assert sent < 100 * len(chunk), "all of it was taken"
    still_serves(dial, agent)


def test_a_frame_over_the_limit_is_answered_in_words(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    line = greeted(dial(agent), agent)
    line.channel.sendall(b"x" * (wire.MAX_FRAME + 1))
    failure = line.expect(wire.Failure)
    assert "longer than" in failure.message
    assert line.receive() is None


@pytest.mark.parametrize("garbage", [b"\x00\x01\x02\n", b'{"type":"nonsense"}\n', b'{"type":"hel'])
def test_garbage_costs_the_connection_only(controller: Controller, dial: Dial, garbage: bytes) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    line = dial(agent)
    line.channel.sendall(garbage)
    if garbage.endswith(b"\n"):
        assert line.expect(wire.Failure).code == "protocol"
    line.close()
    still_serves(dial, agent)


def test_who_speaks_no_ssh_costs_nothing(controller: Controller, dial: Dial, endpoint: Endpoint) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    for said in (b"", b"GET / HTTP/1.0\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 5000):
        with socket.create_connection(("127.0.0.1", endpoint.port), 10) as plain:
            plain.sendall(said)
    still_serves(dial, agent)


def test_too_many_connections_are_turned_away_and_room_returns(
    controller: Controller, dial: Dial, endpoint: Endpoint
) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    silent = [socket.create_connection(("127.0.0.1", endpoint.port), 10) for _ in range(6)]
    for plain in silent:
        assert plain.recv(1)  # its banner: it has a place
    with socket.create_connection(("127.0.0.1", endpoint.port), 10) as turned_away:
        assert turned_away.recv(10) == b""
    for plain in silent:
        plain.close()
    eventually(lambda: _gets_in(dial, agent))


def _gets_in(dial: Dial, agent: FakeAgent) -> bool:
    try:
        still_serves(dial, agent)
    except (paramiko.SSHException, EOFError, OSError):
        return False
    return True


def test_a_second_agent_with_the_same_key_is_refused(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    first = greeted(dial(agent), agent, instance="one")
    answering = threading.Thread(target=lambda: _until_closed(first), daemon=True)
    answering.start()
    second = greeted(dial(agent), agent, instance="two")
    failure = second.expect(wire.Failure)
    assert failure.code == "duplicate-agent"
    with controller.store.read() as unit:
        row = unit.fleet.machine(machine.machine_id)
    assert row is not None
    assert "second agent" in row.note
    assert answering.is_alive()
    first.close()
    answering.join(10)


def _until_closed(line: Wire) -> None:
    try:
        while line.receive() is not None:
            pass
    except (TimeoutError, OSError):
        pass


def test_the_connection_is_killed_in_the_middle_and_nothing_is_lost(
    controller: Controller, dial: Dial
) -> None:
    """Cut at every step of an order's way; after the last one the receipt is stored exactly once."""
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    order = ordered(controller, machine)
    body, signature = agent.receipt(order.body)
    receipt = wire.encode(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(body, signature)))
    spooled = wire.encode(wire.OrderState(order=order.digest, state="spooled"))
    steps = [b"", spooled, spooled[:10], receipt[: len(receipt) // 2], receipt, receipt]
    for number, step in enumerate(steps):
        line = greeted(dial(agent), agent, instance=f"boot {number}")
        if number < 5:
            line.expect(wire.SubmitOrder)
        line.channel.sendall(step)
        if step == receipt:
            eventually(lambda: _receipts(controller) == 1)
        line.under.sock.close()  # not even a goodbye
        line.close()
    assert _receipts(controller) == 1
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    assert found.outcome == "sanitized"


def _receipts(controller: Controller) -> int:
    with controller.store.read() as unit:
        return len(unit.evidence.receipts(10))


def test_a_flipped_bit_and_a_gap_on_the_wire(controller: Controller, dial: Dial) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    first, second = ordered(controller, machine), ordered(controller, machine, disk(2))
    body, signature = agent.receipt(first.body)
    flipped = bytes([*body[:100], body[100] ^ 4, *body[101:]])
    gap = agent.receipt(second.body, counter=U64(5), previous="a" * 64)
    line = greeted(dial(agent), agent)
    for order, document in ((first, (flipped, signature)), (second, gap)):
        line.send(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(*document)))
        while not isinstance(answer := line.receive(), wire.Acknowledge):
            assert isinstance(answer, wire.SubmitOrder)
        assert answer.receipt == canonical.sha256_hex(document[0])
    with controller.store.read() as unit:
        (aside,) = unit.evidence.aside(10)
        (kept,) = unit.evidence.receipts(10)
        states = [unit.orders.get(order.digest) for order in (first, second)]
    assert (aside.body, kept.counter) == (flipped, 5)
    assert [state.status for state in states if state] == [OrderStatus.ATTENTION, OrderStatus.FINISHED]


def test_a_p256_dial_key_gets_in(controller: Controller, dial: Dial) -> None:
    from expunge_agent.protocol.sshsig import PrivateKeySigner

    agent = FakeAgent()
    key = ec.generate_private_key(ec.SECP256R1())
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    line_of_key = PrivateKeySigner(key).public_line
    body, signature = agent.enrolment(token, dial_key=line_of_key)
    fleet.enrol(controller, body, signature, proven_key=line_of_key, dialled=None, now=now())
    greeted(dial(agent, key=paramiko.ECDSAKey(vals=(key, key.public_key()))), agent)


def test_stopping_ends_every_session(controller: Controller, dial: Dial, endpoint: Endpoint) -> None:
    agent = FakeAgent()
    enrolled(controller, agent)
    line = greeted(dial(agent), agent)
    started = time.monotonic()
    endpoint.stop()
    assert line.receive() is None
    assert time.monotonic() - started < 8
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", endpoint.port), 2)
