"""The controller as processes: `serve` beside the verbs, killed and started again, on a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest

from expunge_agent.errors import NoSpaceError
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.identity import FileIdentity
from expunge_controller.context import Controller
from expunge_controller.init import free_port
from expunge_controller.intake import store_receipt
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus
from support.controllers import (
    FakeAgent,
    Wire,
    disk,
    enrolled,
    eventually,
    in_thread,
    make_controller,
    now,
    ordered,
)

HEAVY = ("sqlalchemy", "alembic", "paramiko", "cryptography", "rich", "structlog", "msgspec")
IMAGE = FileIdentity(path="/srv/disk.img", device="8:1", inode=U64(17), size=U64(1 << 28))


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    made = make_controller(tmp_path / "home", port=free_port("127.0.0.1"))
    yield made
    made.store.close()


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(controller: Controller) -> Iterator[Start]:
    """Starts ``expunge --home HOME ARGUMENTS``; ends what is left of it."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "expunge_controller", "--home", str(controller.home.path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def serve(start: Start, controller: Controller) -> subprocess.Popen[str]:
    """A serving controller."""
    process = start("serve")
    eventually(lambda: _answers(controller.config.port) or process.poll() is not None, 30)
    assert process.poll() is None, process.communicate()[1]
    return process


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def connect(controller: Controller, agent: FakeAgent, instance: str = "one") -> Wire:
    """The agent's connection, hello exchanged."""

    def attempt() -> Wire | None:
        try:
            transport = paramiko.Transport(socket.create_connection(("127.0.0.1", controller.config.port), 5))
        except OSError:
            return None
        try:
            transport.start_client(timeout=10)
            transport.auth_publickey("agent", agent.paramiko_key)
            channel = transport.open_session(timeout=10)
            channel.invoke_subsystem("expunge")
            line = Wire(channel, transport)
            line.send(agent.hello(instance=instance))
            line.expect(wire.Hello)
        except (paramiko.SSHException, EOFError, OSError):
            transport.close()
            return None
        return line

    line = eventually(attempt, 30)
    assert line is not None
    return line


def play(line: Wire, agent: FakeAgent, carry_out: Callable[[Wire, bytes], None]) -> None:
    """Answer questions about `IMAGE`; hand orders to `carry_out`; until the end."""
    item = wire.InventoryItem(
        identity=IMAGE,
        path=IMAGE.path,
        type="file",
        firmware="",
        logical_sector=-1,
        physical_sector=-1,
        blocked=[],
        notes=[],
    )
    while True:
        try:
            message = line.receive()
        except TimeoutError:
            continue
        if message is None:
            return
        if isinstance(message, wire.InventoryRequest):
            missing = [f"{path}: there is no such file" for path in message.paths if path != IMAGE.path]
            line.send(wire.Inventory(items=[item], problems=missing))
        elif isinstance(message, wire.SubmitOrder):
            carry_out(line, message.document.bytes()[0])


def run_to_the_end(agent: FakeAgent) -> Callable[[Wire, bytes], None]:
    """Events, then the receipt, as an agent that works would send them."""

    def carry_out(line: Wire, order: bytes) -> None:
        digest = canonical.sha256_hex(order)
        line.send(wire.OrderState(order=digest, state="spooled"))
        common: dict[str, Any] = {"order": digest, "time": timestamp(now())}
        line.send(
            wire.Progress(event=Event(kind=EventKind.STARTED, **common)),
            wire.Progress(
                event=Event(kind=EventKind.STEP_STARTED, target=0, step=0, title="pass 1 of 2", **common)
            ),
        )
        for done in (1, 2, 3):
            tick = Event(
                kind=EventKind.PROGRESS,
                target=0,
                title="pass 1 of 2",
                done=U64(done << 26),
                total=U64(1 << 28),
                rate=U64(200_000_000),
                eta=3,
                **common,
            )
            line.send(wire.Progress(event=tick))
            time.sleep(0.3)
        send_receipt(line, agent, order)

    return carry_out


