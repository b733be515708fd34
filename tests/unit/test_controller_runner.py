"""The runner: nobody waits for a slot behind long wipes, and why a machine is not reached is kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from expunge_agent.errors import PeerIdentityError
from expunge_agent.protocol import wire
from expunge_controller import fleet, problems, runner
from expunge_controller.cli.reach import running_for, wait_for
from expunge_controller.context import Controller
from expunge_controller.runner import Runner, only_server
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus, Reach, SshAddress
from expunge_controller.transport import ssh_out
from expunge_controller.transport.registry import Registry
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


class Machines:
    """Dialled machines whose agents take every order and never finish; each by its host name."""

    def __init__(self) -> None:
        self.agents: dict[str, FakeAgent] = {}
        self.calls: list[str] = []
        self.lines: list[Wire] = []

    def dial(self, _controller: Controller, address: SshAddress) -> SocketStream:
        """What the runner calls instead of SSH."""
        self.calls.append(address.host)
        ours, theirs = socket.socketpair()
        line = Wire(ours)
        self.lines.append(line)
        in_thread(lambda: self._talk(line, self.agents[address.host]))
        stream = SocketStream(theirs)
        stream.host_key = address.host_key  # type: ignore[attr-defined]
        return stream

    def _talk(self, line: Wire, agent: FakeAgent) -> None:
        line.send(agent.hello(instance=""))
        while (message := line.receive()) is not None and not isinstance(message, wire.Bye):
            if isinstance(message, wire.SubmitOrder):
                digest = wire.canonical.sha256_hex(message.document.bytes()[0])
                line.send(wire.OrderState(order=digest, state="running"))
        line.close()


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machines]:
    made = Machines()
    monkeypatch.setattr(ssh_out, "dial", made.dial)
    monkeypatch.setattr("expunge_controller.transport.session.LINGER_SECONDS", 0.3)
    yield made
    for line in made.lines:
        line.close()


def dialled(controller: Controller, machines: Machines, number: int) -> tuple[MachineRow, OrderRow]:
    """A machine that is dialled, with an order."""
    agent = machines.agents[f"host-{number}"] = FakeAgent(machine_id=str(number) * 32)
    address = SshAddress(user="root", host=f"host-{number}", port=22, host_key=agent.dial_line)
    machine = enrolled(controller, agent, f"machine-{number}", address)
    return machine, ordered(controller, machine, disk(number))


def order_now(controller: Controller, order: OrderRow) -> OrderRow:
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    return found


def test_long_wipes_leave_room_for_the_next_machine(
    controller: Controller, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MAX_DIALS", 2)
    orders = [dialled(controller, machines, number)[1] for number in range(1, 6)]
    with controller.store.write() as unit:  # somebody follows all of them
        for order in orders:
            unit.orders.follow(order.digest, "2999-01-01T00:00:00Z")
    made = Runner(controller, Registry(), quiet_log())
    made.start()
    try:
        for order in orders:
            eventually(lambda row=order: order_now(controller, row).status is OrderStatus.RUNNING, 20)
    finally:
        made.stop()


def test_a_machine_at_work_is_called_again_but_not_at_once(
    controller: Controller, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "REVISIT", (3.0, 3.0))
    machine, order = dialled(controller, machines, 1)
    made = Runner(controller, Registry(), quiet_log())
    made.start()
    try:
        eventually(lambda: made._attempts.get("machine-1") and made._attempts["machine-1"].left)
        assert order_now(controller, order).status is OrderStatus.RUNNING
        assert machines.calls == ["host-1"]
        ordered(controller, machine, disk(2))  # news go at once
        eventually(lambda: len(machines.calls) == 2, 2.5)
        eventually(lambda: len(machines.calls) == 3, 10)
    finally:
        made.stop()


def test_why_a_machine_is_not_reached_is_kept_and_told_to_other_processes(
    controller: Controller, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, _ = dialled(controller, machines, 1)

    def wrong_key(*_: object) -> None:
        raise PeerIdentityError("The host key of host-1 is another one.", "Find out why.")

    def kept() -> str:
        with controller.store.read() as unit:
            return fleet.machine_named(unit, "machine-1").problem

    made = Runner(controller, Registry(), quiet_log())
    with only_server(controller.home):
        with monkeypatch.context() as patch:
            patch.setattr(ssh_out, "dial", wrong_key)
            made.start()
            with (
                running_for(controller, machine.name, Reach.SSH) as problem,
                pytest.raises(PeerIdentityError, match="another one") as caught,
            ):
                wait_for(lambda: None, seconds=10, problem=problem)
            assert caught.value.exit_code == 15
            assert kept()
        try:
            eventually(lambda: not kept(), 15)  # a call that goes through ends it
        finally:
            made.stop()


def test_a_token_keeps_its_problem_too(controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    def wrong_key(*_: object) -> None:
        raise PeerIdentityError("The host key is another one.", "Find out why.")

    monkeypatch.setattr(ssh_out, "dial", wrong_key)
    address = SshAddress(user="root", host="host-1", port=22, host_key="SHA256:" + "A" * 43)
    fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=address, now=now())
    made = Runner(controller, Registry(), quiet_log())
    with only_server(controller.home):
        made.start()
        try:
            with (
                running_for(controller, "alpha", Reach.SSH) as problem,
                pytest.raises(PeerIdentityError, match="another one"),
            ):
                wait_for(lambda: None, seconds=10, problem=problem)
        finally:
            made.stop()


def test_errors_come_back_from_the_store_with_their_codes() -> None:
    error = problems.thawed(problems.frozen(PeerIdentityError("a", "b")))
    assert isinstance(error, PeerIdentityError)
    assert (error.message, error.remedy) == ("a", "b")
    assert problems.thawed("") is None
    assert problems.error_class("no such word").exit_code == 1


def test_a_new_address_forgets_the_old_problem(controller: Controller, machines: Machines) -> None:
    machine, _ = dialled(controller, machines, 1)
    with controller.store.write() as unit:
        unit.fleet.set_problem(machine.machine_id, problems.frozen(PeerIdentityError("a", "b")))
    assert machine.ssh is not None
    assert fleet.readdress(controller, machine.name, machine.ssh)
    with controller.store.read() as unit:
        assert fleet.machine_named(unit, machine.name).problem == ""
