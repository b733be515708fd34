"""What the controller's operator can try, with the database, the controller's key and the log's key in hand.

One test each for the rows of docs/threat-model.md, "What the operator can try": what is found, by what; and what is not
found really passes, so that the table stays true. The auditor brings an own list of keys, an own policy with a witness, and
the witness's newest checkpoint.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.errors import RefusedError, StateError, UsageError
from expunge_agent.protocol import canonical, sshsig, trust
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.receipt import Outcome
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import archive_read, bundling, key_history, log_audit, lots, people, translog
from expunge_controller.archiving import write_archive
from expunge_controller.bundle import bundle_files
from expunge_controller.keys import load_key
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records import custody_check, key_check, log_check, merkle
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.certificate import Certificate, freeze_certificate, parse_certificate
from expunge_controller.records.checkpoint import Checkpoint, Proof, format_proof, parse_proof
from expunge_controller.records.custody import CustodyKind, parse_custody_event
from expunge_controller.records.findings import failures
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_entry import EntryKind, parse_entry
from expunge_controller.records.log_policy import LogPolicy, format_policy, parse_policy
from expunge_controller.records.lot import parse_lot
from expunge_controller.records.note import Note, format_note, sign
from expunge_controller.records.sums import format_sums
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.store.rows import OrderRow
from expunge_controller.store.schema import TRIGGERS
from expunge_controller.witness_client import cosign
from support.controllers import FakeAgent, disk, enrolled, fresh_machine_id, now, ordered
from support.office import Office

K = CustodyKind
Files = dict[str, bytes]
TRUE = "the certificate says what the receipt says"
CHAIN = "the custody chain is whole"
ONE = "custody, receipt and certificate are about one medium"


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path, stamps=False)
    yield made
    made.close()


def files_of(office: Office, order: OrderRow) -> Files:
    return bundle_files(bundling.collect(office.controller, order.order_id, 0, now()))


def signers_of(office: Office) -> list[TrustedSigner]:
    """What `expunge keys signers` gives."""
    with office.controller.store.read() as unit:
        return people.for_auditors(unit)


def failed(
    office: Office, files: Files, signers: list[TrustedSigner] | None = None, **other: Any
) -> set[str]:
    """The steps that fail for the auditor."""
    outside = LogOutside(parse_policy(office.policy.read_text()), (office.seen,), **other)
    trusted = signers_of(office) if signers is None else signers
    steps = verify_bundle(files, trusted, page=certificate_html, readme=readme, profiles={}, log=outside)
    return {step.title for step in failures(steps)}


def alone(files: Files) -> set[str]:
    """The steps that fail for somebody who brings nothing."""
    return {
        step.title
        for step in failures(verify_bundle(files, None, page=certificate_html, readme=readme, profiles={}))
    }


def remade(office: Office, files: Files, **names: bytes) -> Files:
    """The bundle with other documents (`__` for ``/`` and ``.``), signed by the controller, all that follows made again."""
    made = dict(files)
    for name, body in names.items():
        made[name] = body
        space = layout.namespace_of(name)
        if space is not None:
            made[name + layout.SIGNATURE] = sshsig.sign(office.controller.signer, space, body)
    if layout.CERTIFICATE in made:
        made[layout.CERTIFICATE_HTML] = certificate_html(parse_certificate(made[layout.CERTIFICATE])).encode()
    del made[layout.README]
    del made[layout.SUMS]
    enclosed = trust.parse_allowed_signers(made[layout.TRUST].decode())
    made[layout.README] = readme(made, enclosed).encode()
    return made | {layout.SUMS: format_sums(made)}


def recertified(office: Office, files: Files, change: Callable[[Certificate], Certificate]) -> Files:
    body = freeze_certificate(change(parse_certificate(files[layout.CERTIFICATE])))
    return remade(office, files, **{layout.CERTIFICATE: body})


def log_problems(office: Office, *against: bytes) -> str:
    steps = failures(log_audit.check_own(office.controller, against))
    return " | ".join(f"{step.title}: {step.detail}" for step in steps)


def as_owner(office: Office, *statements: str) -> None:
    """Change the database as whoever owns the file can: without triggers, which are put back."""
    connection = sqlite3.connect(office.controller.home.database)
    for name in TRIGGERS:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in (*statements, *TRIGGERS.values()):
        connection.execute(statement)
    connection.commit()
    connection.close()


def log_without(office: Office, kind: EntryKind) -> list[str]:
    """SQL that makes the log anew without entries of a kind, as if it had always been so."""
    tree = merkle.MemoryTree()
    made = [f"DELETE FROM {table}" for table in ("cosignatures", "checkpoints", "log_entries")]
    with office.controller.store.read() as unit:
        rows = list(unit.log.entries(0, unit.log.size()))
    for row in (row for row in rows if parse_entry(row.body).kind is not kind):
        above = b"".join(tree.append(row.leaf)[1:])
        values = f"{tree.size - 1}, x'{row.body.hex()}', x'{row.leaf.hex()}', x'{above.hex()}'"
        made.append(f"INSERT INTO log_entries VALUES ({values})")
    return made


def failing(office: Office) -> None:
    """A wipe that failed; its receipt is entered and witnessed."""
    order = ordered(office.controller, office.machine, disk(90))
    receipt = office.agent.world.receipt(order.body)
    broken = replace(
        receipt.targets[0],
        outcome=Outcome.FAILED,
        level_achieved="none",
        failure="The device vanished.",
        identity_after=None,
        passes=[replace(receipt.targets[0].passes[0], complete=False, flushed=False)],
        verifications=[],
    )
    office.wiped_as(order, outcome=Outcome.FAILED, level_achieved="none", targets=[broken])


def test_deleting_a_failed_receipt(office: Office) -> None:
    failing(office)
    seen = office.seen
    as_owner(office, "PRAGMA foreign_keys=off", "DELETE FROM receipts")
    assert "(receipt) is gone" in log_problems(office)
    as_owner(office, *log_without(office, EntryKind.RECEIPT))
    office.controller.home.log_head.unlink()
    assert log_problems(office) == "", "here, everything is forged"
    assert "entries were signed" in log_problems(office, seen), "what the witness kept is not"
    (answer,) = cosign(office.controller, now())[0]
    assert answer.problem is not None, "it signs no shorter history"


def test_a_receipt_that_was_never_entered_leaves_a_gap(office: Office) -> None:
    """Withheld before it is entered: the next receipt of that machine tells."""
    office.wiped()
    office.count += 1  # one more was sealed, and thrown away
    assert office.delivered().gap


def test_backdating_a_certificate(office: Office) -> None:
    files = files_of(office, office.wiped())
    old = recertified(office, files, lambda one: replace(one, issued_at="2020-01-01T00:00:00Z"))
    assert ONE in failed(office, old)


def test_swapping_two_serial_numbers(office: Office) -> None:
    first, second = (files_of(office, office.wiped()) for _ in range(2))
    other = parse_certificate(second[layout.CERTIFICATE]).media
    swapped = recertified(office, first, lambda one: replace(one, media=other))
    assert {TRUE, ONE} <= failed(office, swapped)
    custody = {name: second[name] for name in second if name.startswith(layout.CUSTODY_FOLDER)}
    assert ONE in failed(office, remade(office, first | custody))


def test_better_words_on_a_certificate(office: Office) -> None:
    files = files_of(office, office.wiped())
    for change in (
        lambda one: replace(one, sanitization=replace(one.sanitization, technique="cryptographic erase")),
        lambda one: replace(one, sanitization=replace(one.sanitization, level_achieved="purge")),
        lambda one: replace(one, assurance=one.assurance[1:]),
    ):
        assert failed(office, recertified(office, files, change))


def test_what_the_operator_says_of_a_medium_is_the_operators_word(office: Office) -> None:
    """NOT FOUND in one bundle: classification and property number stand in no other document; the log shows a second one."""
    files = files_of(office, office.wiped())
    other = recertified(
        office, files, lambda one: replace(one, register=replace(one.register, property_number="PN-7"))
    )
    assert failed(office, other) == set()


def test_another_log_for_one_auditor(office: Office) -> None:
    failing(office)
    files = files_of(office, office.wiped())
    home = office.controller.home
    with office.controller.store.read() as unit:
        key, rows = translog.key_in(unit), list(unit.log.entries(0, unit.log.size()))
    due = merkle.leaf_hash(files[layout.ENTRY])
    kept = [row for row in rows if parse_entry(row.body).kind is not EntryKind.RECEIPT or row.leaf == due]
    tree = merkle.MemoryTree()
    for row in kept:
        tree.append(row.leaf)
    text = Checkpoint(key.name, tree.size, merkle.root(tree.node, tree.size)).text
    head = format_note(Note(text, (sign(load_key(home.log_key), key, text),)))

    def proof(leaf: bytes) -> bytes:
        place = [row.leaf for row in kept].index(leaf)
        return format_proof(Proof(place, tuple(merkle.inclusion_proof(tree.node, place, tree.size)), head))

    forked = files | {layout.CHECKPOINT: head, layout.PROOF: proof(due)}
    forked[layout.LOG_POLICY] = format_policy(LogPolicy(logs=(key,))).encode()
    for name in layout.key_event_names(files):
        leaf = rows[parse_proof(files[layout.key_proof_name(name)]).number].leaf
        forked[layout.key_proof_name(name)] = proof(leaf)
    number = parse_proof(forked[layout.PROOF]).number
    del (
        forked[layout.CERTIFICATE],
        forked[layout.CERTIFICATE + layout.SIGNATURE],
        forked[layout.CERTIFICATE_HTML],
    )
    assert number != parse_proof(files[layout.PROOF]).number
    forked = remade(office, forked)
    assert {log_check.WITNESSED} <= failed(office, forked), "no witness signed it"
    assert log_check.WITNESSED not in alone(forked), "NOT FOUND by whoever brings nothing"


def test_a_compromise_left_out(office: Office) -> None:
    order = office.wiped()
    before, old = files_of(office, order), signers_of(office)
    key_history.compromised(
        office.controller, office.machine, since=timestamp(now() - timedelta(days=1)), fingerprint="",
        reason="a disk was stolen", actor="A", now=now(),
    )  # fmt: skip
    assert key_check.GOOD in failed(office, before), "by the newer list of keys"
    assert failed(office, before, old) == set(), (
        "NOT FOUND with a list from before, as long as nobody says it"
    )
    office.witnessed()
    after = files_of(office, order)
    names = layout.key_event_names(after)
    shorter = {
        name: data for name, data in after.items() if not name.startswith(names[-1].removesuffix(".json"))
    }
    assert key_check.WHOLE in failed(office, remade(office, shorter)), (
        "the enclosed keys follow from the events"
    )


def test_an_invented_machine(office: Office) -> None:
    office.wiped()
    known = signers_of(office)
    invented = FakeAgent(machine_id=fresh_machine_id())
    office.agent, office.count = invented, 0
    enrolled(office.controller, invented, "beta")
    office.name = "beta"
    files = files_of(office, office.wiped())
    assert failed(office, files) == set(), "NOT FOUND with a list of keys that the operator gave"
    assert "the keys are those the auditor trusts" in failed(office, files, known)


def removed_before_approving(office: Office) -> tuple[OrderRow, Files]:
    """Somebody who was removed, whose removal the operator hides, and whose key approves."""
    order = office.wiped()
    office.folk.record(office.medium(1), K.APPROVED, {"validator": "fay"})
    people.remove(office.controller, "fay", since=now() - timedelta(days=1), reason="left", by="A", now=now())
    office.witnessed()
    files = files_of(office, order)
    last = layout.people_names(files)[-1]
    return order, {name: data for name, data in files.items() if not name.startswith(last)}


def test_a_removal_left_out(office: Office) -> None:
    """NOT FOUND in one bundle: people's records are in the log, and the bundle proves none. Found in an archive."""
    order, without = removed_before_approving(office)
    assert custody_check.RULES in failed(office, files_of(office, order)), (
        "with the removal it does not count"
    )
    assert failed(office, remade(office, without)) == set()
    as_owner(
        office, "DELETE FROM people WHERE body LIKE '%removed%' OR hex(body) LIKE '%2272656D6F76656422%'"
    )
    assert "(person) is gone" in log_problems(office)


