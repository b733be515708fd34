"""Second signatures on their way in: demanded as soon as an agent has shown a key, kept, logged, given out again."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from msgspec.structs import replace

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import canonical, dsse, wire
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.dsse import SecondSignatures
from expunge_controller import bundling, fleet, log_audit
from expunge_controller.bundle import SignedBytes, bundle_files
from expunge_controller.context import Controller
from expunge_controller.intake import Stored, store_receipt
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import failures
from expunge_controller.records.log_entry import parse_entry
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.store.rows import MachineRow
from expunge_controller.store.sqlite import open_store
from support.controllers import FakeAgent, disk, enrolled, now, ordered
from support.databases import database_at
from support.evidence import World


@pytest.fixture
def agent() -> FakeAgent:
    """With a key for second signatures, of which its enrolment says nothing."""
    return FakeAgent(world=World())


def enrol(controller: Controller, agent: FakeAgent, **changes: Any) -> MachineRow:
    """`agent`, with its ML-DSA-65 key in the enrolment unless `changes` say otherwise."""
    token = fleet.create_token(controller, "alpha", valid_for=timedelta(hours=1), ssh=None, now=now())
    body, signature = agent.enrolment(token, **({"mldsa65_key": agent.world.mldsa65_key} | changes))
    return fleet.enrol(controller, body, signature, proven_key=agent.dial_line, dialled=None, now=now())


def receipt_for(
    controller: Controller, agent: FakeAgent, machine: MachineRow, number: int = 1, before: bytes = b""
) -> tuple[SignedBytes, SecondSignatures | None]:
    """A receipt by a new order, with what second signatures the agent makes."""
    previous = {"previous": canonical.sha256_hex(before)} if before else {}
    order = ordered(controller, machine, disk(number))
    receipt = agent.receipt(order.body, counter=U64(number), **previous)
    return receipt, agent.world.second_of(receipt)


def store(
    controller: Controller, receipt: SignedBytes, second: SecondSignatures | None, agent: FakeAgent
) -> Stored:
    return store_receipt(controller, agent.machine_id, *receipt, second=second, now=now())


def known_key(controller: Controller, agent: FakeAgent) -> bytes | None:
    with controller.store.read() as unit:
        machine = unit.fleet.machine(agent.machine_id)
    assert machine is not None
    return machine.mldsa65_key


def log_is_whole(controller: Controller) -> bool:
    return not failures(log_audit.check_own(controller, ()))


def test_an_enrolment_names_the_key(controller: Controller, agent: FakeAgent) -> None:
    machine = enrol(controller, agent)
    assert machine.mldsa65_key == known_key(controller, agent) == agent.world.mldsa65_key
    receipt, second = receipt_for(controller, agent, machine)
    assert store(controller, receipt, second, agent).reasons == ()


@pytest.mark.parametrize("key", [b"x", b"0" * 1974])
def test_an_enrolment_with_no_key_of_that_kind_is_refused(
    controller: Controller, agent: FakeAgent, key: bytes
) -> None:
    with pytest.raises(VerificationError):
        enrol(controller, agent, mldsa65_key=key)
    with controller.store.read() as unit:
        assert unit.fleet.machines() == []


def test_an_old_agent_goes_on_without(controller: Controller) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    receipt, second = receipt_for(controller, agent, machine)
    assert second is None
    assert store(controller, receipt, None, agent).reasons == ()
    assert known_key(controller, agent) is None


def test_the_first_receipt_announces_the_key_of_an_agent_enrolled_before(
    controller: Controller, agent: FakeAgent
) -> None:
    machine = enrolled(controller, agent)
    assert machine.mldsa65_key is None
    first, second = receipt_for(controller, agent, machine)
    assert store(controller, first, second, agent).reasons == ()
    assert known_key(controller, agent) == agent.world.mldsa65_key


def test_once_shown_the_key_is_demanded(controller: Controller, agent: FakeAgent) -> None:
    """The signing key alone is not enough any more, whatever the receipt says of itself."""
    machine = enrolled(controller, agent)
    old = FakeAgent(world=World(second=False))
    old.world.agent = agent.world.agent
    early, none = receipt_for(controller, old, machine)
    assert store(controller, early, none, agent).reasons == ()
    first, second = receipt_for(controller, agent, machine, 2, early.body)
    assert store(controller, first, second, agent).reasons == ()
    bare, _ = receipt_for(controller, old, machine, 3, first.body)
    (reason,) = store(controller, bare, None, agent).reasons
    assert "this agent has an ML-DSA-65 key" in reason
    assert store(controller, early, none, agent) == Stored(
        canonical.sha256_hex(early.body), (), repeated=True
    )
    assert log_is_whole(controller)


def test_the_signing_key_alone_cannot_take_the_place_of_a_receipt(
    controller: Controller, agent: FakeAgent
) -> None:
    """A receipt without the second signature does not move the agent's chain on: the true one still fits."""
    machine = enrol(controller, agent)
    thief = FakeAgent(world=World(second=False))
    thief.world.agent = agent.world.agent
    forged, _ = receipt_for(controller, thief, machine)
    assert store(controller, forged, None, agent).reasons
    with controller.store.read() as unit:
        assert [row.counter for row in unit.evidence.aside(5)] == [0]
        assert [(row.counter, row.last_digest) for row in unit.fleet.machines()] == [(0, None)]
    true = agent.receipt(ordered(controller, machine, disk(2)).body)
    stored = store(controller, true, agent.world.second_of(true), agent)
    assert (stored.reasons, stored.gap) == ((), False)