def send_receipt(line: Wire, agent: FakeAgent, order: bytes) -> None:
    document = wire.Document.of(*agent.receipt(order))
    line.send(wire.ReceiptMessage(order=canonical.sha256_hex(order), document=document))


def outcome(controller: Controller, digest: str) -> OrderRow:
    with controller.store.read() as unit:
        found = unit.orders.get(digest)
    assert found is not None
    return found


def test_help_is_quick_because_it_imports_little() -> None:
    program = (
        "import sys; from expunge_controller.cli import main\n"
        "sys.argv = ['expunge', '--help']\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules, file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "certificate" in ran.stdout
    assert set(HEAVY).isdisjoint(ran.stderr.split())


def test_a_wipe_is_ordered_followed_and_ends_well(
    controller: Controller, agent: FakeAgent, machine: MachineRow, start: Start
) -> None:
    serve(start, controller)
    line = connect(controller, agent)
    in_thread(lambda: play(line, agent, run_to_the_end(agent)))
    wipe = start("wipe", "alpha", IMAGE.path, "-p", "random-verified", "--yes", "--json")
    out, err = wipe.communicate(timeout=60)
    lines = [json.loads(text) for text in out.splitlines()]
    assert wipe.returncode == 0, err
    kinds = [entry["type"] for entry in lines]
    assert (kinds[0], kinds[-1]) == ("order", "result")
    states = [entry["status"] for entry in lines if entry["type"] == "status"]
    assert states[-1] == "finished"
    events = [entry["kind"] for entry in lines if entry["type"] == "event"]
    # Progress may be overtaken by what follows it: tests/unit/test_controller_progress.py.
    assert {"started", "step-started"} <= set(events)
    assert (lines[-1]["outcome"], len(lines[-1]["certificates"])) == ("sanitized", 1)
    plain = start("wipe", "alpha", "/srv/nothing.img", "-p", "random-verified", "--yes")
    assert "there is no such file" in plain.communicate(timeout=60)[1]
    assert plain.returncode == 3
    line.close()


def test_serve_is_killed_in_the_middle_and_the_watcher_sees_the_end(
    controller: Controller, agent: FakeAgent, machine: MachineRow, start: Start
) -> None:
    first = serve(start, controller)
    order = ordered(controller, machine)
    watcher = start("jobs", order.order_id, "--follow", "--json")
    line = connect(controller, agent)
    body = line.expect(wire.SubmitOrder).document.bytes()[0]
    line.send(wire.OrderState(order=order.digest, state="running"))
    eventually(lambda: outcome(controller, order.digest).status is OrderStatus.RUNNING)
    first.kill()
    first.wait(10)
    line.close()
    serve(start, controller)
    line = connect(controller, agent, instance="one")
    assert line.expect(wire.SubmitOrder).document.bytes()[0] == body  # re-attach
    send_receipt(line, agent, body)
    while not isinstance(line.receive(), wire.Acknowledge):
        pass
    out, _ = watcher.communicate(timeout=30)
    assert watcher.returncode == 0
    assert json.loads(out.splitlines()[-1])["outcome"] == "sanitized"
    line.close()


def test_serve_is_killed_right_after_a_receipt_and_stores_it_once(
    controller: Controller, agent: FakeAgent, machine: MachineRow, start: Start
) -> None:
    """Whatever of the acknowledgement got lost: the receipt is there once, with one certificate."""
    previous = "0" * 64
    for number in (1, 2, 3):
        order = ordered(controller, machine, disk(number))
        receipt = agent.receipt(order.body, counter=U64(number), previous=previous)
        previous = canonical.sha256_hex(receipt.body)
        frame = wire.encode(wire.ReceiptMessage(order=order.digest, document=wire.Document.of(*receipt)))
        process = serve(start, controller)
        line = connect(controller, agent, instance=f"before {number}")
        line.channel.sendall(frame)
        time.sleep(0.02 * number)
        process.kill()
        process.wait(10)
        line.close()
        process = serve(start, controller)
        line = connect(controller, agent, instance=f"after {number}")
        line.channel.sendall(frame)
        while not isinstance(line.receive(), wire.Acknowledge):
            pass
        line.close()
        process.terminate()
        process.wait(20)
        with controller.store.read() as unit:
            assert len(unit.evidence.receipts(10)) == number
            assert len(unit.evidence.certificates_of_order(order.digest)) == 1
            assert unit.evidence.aside(10) == []


def test_a_second_serve_is_refused(controller: Controller, start: Start) -> None:
    serve(start, controller)
    second = start("serve")
    _, err = second.communicate(timeout=30)
    assert second.returncode == 19
    assert "runs this controller already" in err


def test_a_taken_port_is_said(controller: Controller, start: Start) -> None:
    with socket.create_server(("127.0.0.1", controller.config.port)):
        process = start("serve")
        _, err = process.communicate(timeout=30)
    assert process.returncode == 14
    assert "cannot be used" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_good_order(
    controller: Controller, agent: FakeAgent, machine: MachineRow, start: Start, number: int
) -> None:
    process = serve(start, controller)
    line = connect(controller, agent)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 0
    line.close()


def test_ctrl_c_closes_the_view_only(controller: Controller, machine: MachineRow, start: Start) -> None:
    order = ordered(controller, machine)
    watcher = start("jobs", order.order_id, "--follow")
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "waiting for the machine\n"
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 130
    assert f"expunge jobs {order.order_id} --follow" in err
    after = outcome(controller, order.digest)
    assert (after.status, after.rev) == (order.status, order.rev)


def test_no_secret_reaches_the_log(controller: Controller, agent: FakeAgent, start: Start) -> None:
    process = serve(start, controller)
    made = start("--verbose", "enrol", "alpha", "--json")
    out, err = made.communicate(timeout=30)
    token = json.loads(out)["token"]
    ran = subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", str(controller.home.path / "a"), "enrol", token],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Enrolled as alpha" in ran.stdout
    process.terminate()
    log = process.communicate(timeout=20)[1]
    from expunge_agent.protocol.enrolment import parse_token

    assert "enrolled" in log
    for text in (log, err):
        assert token not in text
        assert parse_token(token).secret not in text
        assert "PRIVATE KEY" not in text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    assert mount is not None
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(path: Path) -> None:
    """Write to `path` until the disk is full."""
    with path.open("wb", buffering=0) as ballast, pytest.raises(OSError, match="No space"):
        while True:
            ballast.write(b"x" * 4096)


def test_a_full_disk_loses_no_receipt(small_disk: Path, agent: FakeAgent) -> None:
    controller = make_controller(small_disk / "home")
    try:
        machine = enrolled(controller, agent)
        order = ordered(controller, machine)
        receipt = agent.receipt(order.body)
        fill(small_disk / "ballast")
        with pytest.raises(NoSpaceError):
            while True:  # the log of the database may have some room left
                store_receipt(controller, machine.machine_id, b"x" * 5000 + os.urandom(8), b"", now=now())
        with controller.store.read() as unit:
            before = unit.orders.get(order.digest)
        with pytest.raises(NoSpaceError):
            store_receipt(controller, machine.machine_id, *receipt, now=now())
        with controller.store.read() as unit:
            assert unit.orders.get(order.digest) == before
            assert unit.evidence.receipts(10) == []
        (small_disk / "ballast").unlink()
        assert store_receipt(controller, machine.machine_id, *receipt, now=now()).reasons == ()
        assert outcome(controller, order.digest).outcome == "sanitized"
    finally:
        controller.store.close()


def test_init_on_a_full_disk_says_so_and_can_be_repeated(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    home = small_disk / "home"
    command = [sys.executable, "-m", "expunge_controller", "--home", str(home), "init", "--name", "office"]
    for left in (0, 4096, 20_480, 100_000):
        ballast.write_bytes(b"")
        free = os.statvfs(small_disk)
        ballast.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - left))
        ran = subprocess.run(command, capture_output=True, text=True)
        assert (ran.returncode, "disk" in ran.stderr) == (12, True), (left, ran.stderr)
    ballast.unlink()
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