def test_a_witness_that_did_not_sign(office: Office) -> None:
    order = office.wiped()
    files = files_of(office, order)

    def other_time(one: Certificate) -> Certificate:
        log = one.evidence.log
        assert log is not None
        witnesses = [replace(log.witnesses[0], at="2020-01-01T00:00:00Z")]
        return replace(one, evidence=replace(one.evidence, log=replace(log, witnesses=witnesses)))

    assert log_check.NAMED in failed(office, recertified(office, files, other_time))


def rewritten(office: Office, files: Files, **changes: Any) -> Files:
    """The last custody event with other words, signed by the controller."""
    name = layout.custody_names(files)[-1]
    body = canonical.dumps(replace(parse_custody_event(files[name]), **changes))
    return remade(office, files, **{name: body})


def test_another_custody_event(office: Office) -> None:
    order = office.wiped()
    files = files_of(office, order)
    first = layout.custody_name(1)
    earlier = canonical.dumps(replace(parse_custody_event(files[first]), location="a safe"))
    assert CHAIN in failed(office, remade(office, files, **{first: earlier}))
    assert failed(office, rewritten(office, files, location="a safe")) == set(), (
        "NOT FOUND in one bundle: the last event has no other after it, and nobody but the controller signed it"
    )
    office.folk.record(office.medium(1), K.APPROVED, {"validator": "fay"})
    office.witnessed()
    signed = files_of(office, order)
    assert custody_check.RULES in failed(office, rewritten(office, signed, location="a safe")), (
        "fay signed the other"
    )
    as_owner(
        office,
        "UPDATE custody SET body = replace(CAST(body AS TEXT), 'approved', 'Approved') WHERE event = 'approved'",
    )
    assert "is gone, or was changed" in log_problems(office)


