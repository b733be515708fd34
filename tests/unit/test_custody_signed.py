"""Custody that people sign: who must sign what, who may not be the same, and what the certificate says of it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, StateError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.trust import TrustedSigner, parse_allowed_signers
from expunge_controller import custodian, people
from expunge_controller.bundle import bundle_files
from expunge_controller.bundle_read import read_bundle
from expunge_controller.bundling import collect
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.ledger import append_custody, register_medium
from expunge_controller.log_audit import check_own
from expunge_controller.records import custody_check
from expunge_controller.records.bundle_check import verify_bundle, verify_custody
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.certify_review import reviewed
from expunge_controller.records.custody import CustodyKind, Standing
from expunge_controller.records.custody_parts import Destruction, Remedy
from expunge_controller.records.findings import Step, failures
from expunge_controller.records.paper import PaperIdentity
from expunge_controller.records.review import NOT_SIGNED
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.authenticator import TOUCHED, TOUCHED_WITH_PIN, Authenticator
from support.controllers import FakeAgent, enrolled, now, ordered
from support.fixtures import Run
from support.people import PHOTO, Folk, key_file

K = CustodyKind
SHREDDED = Destruction(method="shredding", particle_mm="2")


@pytest.fixture
def folk(controller: Controller) -> Folk:
    made = Folk(controller)
    made.add("ann", "custodian", "operator")
    made.add("bob", "custodian", "witness")
    made.add("val", "validator")
    made.add("sue", "second")
    return made


@pytest.fixture
def wiped(controller: Controller) -> tuple[str, str]:
    """(order id, medium) of a clean wipe."""
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    earlier = now() - timedelta(minutes=1)
    order = ordered(controller, machine, now=earlier)
    store_receipt(controller, machine.machine_id, *agent.receipt(order.body), now=earlier)
    with controller.store.read() as unit:
        return order.order_id, unit.evidence.media()[0].digest


def bundle(controller: Controller, order: str) -> dict[str, bytes]:
    return dict(bundle_files(collect(controller, order, 0, now())))


def check(files: dict[str, bytes]) -> list[Step]:
    return verify_bundle(files, None, page=certificate_html, readme=readme, profiles={})


def failed(files: dict[str, bytes]) -> str:
    return " | ".join(f"{step.title}: {step.detail}" for step in failures(check(files)))


def certificate(controller: Controller) -> Any:
    with controller.store.read() as unit:
        row = unit.evidence.certificate("CERT-" + f"{now():%Y}" + "-000001")
    assert row is not None
    return parse_certificate(row.body)


def hand_over(folk: Folk, medium: str) -> bytes:
    return folk.draft(medium, K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")


def test_a_hand_over_carries_both_signatures_over_the_same_bytes(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    body = hand_over(folk, medium)
    done = custodian.record(controller, body, folk.sign(body, "bob", "ann"), now())
    assert done.signers == ["ann", "bob"]
    files = bundle(controller, order)
    number = done.event.seq
    assert files[f"custody/{number:03}.json"] == body
    assert not failed(files)
    for name in ("ann", "bob"):
        armored = files[f"custody/{number:03}.json.{name}.sig"]
        assert sshsig.verify(armored, sshsig.CUSTODY_NAMESPACE, body) == folk.keys[name].public_line
        without = {key: value for key, value in files.items() if not key.endswith(f"{name}.sig")}
        assert f"{name} " in failed(without)
        assert "did not sign it" in failed(without)
    swapped = files | {
        f"custody/{number:03}.json.ann.sig": files[f"custody/{number:03}.json.bob.sig"],
    }
    assert "which is not ann's key" in failed(swapped)
    assert "val" not in "".join(files)  # people who have nothing to do with it are not told of


def test_recording_again_changes_nothing(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    body = hand_over(folk, wiped[1])
    signed = folk.sign(body, "ann", "bob")
    first = custodian.record(controller, body, signed, now())
    assert not first.repeated
    assert custodian.record(controller, body, signed, now()).repeated
    assert not failures(check_own(controller, []))


@pytest.mark.parametrize(
    ("who", "why"),
    [
        (["ann"], "bob .receiver. did not sign"),
        (["ann", "val"], "nobody's whom"),
        ([], "ann .giver. did not sign"),
    ],
)
def test_a_missing_or_strange_signature(
    controller: Controller, folk: Folk, wiped: tuple[str, str], who: list[str], why: str
) -> None:
    body = hand_over(folk, wiped[1])
    with pytest.raises(RefusedError, match=why):
        custodian.record(controller, body, folk.sign(body, *who), now())
    with controller.store.read() as unit:
        assert body not in [row.body for row in unit.evidence.custody(wiped[1])]


def test_a_draft_is_not_edited_and_not_used_after_another_event(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    body, late = hand_over(folk, wiped[1]), hand_over(folk, wiped[1])
    edited = body.replace(b"dock 2", b"dock 9")
    with pytest.raises(VerificationError):
        custodian.record(controller, edited, folk.sign(body, "ann", "bob"), now())
    custodian.record(controller, body, folk.sign(body, "ann", "bob"), now())
    with pytest.raises(RefusedError, match="Another event was recorded"):
        custodian.record(controller, late, folk.sign(late, "ann", "bob"), now())


def test_a_draft_of_the_future_is_refused(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    body = hand_over(folk, wiped[1])
    with pytest.raises(RefusedError, match=r"and it is .* now"):
        custodian.record(controller, body, folk.sign(body, "ann", "bob"), now() - timedelta(hours=1))


def test_what_an_agent_reports_is_not_recorded_by_hand(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    body = folk.draft(wiped[1], K.WIPED, {}, actor="ann")
    with pytest.raises(RefusedError, match="not recorded by hand"):
        custodian.record(controller, body, [], now())


def test_an_approval_is_signed_by_a_person_and_stands_on_the_certificate(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    assert certificate(controller).status == "awaiting validation"
    done = folk.record(medium, K.APPROVED, {"validator": "val"}, location="office")
    new = certificate(controller)
    assert (new.status, new.number) == ("approved", done.certificate)
    assert new.number.endswith("-000001.2")
    assert new.review.validation.key == sshsig.fingerprint(folk.keys["val"].public_line)
    assert new.validation.name == "Val Example (val)"
    folk.record(medium, K.CONCURRED, {"second": "sue"})
    third = certificate(controller)
    assert third.number.endswith(".3")
    assert third.concurrence.signature.endswith(sshsig.fingerprint(folk.keys["sue"].public_line))
    files = bundle(controller, order)
    assert not failed(files)
    page = files["certificate.html"].decode()
    assert "已批准" in page and "No person has approved" not in page
    assert sshsig.fingerprint(folk.keys["val"].public_line) in page
    assert not failures(check_own(controller, []))


def test_a_name_alone_is_said_to_be_one(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    order, medium = wiped
    body = folk.draft(medium, K.APPROVED, {}, actor="somebody")
    custodian.record(controller, body, [], now())
    new = certificate(controller)
    assert new.status == "approved"
    assert new.review.validation.key == ""
    assert NOT_SIGNED in new.validation.signature
    assert any(NOT_SIGNED in sentence for sentence in new.assurance)
    files = bundle(controller, order)
    assert not failed(files)
    assert "stands under a name only" in files["certificate.html"].decode()
    silent = reviewed(new, new.review)
    quiet = canonical.dumps(canonical.parse(canonical.dumps(silent)) | {"assurance": ["Nothing is amiss."]})
    files["certificate.json"] = quiet
    files["certificate.json.sig"] = sshsig.sign(controller.signer, sshsig.CERTIFICATE_NAMESPACE, quiet)
    assert f"does not say: approved under the name of somebody: {NOT_SIGNED}" in failed(files)


def test_a_certificate_that_claims_an_approval_that_custody_does_not_know(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    """The operator's own key signs both, and it is found all the same."""
    order, medium = wiped
    before = bundle(controller, order)
    folk.record(medium, K.APPROVED, {"validator": "val"})
    after = bundle(controller, order)
    mixed = before | {name: after[name] for name in after if name.startswith("certificate.")}
    assert "custody tells of other decisions than the certificate" in failed(mixed)
    last = sorted(name for name in after if name.startswith("custody/"))[-1]
    assert last.endswith(".val.sig")
    assert "did not sign it" in failed({name: data for name, data in after.items() if name != last})