def test_another_key_is_kept_aside(controller: Controller, agent: FakeAgent) -> None:
    machine = enrol(controller, agent)
    agent.world.second = MLDSA65PrivateKey.generate()
    receipt, second = receipt_for(controller, agent, machine)
    (reason,) = store(controller, receipt, second, agent).reasons
    assert "this agent's ML-DSA-65 key is" in reason
    assert known_key(controller, agent) == machine.mldsa65_key


def test_wrong_signatures_are_kept_aside_and_right_ones_count_afterwards(
    controller: Controller, agent: FakeAgent
) -> None:
    machine = enrolled(controller, agent)
    receipt, second = receipt_for(controller, agent, machine)
    assert second is not None
    other = dsse.sign(FakeAgent().signing, MLDSA65PrivateKey.generate(), receipt.body)
    wrong = [
        None,
        replace(second, classic=other.classic),
        replace(second, mldsa65=other.mldsa65),
        replace(second, mldsa65_key=other.mldsa65_key),
        replace(second, mldsa65=other.mldsa65, mldsa65_key=other.mldsa65_key),
        SecondSignatures(classic=b"", mldsa65=b"", mldsa65_key=b""),
    ]
    for bad in wrong:
        assert store(controller, receipt, bad, agent).reasons
        assert store(controller, receipt, bad, agent).repeated
        assert known_key(controller, agent) is None
    with controller.store.read() as unit:
        assert [row.second for row in reversed(unit.evidence.aside(10))] == wrong
    assert store(controller, receipt, second, agent).reasons == ()
    assert known_key(controller, agent) == agent.world.mldsa65_key
    assert log_is_whole(controller)


def test_what_is_kept_is_logged_and_given_out_again(controller: Controller, agent: FakeAgent) -> None:
    machine = enrol(controller, agent)
    order = ordered(controller, machine)
    receipt = agent.receipt(order.body)
    second = agent.world.second_of(receipt)
    assert second is not None
    assert store(controller, receipt, second, agent).reasons == ()
    with controller.store.read() as unit:
        (row,) = unit.evidence.receipts(5)
        entries = [parse_entry(entry.body) for entry in unit.log.entries(0, unit.log.size())]
    assert row.second == second
    assert [entry.mldsa65 for entry in entries if entry.kind == "receipt"] == [
        canonical.sha256_hex(second.mldsa65)
    ]
    files = bundle_files(bundling.collect(controller, order.order_id, 0, now()))
    assert files["receipt.mldsa65.sig"] == second.mldsa65
    keys = [dsse.keyid(agent.world.mldsa65_key)]
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles={}, mldsa_keys=keys)
    assert failures(steps) == []
    assert log_is_whole(controller)


@pytest.mark.parametrize("column", ["classic_signature", "mldsa65_signature", "mldsa65_key"])
def test_kept_signatures_cannot_be_changed_by_sql(
    controller: Controller, agent: FakeAgent, column: str
) -> None:
    machine = enrol(controller, agent)
    receipt, second = receipt_for(controller, agent, machine)
    store(controller, receipt, second, agent)
    with (
        sqlite3.connect(controller.home.database) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(f"UPDATE receipts SET {column} = NULL")
    connection.close()


def test_what_was_kept_before_stays_in_the_log(tmp_path: Path) -> None:
    """A database of migration 3 with a receipt and one kept aside: the same entries, no second signatures."""
    path = tmp_path / "controller.db"
    with database_at(path, "0003") as connection:
        machine = ("m", "alpha", "k", "d", "dial-in", "", "", 0, "", "t", b"e", b"s", "{}", "0" * 20, "")
        connection.exec_driver_sql(
            "INSERT INTO machines (machine_id, name, signing_key, dial_key, reach, ssh_user, ssh_host, ssh_port,"
            " ssh_host_key, enrolled_at, enrolment, enrolment_signature, facts, counter, note)"
            f" VALUES ({','.join('?' * 15)})",
            machine,
        )
        connection.exec_driver_sql(
            "INSERT INTO receipts VALUES (?,?,?,?,?,?,?,?)",
            ("d" * 64, "o", "m", "0" * 19 + "1", "sanitized", b"body", b"sig", "t"),
        )
        connection.exec_driver_sql(
            "INSERT INTO aside VALUES (?,?,?,?,?,?,?,?,?)",
            (1, "e" * 64, "m", "o", "0" * 20, "[]", b"other", b"sig", "t"),
        )
    store = open_store(path)
    with store.read() as unit:
        documents = [parse_entry(entry) for entry in unit.log.documents()]
        assert [entry.mldsa65 for entry in documents] == ["", "", ""]
        assert [row.second for row in unit.evidence.receipts(5)] == [None]
        assert [row.second for row in unit.evidence.aside(5)] == [None]
        known = unit.fleet.machine("m")
        assert known is not None and known.mldsa65_key is None
    store.close()


def test_frames_of_agents_from_before_are_understood() -> None:
    document = wire.Document.of(b"body", b"signature")
    old = wire.encode(wire.ReceiptMessage(order="ab" * 32, document=document))
    assert b"second" not in old
    message = wire.decode(old.rstrip(b"\n"))
    assert isinstance(message, wire.ReceiptMessage) and message.second is None
