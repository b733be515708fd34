"""A controller whose log has a witness and a time-stamping authority, a machine with two kinds of keys, and people."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from expunge_agent.protocol.canonical import U64
from expunge_controller import fleet, rotating, translog, witness
from expunge_controller.context import Controller
from expunge_controller.intake import Stored, store_receipt
from expunge_controller.records.consistency import medium_of
from expunge_controller.stamping import stamp_head
from expunge_controller.store.rows import MachineRow, OrderRow
from expunge_controller.witness import WitnessState
from expunge_controller.witness_client import cosign
from expunge_controller.witness_http import WitnessServer
from support.authenticator import Authenticator
from support.authorities import TimeAuthority
from support.controllers import FakeAgent, disk, make_controller, now, ordered, quiet_log
from support.evidence import World
from support.people import Folk

HOUR = timedelta(hours=1)


class Office:
    """A controller with a witness and a time-stamping authority, and a machine with a P-256 and an ML-DSA-65 key."""

    def __init__(self, folder: Path, stamps: bool = True) -> None:
        self.folder = folder
        self.controller: Controller = make_controller(folder / "home")
        with self.controller.store.read() as unit:
            log_key = translog.key_in(unit)
        self.witness_key = witness.make(folder / "witness", "audit.example/w1", [log_key.text])
        state = WitnessState(folder / "witness", lambda: int(now().timestamp()))
        self.server = WitnessServer(state, "127.0.0.1", 0, quiet_log())
        self.server.start()
        self.authority = TimeAuthority(folder / "tsa", "tsa", 365) if stamps else None
        text = f'quorum = 1\n[[witness]]\nvkey = "{self.witness_key.text}"\n'
        stamped = self.authority.policy() if self.authority else ""
        self.controller.home.log_policy.write_text(text + f'url = "{self.server.address}"\n' + stamped)
        self.policy = folder / "policy.toml"
        log = f'[[log]]\nvkey = "{log_key.text}"\n'
        self.policy.write_text(text + log + (self.authority.policy(url=False) if self.authority else ""))
        self.agent = FakeAgent(world=World(p256=True))
        token = fleet.create_token(self.controller, "alpha", valid_for=HOUR, ssh=None, now=now())
        body, signature = self.agent.enrolment(token, mldsa65_key=self.agent.world.mldsa65_key)
        fleet.enrol(
            self.controller, body, signature, proven_key=self.agent.dial_line, dialled=None, now=now()
        )
        self.folk = Folk(self.controller)
        self.folk.add("fay", "validator", signer=Authenticator(ecdsa=True))
        self.folk.add("sue", "second")
        self.count = 0
        self.name = "alpha"

    @property
    def machine(self) -> MachineRow:
        with self.controller.store.read() as unit:
            return fleet.machine_named(unit, self.name)

    def wiped(self) -> OrderRow:
        """A disk of its own, wiped; witnessed, certified, stamped."""
        order = ordered(self.controller, self.machine, disk(self.count + 1))
        self.wiped_as(order)
        return order

    def wiped_as(self, order: OrderRow, **changes: Any) -> None:
        """The next receipt, by this order, taken in and witnessed."""
        self.count += 1
        assert not self._taken_in(order, **changes).reasons
        self.witnessed()

    def delivered(self) -> Stored:
        """What becomes of the next receipt."""
        self.count += 1
        return self._taken_in(ordered(self.controller, self.machine, disk(self.count)))

    def _taken_in(self, order: OrderRow, **changes: Any) -> Stored:
        before = {"previous": self.machine.last_digest} if self.machine.last_digest else {}
        receipt = self.agent.receipt(order.body, counter=U64(self.count), **before, **changes)
        second = self.agent.world.second_of(receipt)
        return store_receipt(self.controller, self.agent.machine_id, *receipt, second=second, now=now())

    def witnessed(self) -> None:
        (answer,) = cosign(self.controller, now())[0]
        assert answer.problem is None
        if self.authority:
            stamp_head(self.controller, datetime.now(UTC))

    def medium(self, number: int) -> str:
        return medium_of(disk(number))[1]

    def rotate(self) -> None:
        """The machine takes another key."""
        token = rotating.rotation_token(self.controller, self.machine, valid_for=HOUR, now=now())
        new = World(p256=True).agent
        said = self.agent.rotation(new, token.secret)
        rotating.take_rotation(self.controller, self.agent.machine_id, *said, now())
        self.agent.world.agent = new

    @property
    def seen(self) -> bytes:
        """What the witness signed last."""
        with self.controller.store.read() as unit:
            origin = translog.key_in(unit).name
        state = WitnessState(self.folder / "witness", lambda: 0)
        found = state.newest(hashlib.sha256(origin.encode()).hexdigest())
        assert found is not None
        return found

    def close(self) -> None:
        self.server.stop()
        if self.authority:
            self.authority.stop()
        self.controller.store.close()