def test_another_sample_of_a_lot(office: Office) -> None:
    for _ in range(4):
        office.wiped()
    office.folk.add("cas", "checker")
    row = lots.create(
        office.controller, percent=20, since=now() - timedelta(days=1), until=now(), checker="cas", seed=None,
        now=now() + timedelta(seconds=2),
    )  # fmt: skip
    lot = parse_lot(row.body)
    other = [one.medium for one in lot.population if one.medium not in lot.chosen]
    changed = replace(lot, chosen=other[: len(lot.chosen)])
    with office.controller.store.read() as unit:
        assert list(lots.problems_here(unit, office.controller, lot, row.body)) == []
        assert lots.problems_here(unit, office.controller, changed, canonical.dumps(changed))


def test_an_archive_of_a_log_made_anew(office: Office, tmp_path: Path) -> None:
    failing(office)
    policy = parse_policy(office.policy.read_text())
    as_owner(
        office, "PRAGMA foreign_keys=off", "DELETE FROM receipts", *log_without(office, EntryKind.RECEIPT)
    )
    home = office.controller.home
    home.log_head.unlink()
    with pytest.raises((RefusedError, StateError, UsageError)):
        write_archive(office.controller, tmp_path / "archive", now(), lambda *_: None)
    home.log_policy.unlink()
    write_archive(office.controller, tmp_path / "archive", now(), lambda *_: None)

    def problems(mine: LogPolicy | None) -> set[str]:
        steps = archive_read.check_archive(
            tmp_path / "archive", signers_of(office), mine, {}, lambda *_: None
        )
        return {step.title for step in failures(steps)}

    assert problems(None) == set(), "NOT FOUND by whoever brings nothing"
    assert problems(policy)