def test_nothing_validates_itself(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    """`support.controllers.ordered` has the order requested by "records officer"."""
    people.add(
        controller,
        "officer",
        Authenticator().public_line,
        roles=["validator"],
        full_name="Records  Officer",
        title="",
        organisation="",
        by="x",
        now=now(),
    )
    with pytest.raises(RefusedError, match="nothing validates itself"):
        folk.draft(wiped[1], K.APPROVED, {"validator": "officer"})
    with pytest.raises(RefusedError, match="nothing validates itself"):
        folk.draft(wiped[1], K.APPROVED, {}, actor="records officer")


def test_a_concurrence_is_another_persons(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    folk.add("both", "validator", "second")
    folk.record(wiped[1], K.APPROVED, {"validator": "both"})
    with pytest.raises(RefusedError, match="another person"):
        folk.draft(wiped[1], K.CONCURRED, {"second": "both"})


def test_a_role_that_one_is_not_registered_for(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    with pytest.raises(RefusedError, match="ann is not registered as validator"):
        folk.record(wiped[1], K.APPROVED, {"validator": "ann"})


def test_a_rejection_demands_a_remedy_which_stays_open(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    from expunge_controller.records.custody import parse_custody_event
    from expunge_controller.records.review import open_follow_up

    with pytest.raises(RefusedError, match="it needs a remedy"):
        folk.draft(wiped[1], K.REJECTED, {"validator": "val"})
    repeat = Remedy(action="repeat", technique="block erase")
    folk.record(wiped[1], K.REJECTED, {"validator": "val"}, remedy=repeat)
    assert certificate(controller).status == "rejected"
    with controller.store.read() as unit:
        chain = [parse_custody_event(row.body) for row in unit.evidence.custody(wiped[1])]
    found = open_follow_up(chain)
    assert found is not None
    assert found.remedy == repeat
    assert chain[-1].standing is Standing.REJECTED


def test_a_repeated_wipe_closes_it_and_the_old_certificate_is_past(
    controller: Controller, folk: Folk, run: Run, tmp_path: Path
) -> None:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    first = ordered(controller, machine)
    store_receipt(controller, machine.machine_id, *agent.receipt(first.body), now=now())
    with controller.store.read() as unit:
        medium = unit.evidence.media()[0].digest
    repeat = Remedy(action="repeat", technique="block erase")
    folk.record(medium, K.REJECTED, {"validator": "val"}, remedy=repeat)
    second = ordered(controller, machine)
    with pytest.raises(RefusedError, match="approved may not come while the medium is ordered"):
        folk.draft(medium, K.APPROVED, {"validator": "val"})
    with controller.store.read() as unit:
        row = unit.fleet.machine(machine.machine_id)
    assert row is not None
    receipt = replace(agent.world.receipt(second.body), counter=U64(2), previous=row.last_digest or "")
    assert not store_receipt(controller, machine.machine_id, *agent.sealed(receipt), now=now()).reasons
    draft = tmp_path / "draft.json"
    code, _, err = run(
        "certificate", "approve", certificate_number(run, first.order_id), "--by", "val", "--draft", draft
    )
    assert (code, "wiped again since" in err, draft.exists()) == (3, True, False)
    assert json.loads(run("custody", "open", "--json")[1])[0]["remedy"] == "repeat: block erase"
    folk.record(medium, K.APPROVED, {"validator": "val"})
    assert json.loads(run("custody", "open", "--json")[1]) == []
    statuses = [
        json.loads(run("certificate", one.order_id, "--json")[1])["status"] for one in (first, second)
    ]
    assert statuses == ["rejected", "approved"]
    for one in (first, second):
        assert not failed(bundle(controller, one.order_id))


def test_keys_that_the_auditor_brings_hold_for_people_too(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    folk.record(wiped[1], K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    files = bundle(controller, wiped[0])
    brought = parse_allowed_signers(files["trust/allowed_signers"].decode())

    def failing(signers: list[TrustedSigner]) -> list[str]:
        steps = verify_bundle(files, signers, page=certificate_html, readme=readme, profiles={})
        return [step.title for step in failures(steps)]

    assert failing(brought) == []
    without = [one for one in brought if one.principal != "person:bob"]
    assert failing(without) == ["the keys are those the auditor trusts", custody_check.KNOWN]


@pytest.mark.parametrize("kind", [K.DESTROYED, K.HANDED_OVER, K.COLLECTED, K.SEALED])
def test_what_the_operator_appends_with_the_controllers_key_alone(
    controller: Controller, wiped: tuple[str, str], kind: CustodyKind
) -> None:
    """Past the verbs, with database and key: the chain is whole, and the rules are broken."""
    with controller.store.write() as unit:
        row = unit.evidence.medium(wiped[1])
        assert row is not None
        append_custody(unit, controller, row, kind, actor="ann", now=now(), location="x", seal_id="x")
    said = failed(bundle(controller, wiped[0]))
    assert said.startswith(custody_check.RULES)
    assert f"({kind}): it needs the signature of its" in said


def test_a_person_invented_by_the_operator(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    """Nothing in the bundle can tell; the keys that the auditor was given by the people can."""
    folk.add("nobody", "validator")
    folk.record(wiped[1], K.APPROVED, {"validator": "nobody"})
    files = bundle(controller, wiped[0])
    assert not failed(files)
    brought = parse_allowed_signers(files["trust/allowed_signers"].decode())
    mine = [one for one in brought if one.principal != "person:nobody"]
    steps = verify_bundle(files, mine, page=certificate_html, readme=readme, profiles={})
    assert custody_check.KNOWN in [step.title for step in failures(steps)]


def test_a_correction_appends_and_a_release_ends_it(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    with pytest.raises(RefusedError, match="what it corrects"):
        folk.draft(medium, K.CORRECTED, {"custodian": "bob"})
    with pytest.raises(RefusedError, match="released may not come while the medium is verified"):
        folk.draft(medium, K.RELEASED, {"custodian": "bob"}, location="gate")
    folk.record(medium, K.APPROVED, {"validator": "val"})
    folk.record(medium, K.RELEASED, {"custodian": "bob", "receiver": "ann"}, location="gate")
    done = folk.record(medium, K.CORRECTED, {"custodian": "bob"}, note="event 6: it was gate 2")
    assert done.event.standing is Standing.GONE
    with pytest.raises(RefusedError, match="while the medium is gone"):
        folk.draft(medium, K.SEALED, {"custodian": "bob"}, seal_id="S-1")
    assert not failed(bundle(controller, order))


def test_what_is_condemned_is_not_wiped_again(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    destroy = Remedy(action="destroy", technique="shredding")
    done = folk.record(wiped[1], K.REJECTED, {"validator": "val"}, remedy=destroy)
    assert done.event.standing is Standing.CONDEMNED
    with controller.store.read() as unit:
        machine = unit.fleet.machines()[0]
    with pytest.raises(RefusedError, match="requested may not come while the medium is condemned"):
        ordered(controller, machine)
    gone = folk.record(
        wiped[1],
        K.DESTROYED,
        {"operator": "ann", "witness": "bob"},
        location="works 1",
        attachments=[PHOTO],
        destruction=SHREDDED,
    )
    assert gone.event.standing is Standing.GONE


DESTROYED: dict[str, Any] = {"location": "works 1", "attachments": [PHOTO], "destruction": SHREDDED}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"location": " "}, "needs a location"),
        ({"attachments": []}, "a photo by its SHA-256"),
        ({"destruction": None}, "needs a destruction"),
        ({"destruction": Destruction(method="shredding")}, "size of the particles"),
        ({"destruction": Destruction(method="incineration")}, "temperature"),
        ({"destruction": Destruction(method="prayer")}, "no method of destruction"),
    ],
)
def test_what_a_destruction_needs(
    folk: Folk, wiped: tuple[str, str], changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(RefusedError, match=why):
        folk.draft(wiped[1], K.DESTROYED, {"operator": "ann", "witness": "bob"}, **(DESTROYED | changes))


def test_the_witness_is_neither_operator_nor_custodian(folk: Folk, wiped: tuple[str, str]) -> None:
    folk.add("eve", "operator", "witness")
    with pytest.raises(RefusedError, match="somebody stands in it twice"):
        folk.draft(wiped[1], K.DESTROYED, {"operator": "eve", "witness": "eve"}, **DESTROYED)
    with pytest.raises(RefusedError, match="needs the signature of its witness"):
        folk.draft(wiped[1], K.DESTROYED, {"operator": "eve"}, **DESTROYED)
    folk.record(wiped[1], K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    with pytest.raises(RefusedError, match="neither custodian nor operator"):
        folk.draft(wiped[1], K.DESTROYED, {"operator": "eve", "witness": "bob"}, **DESTROYED)


def test_a_removed_person_signs_no_more_and_what_was_signed_before_stays_good(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    pending = hand_over(folk, medium)
    custodian.record(controller, pending, folk.sign(pending, "ann", "bob"), now())
    pending = folk.draft(medium, K.SEALED, {"custodian": "bob"}, seal_id="S-1")
    later = now() + timedelta(seconds=2)
    people.remove(controller, "bob", since=later, reason="left", by="x", now=later)
    with pytest.raises(RefusedError, match="not registered any more"):
        custodian.record(controller, pending, folk.sign(pending, "bob"), later)
    assert not failed(bundle(controller, order))
    with pytest.raises(NotFoundError):
        people.remove(controller, "bob", since=None, reason="", by="x", now=later)


def test_a_key_lost_before_the_signature(controller: Controller, folk: Folk, wiped: tuple[str, str]) -> None:
    order, medium = wiped
    folk.record(medium, K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    people.remove(controller, "bob", since=now() - timedelta(days=1), reason="key stolen", by="x", now=now())
    assert "bob is not known at" in failed(bundle(controller, order))


def test_keys_and_names_are_ones_own(controller: Controller, folk: Folk) -> None:
    with pytest.raises(RefusedError, match="registered already"):
        folk.add("ann")
    with pytest.raises(RefusedError, match="ann's"):
        folk.add("ann2", signer=folk.keys["ann"])
    with pytest.raises(RefusedError, match="a machine's"):
        folk.add("robot", signer=controller.signer)
    with pytest.raises(RefusedError, match="registered as ann"):
        people.add(
            controller, "an", Authenticator().public_line, roles=[], full_name="ANN  example", title="",
            organisation="", by="x", now=now(),
        )  # fmt: skip


@pytest.mark.parametrize("ecdsa", [False, True])
def test_an_approval_takes_pin_or_fingerprint_and_a_hand_over_a_touch(
    controller: Controller, folk: Folk, wiped: tuple[str, str], ecdsa: bool
) -> None:
    key = Authenticator(ecdsa=ecdsa, flags=0)
    folk.add("key", "validator", signer=key)
    body = folk.draft(wiped[1], K.HANDED_OVER, {"giver": "ann", "receiver": "key"}, location="dock 2")
    with pytest.raises(VerificationError, match="without anybody touching"):
        custodian.record(controller, body, folk.sign(body, "ann", "key"), now())
    key.flags = TOUCHED
    custodian.record(controller, body, folk.sign(body, "ann", "key"), now())
    body = folk.draft(wiped[1], K.APPROVED, {"validator": "key"})
    with pytest.raises(RefusedError, match="PIN or fingerprint"):
        custodian.record(controller, body, folk.sign(body, "key"), now())
    key.flags = TOUCHED_WITH_PIN
    custodian.record(controller, body, folk.sign(body, "key"), now())
    assert certificate(controller).review.validation.security_key == "user verified"
    assert not failed(bundle(controller, wiped[0]))


def test_a_persons_key_does_not_stand_for_the_controllers(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    folk.record(medium, K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    files = bundle(controller, order)
    files["custody/001.json.sig"] = folk.sign(files["custody/001.json"], "ann")[0]
    assert "every custody event is signed" in failed(files)
    auditors = [
        TrustedSigner(principal="ann@example", namespaces=one.namespaces, public_line=one.public_line)
        if one.principal == "person:ann"
        else one
        for one in parse_allowed_signers(files["trust/allowed_signers"].decode())
    ]
    steps = verify_bundle(files, auditors, page=certificate_html, readme=readme, profiles={})
    assert "every custody event is signed" in [step.title for step in failures(steps)]


def test_every_changed_bit_of_what_people_signed_is_found(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    """Sampled: every 17th byte of each file, another bit each time."""
    order, medium = wiped
    folk.add("key", "validator", signer=Authenticator())
    folk.record(medium, K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    folk.record(medium, K.APPROVED, {"validator": "key"})
    files = bundle(controller, order)
    theirs = [name for name in files if name.startswith("people/") or name.count(".") > 2]
    assert len(theirs) == 9
    for name in theirs:
        for position in range(0, len(files[name]), 17):
            changed = bytearray(files[name])
            changed[position] ^= 1 << (position % 8)
            assert failed(files | {name: bytes(changed)}), (name, position)


def test_a_person_that_the_controller_never_registered(
    controller: Controller, folk: Folk, wiped: tuple[str, str]
) -> None:
    order, medium = wiped
    folk.record(medium, K.HANDED_OVER, {"giver": "ann", "receiver": "bob"}, location="dock 2")
    files = bundle(controller, order)
    files["people/001.json.sig"] = sshsig.sign(
        folk.keys["ann"], sshsig.PERSON_NAMESPACE, files["people/001.json"]
    )
    assert custody_check.KNOWN in failed(files)


def test_paper_is_a_medium_too(controller: Controller, folk: Folk) -> None:
    paper = PaperIdentity(container="box", number="BOX-7", description="invoices 2009")
    with controller.store.write() as unit:
        row = register_medium(
            unit,
            controller,
            paper,
            machine_id=None,
            hint="",
            actor="ann",
            now=now(),
            seal_id="S-7",
            count=212,
        )
    folk.record(row.digest, K.SEALED, {"custodian": "bob"}, seal_id="S-8")
    with pytest.raises(RefusedError, match="cannot happen to paper"):
        folk.draft(row.digest, K.WIPED, {}, actor="x")
    with pytest.raises(RefusedError, match="paper is not destroyed by pulverising"):
        folk.draft(
            row.digest,
            K.DESTROYED,
            {"operator": "ann", "witness": "bob"},
            **(DESTROYED | {"destruction": Destruction(method="pulverising", particle_mm="1")}),
        )
    folk.add("wit", "witness")
    done = folk.record(row.digest, K.DESTROYED, {"operator": "ann", "witness": "wit"}, **DESTROYED)
    assert done.event.subject == "paper:box:BOX-7"
    assert done.event.standing is Standing.GONE


# The verbs.


def test_the_way_through_the_verbs(run: Run, tmp_path: Path, wiped: tuple[str, str]) -> None:
    order, medium = wiped
    keys = {name: key_file(tmp_path / name) for name in ("ann", "bob", "val")}
    for name, role in (("ann", "custodian"), ("bob", "custodian"), ("val", "validator")):
        assert run("people", "add", name, "--key", f"{keys[name]}.pub", "--role", role)[0] == 0
    code, _, err = run("people", "add", "eve", "--key", keys["ann"])
    assert (code, "is a private key" in err) != (0, False)
    draft = tmp_path / "handover.json"
    code, out, _ = run(
        "custody", "draft", medium, "handed-over", "--from", "ann", "--to", "bob", "--location", "dock 2",
        "--seal", "S-42", "-o", draft,
    )  # fmt: skip
    assert code == 0
    assert "ssh-keygen -Y sign -n expunge-custody" in out
    assert run("custody", "sign", draft, "--key", keys["ann"])[0] == 2  # two are named: who is it?
    for name in ("ann", "bob"):
        code, out, _ = run("custody", "sign", draft, "--key", keys[name], "--by", name)
        assert code == 0
        assert "S-42" in out
    code, _, err = run("custody", "record", draft, "--signature", f"{draft}.ann.sig")
    assert (code, "bob (receiver) did not sign it" in err) == (3, True)
    code, out, _ = run(
        "custody", "record", draft, "--signature", f"{draft}.ann.sig", "--signature", f"{draft}.bob.sig"
    )
    assert (code, "signed by ann, bob" in out) == (0, True)
    assert "already" in run("custody", "record", draft)[1]
    code, out, _ = run("media", "find", "s-42 ")
    assert (code, medium[:16] in out, "dock 2" in out) == (0, True, True)
    assert run("media", "find", "S-43")[0] != 0
    number = certificate_number(run, order)
    assert run("certificate", "approve", number, "--by", "val")[0] == 2  # not said how it is signed
    code, out, _ = run("certificate", "approve", number, "--by", "val", "--key", keys["val"])
    assert (code, f"{number}.2 issued" in out) == (0, True)
    code, out, _ = run("certificate", order)
    assert (code, f"{number}.2, approved" in out) == (0, True)
    code, out, _ = run("custody", "S-42")
    assert (code, "val (validator)" in out, "AGAINST" in out) == (0, True, False)
    code, out, err = run("certificate", "reject", number, "--by", "val", "--key", keys["val"],
                         "--remedy", "destroy", "--technique", "shredding")  # fmt: skip
    assert code == 0, err
    code, out, _ = run("custody", "open", "--json")
    assert [one["remedy"] for one in json.loads(out)] == ["destroy: shredding"]
    bundle = tmp_path / "bundle.zip"
    assert run("export", order, "-o", bundle)[0] == 0
    code, out, _ = run("verify", bundle)
    assert code == 0, out
    code, out, _ = run("people", "list", "--json")
    assert [one["person"] for one in json.loads(out)] == ["ann", "bob", "val"]
    assert run("people", "remove", "bob", "--reason", "left")[0] == 0
    assert "removed" in run("people", "list", "--all")[1]


def certificate_number(run: Run, order: str) -> str:
    number: str = json.loads(run("certificate", order, "--json")[1])["number"]
    return number


def test_a_decision_signed_elsewhere(run: Run, tmp_path: Path, folk: Folk, wiped: tuple[str, str]) -> None:
    number, draft = certificate_number(run, wiped[0]), tmp_path / "approval.json"
    code, out, _ = run("certificate", "approve", number, "--by", "val", "--draft", draft)
    assert (code, "nothing is recorded yet" in out) == (0, True)
    (tmp_path / "sig").write_bytes(folk.sign(draft.read_bytes(), "val")[0])
    code, out, _ = run("custody", "record", draft, "--signature", tmp_path / "sig")
    assert (code, f"{number}.2 issued" in out) == (0, True)


def test_a_lot_through_the_verbs(run: Run, tmp_path: Path, wiped: tuple[str, str]) -> None:
    key = key_file(tmp_path / "cas")
    assert run("people", "add", "cas", "--key", f"{key}.pub", "--role", "checker")[0] == 0
    start = f"{now() - timedelta(days=1):%Y-%m-%d}"
    code, out, err = run("lot", "create", "--percent", "20", "--from", start, "--checker", "cas", "--json")
    assert code == 0, err
    number = json.loads(out)["lot"]
    assert run("lot", "check", number)[0] == 0
    path = tmp_path / "lot.json"
    assert run("lot", "show", number, "-o", path)[0] == 0
    assert run("lot", "check", path)[0] == 0
    path.write_bytes(path.read_bytes().replace(b'"percent":20', b'"percent":60'))
    assert (
        run("lot", "check", path)[0] == 0
    )  # of one medium, all percentages draw one; unsigned, it is not noticed
    path.write_bytes(path.read_bytes().replace(b"expunge/", b"EXPUNGE/"))
    assert run("lot", "check", path)[0] not in (0, 70)
    said = ("--lot", number, "--tool", "other-tool 3", "--by", "cas", "--key", key)
    code, out, err = run("lot", "result", wiped[1], "fail", *said)
    assert (code, "condemned" in out) == (0, True), err
    assert json.loads(run("lot", "list", "--json")[1])[0]["failed"] == "1"


@pytest.mark.usefixtures("controller")
def test_paper_through_the_verbs(run: Run) -> None:
    arguments = (
        "media",
        "paper",
        "BOX-7",
        "--container",
        "box",
        "--description",
        "invoices",
        "--count",
        "212",
    )
    assert run(*arguments, "--seal", "S-7", "--location", "cellar")[0] == 0
    code, _, err = run(*arguments)
    assert (code, "is on something" in err) == (3, True)
    code, out, _ = run("media", "find", "S-7", "--json")
    assert json.loads(out)[0]["name"] == "paper:box:BOX-7"
    assert "paper:box:BOX-7" in run("media", "list")[1]


def test_custody_that_travels_alone(controller: Controller, folk: Folk, run: Run, tmp_path: Path) -> None:
    paper = PaperIdentity(container="box", number="BOX-7", description="invoices 2009")
    with controller.store.write() as unit:
        row = register_medium(
            unit, controller, paper, machine_id=None, hint="", actor="ann", now=now(), count=212
        )
    folk.record(row.digest, K.DESTROYED, {"operator": "ann", "witness": "bob"}, **DESTROYED)
    path = tmp_path / "custody.zip"
    assert run("custody", "export", "BOX-7", "-o", path)[0] == 0
    code, out, _ = run("custody", "check", path, "--json")
    assert code == 0, out
    files = read_bundle(path)
    assert not failures(verify_custody(files, None))
    for name in files:
        gone = {other: data for other, data in files.items() if other != name}
        assert failures(verify_custody(gone, None)), name
        for position in range(0, len(files[name]), 41):
            changed = bytearray(files[name])
            changed[position] ^= 1 << (position % 8)
            assert failures(verify_custody(files | {name: bytes(changed)}, None)), (name, position)
    assert failures(verify_custody(files | {"notes.txt": b""}, None))
    assert failures(verify_custody({}, None))


@pytest.mark.parametrize(
    "data", [b"", b"x", b"-----BEGIN OPENSSH PRIVATE KEY-----\n\xff*\n-----END", b"a b c\nd"]
)
def test_what_is_no_key_is_said_to_be_none(
    run: Run, tmp_path: Path, folk: Folk, wiped: tuple[str, str], data: bytes
) -> None:
    (tmp_path / "key").write_bytes(data)
    draft = tmp_path / "draft.json"
    draft.write_bytes(hand_over(folk, wiped[1]))
    for arguments in (
        ("people", "add", "new", "--key", tmp_path / "key"),
        ("custody", "sign", draft, "--by", "ann", "--key", tmp_path / "key"),
        ("custody", "record", draft, "--signature", tmp_path / "key"),
        ("custody", "record", tmp_path / "key"),
        ("custody", "check", tmp_path / "key"),
        ("lot", "check", tmp_path / "key"),
    ):
        code, _, err = run(*arguments)
        assert code not in (0, 70), arguments
        assert "error: " in err


def test_a_key_with_a_passphrase_that_is_wrong(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

    from expunge_controller.person_keys import signer_of

    path = tmp_path / "key"
    path.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"right")
        )
    )
    assert signer_of(path, lambda: "right").public_line.startswith("ssh-ed25519 ")
    with pytest.raises(StateError, match="cannot be opened"):
        signer_of(path, lambda: "wrong")
