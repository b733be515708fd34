"""A controller, an sshd and an agent behind it, worked by nothing but `expunge` and `expunge-agent`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from expunge_agent.inventory_report import WANTED
from expunge_agent.protocol import wire
from expunge_agent.protocol.receipt import Receipt, parse_statement
from expunge_controller import fleet
from expunge_controller.context import Controller
from expunge_controller.keys import load_key
from expunge_controller.transport.ssh_out import dial
from support.controllers import make_controller, now
from support.ran import Ran
from support.sshd import Sshd, separation

MACHINE = "alpha"


@dataclass
class Site:
    """``root/home`` is the controller's, ``root/agent`` the agent's state; the machine is called `MACHINE`."""

    root: Path
    server: Sshd
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """The agent's state folder."""
        return self.root / "agent"

    def expunge(self, *arguments: object, code: int = 0) -> Ran:
        """Run a verb of the controller; its exit code must be `code`, and there is never a traceback."""
        return _run("expunge_controller", "--home", self.root / "home", *arguments, code=code)

    def agent(self, *arguments: object, code: int = 0) -> Ran:
        """The same for the agent's own program."""
        return _run("expunge_agent", "--state", self.state, *arguments, code=code, more=self.environment)

    def order(self, *arguments: object, code: int = 0) -> tuple[str, Receipt]:
        """Order a wipe and follow it to its end; the order's id, and its receipt, which was accepted."""
        ran = self.expunge("wipe", MACHINE, *arguments, "--yes", "--json", code=code)
        said = [json.loads(line) for line in ran.out.splitlines()]
        order = next(one["digest"] for one in said if one.get("type") == "order")
        order_id = next(one["order_id"] for one in said if one.get("type") == "order")
        assert self.expunge("receipts", "--aside", "--json").json == []
        (row,) = [one for one in self.expunge("receipts", "--json").json if one["order"] == order]
        body = self.expunge("receipts", row["receipt"]).out.rstrip("\n").encode()
        return order_id, parse_statement(body).predicate

    def proven(self, order_id: str, *, certified: bool = True) -> None:
        """What an auditor gets passes every check, and there is a certificate just where there may be one."""
        self.expunge("certificate", order_id, code=0 if certified else 18)
        bundle = self.root / f"{order_id}.zip"
        self.expunge("export", order_id, "-o", bundle)
        assert self.expunge("verify", bundle, "--json").json["verified"] is True

    def receipts_of_agent(self) -> int:
        """How many receipts the agent has sealed."""
        return len(list((self.state / "receipts").iterdir()))

    def send_again(self, order_id: str) -> bytes:
        """Hand the very bytes of an order over twice more; the receipt that comes back, the same each time."""
        with self._controller() as controller:
            with controller.store.read() as unit:
                (row,) = unit.orders.find(order_id)
            stream = dial(controller, self.server.address())
            submit = wire.encode(wire.SubmitOrder(document=wire.Document.of(row.body, row.signature)))
            hello = wire.Hello(version=wire.PROTOCOL_VERSION, role="controller", software="a test")
            stream.send(wire.encode(hello) + submit + submit)
            decoder, until, found = wire.FrameDecoder(), time.monotonic() + 60, list[bytes]()
            while len(found) < 2 and time.monotonic() < until:
                for message in decoder.feed(stream.recv(0.5) or b""):
                    if isinstance(message, wire.OrderState):
                        assert message.state == "finished"
                    if isinstance(message, wire.ReceiptMessage):
                        found.append(message.document.bytes()[0])
            with suppress(OSError):
                stream.send(wire.encode(wire.Bye()))
            stream.close()
        assert len(found) == 2
        assert found[0] == found[1]
        return found[0]

    def receipt_body(self, order_id: str) -> bytes:
        """The receipt of an order as the controller keeps it."""
        with self._controller() as controller, controller.store.read() as unit:
            (row,) = unit.orders.find(order_id)
            kept = unit.evidence.receipt_of_order(row.digest)
        assert kept is not None
        return kept.body

    @contextmanager
    def _controller(self) -> Iterator[Controller]:
        from expunge_controller.settings import Home, load_config
        from expunge_controller.store.sqlite import open_store

        home = Home(self.root / "home")
        made = Controller(home, load_config(home), open_store(home.database), load_key(home.order_key))
        try:
            yield made
        finally:
            made.store.close()


@contextmanager
def site(root: Path, wrapper: str = "", serve: str = "--run-orders", **environment: str) -> Iterator[Site]:
    """A site whose agent is enrolled; `environment` is what its orders run with, under the program `wrapper`.

    Without ``--run-orders`` in `serve` somebody else has to run them (`units`).
    """
    with separation():
        made = make_controller(root / "home")
        try:
            line = load_key(made.home.ssh_client_key).public_line
            words = " ".join(f"{name}={value}" for name, value in environment.items())
            command = f"{wrapper} env {words} {sys.executable} -m expunge_agent --state {root / 'agent'} serve {serve}"
            server = Sshd(root / "sshd", f'restrict,command="{command}" {line}')
            try:
                token = fleet.create_token(
                    made, MACHINE, valid_for=timedelta(hours=1), ssh=server.address(), now=now()
                )
                made.store.close()
                found = Site(root, server, environment)
                found.agent("enrol", token.text())
                found.expunge("enrol", MACHINE, "--connect")
                yield found
            finally:
                server.stop()
        finally:
            made.store.close()


def _run(program: str, *arguments: object, code: int, more: dict[str, str] | None = None) -> Ran:
    command = [sys.executable, "-m", program, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **(more or {})}, timeout=600, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout[-3000:], done.stderr[-3000:])
    return Ran(done.returncode, done.stdout, done.stderr)


@contextmanager
def units(place: Site) -> Iterator[None]:
    """What the units of root do while the network side has no rights: record what is asked for, run what was handed in."""
    place.agent("inventory", "--record")
    ended, broken = threading.Event(), list[BaseException]()

    def work() -> None:
        note, answered = place.state / "spool" / WANTED, 0
        while not ended.wait(0.1):
            try:
                if note.exists() and note.stat().st_mtime_ns != answered:
                    answered = note.stat().st_mtime_ns
                    place.agent("inventory", "--record")
                if any(one.name != WANTED for one in (place.state / "spool").iterdir()):
                    place.agent("run", "--pending")
            except BaseException as error:  # noqa: BLE001
                broken.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert not broken, broken
