"""Dialling a real sshd: the host key decides, the forced command speaks, jump hosts are opened by us."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.errors import PeerIdentityError, TransportError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import fleet
from expunge_controller.cli.reach import ask_inventory
from expunge_controller.cli.targets import target_of
from expunge_controller.context import Controller
from expunge_controller.dispatch import create_order, draft_order
from expunge_controller.keys import load_key
from expunge_controller.runner import Runner
from expunge_controller.store.rows import MachineRow, OrderStatus, Reach, SshAddress
from expunge_controller.transport.registry import Registry
from expunge_controller.transport.ssh_out import Dialled, dial
from expunge_profiles.load import builtin
from support.controllers import eventually, make_controller, now, quiet_log
from support.sshd import SSHD, Sshd, separation

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd (package openssh-server)")
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def privilege_separation() -> Iterator[None]:
    with separation():
        yield


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = make_controller(
        tmp_path / "home",
        ssh_config=str(tmp_path / "ssh_config"),
        known_hosts=str(tmp_path / "known_hosts"),
    )
    yield made
    made.store.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sshd]]:
    """Starts sshds with an authorized_keys text."""
    started: list[Sshd] = []

    def make(authorized: str, forwarding: bool = False) -> Sshd:
        started.append(made := Sshd(tmp_path / f"sshd-{len(started)}", authorized, forwarding))
        return made

    yield make
    for server in started:
        server.stop()


def client_line(controller: Controller) -> str:
    return load_key(controller.home.ssh_client_key).public_line


def forced(controller: Controller, command: str) -> str:
    return f'restrict,command="{command}" {client_line(controller)}'


def agent_command(state: Path) -> str:
    return f"{sys.executable} -m expunge_agent --state {state} serve --run-orders"


def enrol_agent(controller: Controller, server: Sshd, state: Path, name: str = "alpha") -> None:
    """Type the token on the machine; the controller has yet to call."""
    token = fleet.create_token(controller, name, valid_for=HOUR, ssh=server.address(), now=now())
    subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", str(state), "enrol", token.text()],
        check=True,
        capture_output=True,
    )


@pytest.fixture
def runner(controller: Controller) -> Iterator[Runner]:
    made = Runner(controller, Registry(), quiet_log())
    made.start()
    yield made
    made.stop()


def machine_called(controller: Controller, name: str = "alpha") -> MachineRow | None:
    with controller.store.read() as unit:
        return unit.fleet.machine_named(name)


def test_enrolment_inventory_order_and_receipt_through_sshd(
    controller: Controller, start: Callable[..., Sshd], tmp_path: Path, runner: Runner
) -> None:
    state, image = tmp_path / "agent", tmp_path / "disk.img"
    image.write_bytes(b"a record of a person;" * 100_000)
    server = start(forced(controller, agent_command(state)))
    enrol_agent(controller, server, state)
    machine = eventually(lambda: machine_called(controller), 30)
    assert (machine.reach, machine.ssh) == (Reach.SSH, server.address())

    answer = ask_inventory(controller, machine, [str(image)])
    (item,) = (item for item in answer.items if item.path == str(image))
    order = draft_order(
        controller,
        machine,
        [target_of(item)],
        builtin()["random-verified"],
        level=None,
        requested_by="records officer",
        case_number="",
        reason="",
        expires_in=HOUR,
        allow_downgrade=False,
        now=now(),
    )
    kept = create_order(controller, order, now())

    def finished() -> bool:
        with controller.store.read() as unit:
            found = unit.orders.get(kept.digest)
        assert found is not None
        assert found.status is not OrderStatus.ATTENTION, found.note
        return found.status is OrderStatus.FINISHED

    eventually(finished, 60)
    with controller.store.read() as unit:
        receipt = unit.evidence.receipt_of_order(kept.digest)
        assert unit.evidence.aside(1) == []
    assert receipt is not None
    assert receipt.outcome == "sanitized"
    assert b"a record of a person" not in image.read_bytes()


def test_another_host_key_is_refused_with_both_fingerprints(
    controller: Controller, start: Callable[..., Sshd]
) -> None:
    server = start(forced(controller, "cat"))
    expected = PrivateKeySigner(Ed25519PrivateKey.generate()).public_line
    for pinned in (expected, sshsig.fingerprint(expected)):
        with pytest.raises(PeerIdentityError) as caught:
            dial(controller, server.address(host_key=pinned))
        assert sshsig.fingerprint(server.host_key) in caught.value.message
        assert sshsig.fingerprint(expected) in caught.value.message


def test_a_pinned_key_of_another_type_is_not_replaced_by_one_on_offer(
    controller: Controller, start: Callable[..., Sshd]
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    server = start(forced(controller, "cat"))
    pinned = PrivateKeySigner(ec.generate_private_key(ec.SECP256R1())).public_line
    with pytest.raises(TransportError):
        dial(controller, server.address(host_key=pinned))


def test_a_fingerprint_becomes_the_whole_key_at_the_first_call(
    controller: Controller, start: Callable[..., Sshd], tmp_path: Path, runner: Runner
) -> None:
    server = start(forced(controller, agent_command(tmp_path / "agent")))
    pinned = server.address(host_key=sshsig.fingerprint(server.host_key))
    token = fleet.create_token(controller, "alpha", valid_for=HOUR, ssh=pinned, now=now())
    subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", str(tmp_path / "agent"), "enrol", token.text()],
        check=True,
        capture_output=True,
    )
    eventually(lambda: machine_called(controller) or (runner._attempts.clear() or None), 30)
    machine = machine_called(controller)
    assert machine is not None
    assert machine.ssh == server.address()


def test_a_key_that_the_machine_does_not_know_is_said(
    controller: Controller, start: Callable[..., Sshd]
) -> None:
    server = start("# nobody")
    with pytest.raises(TransportError, match="does not take the controller's key"):
        dial(controller, server.address())


def test_nobody_answers(controller: Controller) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        address = SshAddress(user="root", host="127.0.0.1", port=port, host_key="SHA256:" + "A" * 43)
        with pytest.raises(TransportError, match="cannot be reached"):
            dial(controller, address)


def test_what_a_machine_without_agent_says_is_passed_on(
    controller: Controller, start: Callable[..., Sshd], runner: Runner
) -> None:
    server = start(forced(controller, "echo expunge-agent is not installed here >&2; exit 127"))
    fleet.create_token(controller, "alpha", valid_for=HOUR, ssh=server.address(), now=now())
    problem = eventually(lambda: runner.problem("alpha"), 30)
    assert "expunge-agent is not installed here (exit status 127)" in problem.message


def test_a_machine_that_floods_standard_error_is_heard_all_the_same(
    controller: Controller, start: Callable[..., Sshd]
) -> None:
    server = start(forced(controller, "head -c 9000000 /dev/zero >&2; echo done"))
    stream = dial(controller, server.address())
    assert eventually(lambda: stream.recv(1.0), 30) == b"done\n"
    stream.close()


def jump(controller: Controller, start: Callable[..., Sshd], tmp_path: Path, known_hosts: str) -> Dialled:
    """Dial a machine through a jump host; `known_hosts` may name {port} and {key} of it."""
    gate = start(client_line(controller), forwarding=True)
    inner = start(forced(controller, "echo through"))
    (tmp_path / "ssh_config").write_text(
        f"Host gate\n HostName 127.0.0.1\n Port {gate.port}\n"
        f"Host store-17\n HostName 127.0.0.1\n ProxyJump gate\n"
    )
    (tmp_path / "known_hosts").write_text(known_hosts.format(port=gate.port, key=gate.host_key))
    return dial(controller, inner.address(host="store-17"))


def test_a_jump_host_is_passed(controller: Controller, start: Callable[..., Sshd], tmp_path: Path) -> None:
    """The authority's line would crash the library's own reader."""
    text = "@cert-authority *.example ssh-ed25519 AAAA\n[127.0.0.1]:{port} {key}\n"
    stream = jump(controller, start, tmp_path, text)
    assert eventually(lambda: stream.recv(1.0)) == b"through\n"
    stream.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@cert-authority [127.0.0.1]:{port} {key}\n",
        "[127.0.0.1]:{port} ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMbX0SLp5nWjqd2O2yTQ0X0lPWSlWaUUX8oJYv0bYHlQ\n",
        "@revoked * {key}\n[127.0.0.1]:{port} {key}\n",
    ],
)
def test_a_jump_host_that_is_not_known_is_not_passed(
    controller: Controller, start: Callable[..., Sshd], tmp_path: Path, text: str
) -> None:
    with pytest.raises(PeerIdentityError, match="jump host"):
        jump(controller, start, tmp_path, text)


def test_a_cut_connection_is_dialled_again_until_the_receipt_is_here(
    controller: Controller, start: Callable[..., Sshd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("expunge_controller.runner.REVISIT", (0.2, 0.5))
    state, image = tmp_path / "agent", tmp_path / "disk.img"
    image.write_bytes(os.urandom(1 << 20) * 48)
    server = start(forced(controller, agent_command(state)))
    enrol_agent(controller, server, state)
    registry = Registry()
    runner = Runner(controller, registry, quiet_log())
    runner.start()
    try:
        machine = eventually(lambda: machine_called(controller), 30)
        answer = ask_inventory(controller, machine, [str(image)])
        (item,) = (item for item in answer.items if item.path == str(image))
        order = draft_order(
            controller,
            machine,
            [target_of(item)],
            builtin()["random-verified"],
            level=None,
            requested_by="records officer",
            case_number="",
            reason="",
            expires_in=HOUR,
            allow_downgrade=False,
            now=now(),
        )
        kept = create_order(controller, order, now())

        def status() -> OrderStatus:
            with controller.store.read() as unit:
                found = unit.orders.get(kept.digest)
            assert found is not None
            return found.status

        cuts = 0
        while status() is not OrderStatus.FINISHED:
            assert status() is not OrderStatus.ATTENTION
            if cuts < 3 and status() is not OrderStatus.CREATED:
                cuts += 1
                registry.stop_all()
            time.sleep(0.3)
    finally:
        runner.stop()
    assert cuts
    with controller.store.read() as unit:
        assert len(unit.evidence.receipts(10)) == 1
        assert unit.evidence.aside(1) == []
