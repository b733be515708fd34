"""Receipts: an accepted one changes everything at once; a bad one is kept aside and changes nothing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from expunge_agent.errors import EnrolmentError, UnknownOutcomeError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_controller import bundling, dispatch
from expunge_controller.bundle import SignedBytes, bundle_files
from expunge_controller.cli.follow import exit_code, report
from expunge_controller.context import Controller
from expunge_controller.intake import Stored, store_receipt
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import check_chain, parse_custody_event
from expunge_controller.records.findings import failures
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus
from expunge_profiles.load import builtin
from support.controllers import FakeAgent, disk, enrolled, now, ordered
from support.evidence import (
    a_read_back,
    a_verification,
    an_erasure,
    erased_result,
    some_canaries,
    target_result,
)


def store(controller: Controller, machine: MachineRow, receipt: SignedBytes, hint: str = "") -> Stored:
    return store_receipt(
        controller, machine.machine_id, receipt.body, receipt.signature, order_hint=hint, now=now()
    )


def custody(controller: Controller, number: int = 1) -> list[str]:
    with controller.store.read() as unit:
        rows = unit.evidence.custody(medium_of(disk(number))[1])
    check_chain([row.body for row in rows])
    return [row.event for row in rows]


def order_now(controller: Controller, order: OrderRow) -> OrderRow:
    with controller.store.read() as unit:
        found = unit.orders.get(order.digest)
    assert found is not None
    return found


def counts(controller: Controller) -> tuple[int, int, int]:
    """Receipts, receipts kept aside, certificates."""
    with controller.store.read() as unit:
        run = unit.fleet._connection.execute  # type: ignore[attr-defined]
        tables = ("receipts", "aside", "certificates")
        first, second, third = (run(sa.text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables)
    return first, second, third


def test_a_good_receipt_ends_the_order_with_custody_and_certificate(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    receipt = agent.receipt(order.body)
    stored = store(controller, machine, receipt)
    assert stored == Stored(canonical.sha256_hex(receipt.body), ())
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome, ended.note) == (OrderStatus.FINISHED, "sanitized", "")
    assert custody(controller) == ["registered", "requested", "wipe-started", "wiped", "verified"]
    assert counts(controller) == (1, 0, 1)
    with controller.store.read() as unit:
        (certificate,) = unit.evidence.certificates_of_order(order.digest)
    assert certificate.number == f"CERT-{now():%Y}-000001"
    line = sshsig.verify(certificate.signature, sshsig.CERTIFICATE_NAMESPACE, certificate.body)
    assert line == controller.signer.public_line


def test_what_is_collected_is_a_bundle_that_checks_out(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, disk(1), disk(2))
    store(controller, machine, agent.receipt(order.body))
    profiles = {profile.digest: profile for profile in builtin().values()}
    for target in (0, 1):
        files = bundle_files(bundling.collect(controller, order.order_id, target, now()))
        steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles=profiles)
        assert failures(steps) == []


def test_the_same_receipt_again_changes_nothing(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    receipt = agent.receipt(order.body)
    first = store(controller, machine, receipt)
    before = (order_now(controller, order), custody(controller), counts(controller))
    again = store(controller, machine, receipt)
    assert (again.digest, again.reasons, again.repeated) == (first.digest, (), True)
    assert (order_now(controller, order), custody(controller), counts(controller)) == before


def test_a_receipt_with_one_bit_flipped_is_kept_aside_and_shown(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    good = agent.receipt(order.body)
    for at in (0, len(good.body) // 3, len(good.body) - 1):
        body = bytearray(good.body)
        body[at] ^= 1
        stored = store(controller, machine, SignedBytes(bytes(body), good.signature), order.digest)
        assert stored.digest == canonical.sha256_hex(bytes(body))
        assert stored.reasons
    assert counts(controller) == (0, 3, 0)
    assert order_now(controller, order).status is OrderStatus.ATTENTION
    assert custody(controller) == ["registered", "requested"]
    again = store(controller, machine, SignedBytes(bytes(body), good.signature), order.digest)
    assert again.repeated
    assert counts(controller) == (0, 3, 0)
    store(controller, machine, good)  # the true one still counts
    assert order_now(controller, order).status is OrderStatus.FINISHED


def test_a_gap_is_stored_with_a_note(controller: Controller, agent: FakeAgent, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    stored = store(controller, machine, agent.receipt(order.body, counter=U64(3), previous="a" * 64))
    assert stored.gap
    assert "missing before this one" in order_now(controller, order).note
    assert order_now(controller, order).outcome == "sanitized"


def test_the_chain_goes_on_over_receipts_kept_aside(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    first, second = ordered(controller, machine), ordered(controller, machine, disk(2))
    boast = agent.receipt(first.body, level_achieved=Level.PURGE)
    kept = store(controller, machine, boast)
    assert kept.reasons
    following = agent.receipt(second.body, counter=U64(2), previous=kept.digest)
    assert store(controller, machine, following) == Stored(canonical.sha256_hex(following.body), ())


def test_two_receipts_with_one_counter_show_a_copied_key(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    first, second = ordered(controller, machine), ordered(controller, machine, disk(2))
    store(controller, machine, agent.receipt(first.body))
    stored = store(controller, machine, agent.receipt(second.body))
    assert "two agents sign with one key" in " ".join(stored.reasons)
    assert order_now(controller, second).status is OrderStatus.ATTENTION


def test_a_receipt_delivered_by_another_machine_is_kept_aside(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    courier = enrolled(controller, FakeAgent(machine_id="2" * 32), "beta")
    order = ordered(controller, machine)
    receipt = agent.receipt(order.body)
    stored = store(controller, courier, receipt)
    assert stored.reasons
    assert order_now(controller, order).status is OrderStatus.CREATED  # no business of the courier's
    store(controller, machine, receipt)
    assert order_now(controller, order).outcome == "sanitized"


def test_a_refusal_of_the_whole_order_is_recorded_for_every_medium(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, disk(1), disk(2))
    refusal = Refusal(reason=Reason.EXPIRED, detail="The order expired.")
    changes: dict[str, Any] = {
        "outcome": Outcome.REFUSED,
        "refusal": refusal,
        "targets": [],
        "level_achieved": Level.NONE,
    }
    assert store(controller, machine, agent.receipt(order.body, **changes)).reasons == ()
    assert order_now(controller, order).outcome == "refused"
    for number in (1, 2):
        assert custody(controller, number) == ["registered", "requested", "refused"]
    assert counts(controller) == (1, 0, 0)


def test_every_target_gets_its_own_ending(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, disk(1), disk(2))
    targets = parse_order(order.body).targets
    failed = target_result(
        targets[1],
        outcome=Outcome.FAILED,
        level_achieved=Level.NONE,
        verifications=[],
        failure="The drive vanished.",
    )
    receipt = agent.receipt(
        order.body,
        targets=[target_result(targets[0]), failed],
        outcome=Outcome.FAILED,
        level_achieved=Level.NONE,
    )
    assert store(controller, machine, receipt).reasons == ()
    assert custody(controller, 1)[-2:] == ["wiped", "verified"]
    assert custody(controller, 2)[-2:] == ["wipe-started", "wipe-failed"]
    assert counts(controller) == (1, 0, 1)


def test_an_unclean_verification_is_not_called_verified(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    (target,) = parse_order(order.body).targets
    result = target_result(
        target,
        outcome=Outcome.EXCEPTIONS,
        verifications=[a_verification(reads_medium=False)],
        exceptions=["The read-back may have come from a cache."],
        level_achieved=Level.NONE,
    )
    receipt = agent.receipt(
        order.body, targets=[result], outcome=Outcome.EXCEPTIONS, level_achieved=Level.NONE
    )
    assert store(controller, machine, receipt).reasons == ()
    assert custody(controller)[-1] == "wiped"


def notes(controller: Controller) -> list[str]:
    with controller.store.read() as unit:
        rows = unit.evidence.custody(medium_of(disk())[1])
    return [parse_custody_event(row.body).note for row in rows]


def test_a_purge_by_the_drive_ends_the_order_with_custody_and_certificate(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, profile="nist-purge")
    assert parse_order(order.body).level is Level.PURGE
    result = erased_result(parse_order(order.body).targets[0])
    receipt = agent.receipt(order.body, targets=[result], level_achieved=Level.PURGE)
    assert store(controller, machine, receipt).reasons == ()
    assert order_now(controller, order).outcome == "sanitized"
    assert custody(controller) == ["registered", "requested", "wipe-started", "wiped", "verified"]
    assert notes(controller)[-1].startswith(f"{some_canaries().written} canaries gone, sampled read-back, ")
    assert counts(controller) == (1, 0, 1)
    files = bundle_files(bundling.collect(controller, order.order_id, 0, now()))
    profiles = {profile.digest: profile for profile in builtin().values()}
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles=profiles)
    assert failures(steps) == []


def test_an_overwrite_does_not_answer_an_order_for_purge(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, profile="nist-purge")
    stored = store(controller, machine, agent.receipt(order.body))
    assert "the profile allows nvme-sanitize-crypto" in " ".join(stored.reasons)
    assert counts(controller) == (0, 1, 0)
    assert order_now(controller, order).status is OrderStatus.ATTENTION


@pytest.mark.parametrize(
    "change",
    [
        {"canaries": some_canaries(unreadable=1)},
        {"read_back": a_read_back(reads_medium=False)},
        {"read_back": a_read_back(unreadable_bytes=U64(4096))},
        {"read_back": None},
    ],
)
def test_an_unclean_erasure_is_not_called_verified(
    controller: Controller, agent: FakeAgent, machine: MachineRow, change: dict[str, Any]
) -> None:
    order = ordered(controller, machine, profile="nist-purge")
    result = erased_result(
        parse_order(order.body).targets[0],
        outcome=Outcome.EXCEPTIONS,
        level_achieved=Level.NONE,
        exceptions=["It is told."],
        erasure=an_erasure(**change),
    )
    receipt = agent.receipt(
        order.body, targets=[result], outcome=Outcome.EXCEPTIONS, level_achieved=Level.NONE
    )
    stored = store(controller, machine, receipt)
    assert bool(stored.reasons) is (change == {"read_back": None})  # the profile demands one
    assert "verified" not in custody(controller)


def test_a_drive_that_is_gone_in_the_middle_leaves_its_medium_unsanitized(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, profile="nist-purge")
    gone = an_erasure(ended="unknown", canaries=None, read_back=None, settled=False, detail="ENODEV")
    result = erased_result(
        parse_order(order.body).targets[0],
        outcome=Outcome.UNKNOWN,
        level_achieved=Level.NONE,
        identity_after=None,
        failure="What the drive did is not known: ENODEV.",
        erasure=gone,
    )
    receipt = agent.receipt(order.body, targets=[result], outcome=Outcome.UNKNOWN, level_achieved=Level.NONE)
    assert store(controller, machine, receipt).reasons == ()
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome) == (OrderStatus.FINISHED, "unknown")
    assert custody(controller) == ["registered", "requested", "wipe-started", "wipe-failed"]
    assert notes(controller)[-1] == ("outcome unknown, level none. What the drive did is not known: ENODEV.")
    assert counts(controller) == (1, 0, 0)
    assert exit_code(ended) == UnknownOutcomeError.exit_code


def test_the_end_of_a_command_is_shown(
    controller: Controller,
    agent: FakeAgent,
    machine: MachineRow,
    capsys: pytest.CaptureFixture[str],
) -> None:
    order = ordered(controller, machine, profile="nist-purge")
    lied = an_erasure(
        attempts=2,
        canaries=some_canaries(found=5, kept=2),
        settled=False,
        settling="it stays locked",
        changes=["an ATA password is set on it"],
    )
    result = erased_result(
        parse_order(order.body).targets[0],
        outcome=Outcome.FAILED,
        level_achieved=Level.NONE,
        failure="The drive reported success, and 5 canaries can still be read.",
        erasure=lied,
    )
    receipt = agent.receipt(order.body, targets=[result], outcome=Outcome.FAILED, level_achieved=Level.NONE)
    assert store(controller, machine, receipt).reasons == ()
    report(controller, order_now(controller, order), as_json=False)
    told = capsys.readouterr().out
    for phrase in (
        "failed: The drive reported success, and 5 canaries can still be read",
        "nvme-sanitize-crypto: done after 2.9 s, begun 2 times: status 1",
        "the drive was not left usable: it stays locked",
        "differs from before: an ATA password is set on it",
        f"still there: 5 of {some_canaries().written} canaries, 2 of 200 samples of old data",
        "sampled read-back: 33.6 MB in 0.7 s",
    ):
        assert phrase in told, phrase


def test_a_wipe_that_nobody_ordered_here_is_kept_with_its_medium(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    other = agent.world.order(issuer="controller:elsewhere")
    stored = store(controller, machine, agent.receipt(other))
    assert stored.reasons == ()
    with controller.store.read() as unit:
        (medium,) = unit.evidence.media()
        events = [row.event for row in unit.evidence.custody(medium.digest)]
    assert events == ["registered", "wipe-started", "wiped", "verified"]


def test_a_machine_that_is_not_enrolled_delivers_nothing(controller: Controller, agent: FakeAgent) -> None:
    with pytest.raises(EnrolmentError):
        store_receipt(controller, "9" * 32, b"{}", b"", now=now())


def test_a_receipt_for_an_order_that_was_called_expired_still_counts(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    dispatch.reject(controller, machine.machine_id, order.digest, "the agent's disk is full", now())
    store(controller, machine, agent.receipt(order.body))
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome) == (OrderStatus.FINISHED, "sanitized")


def test_an_error_in_the_middle_leaves_no_trace(
    controller: Controller, agent: FakeAgent, machine: MachineRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that follows from a receipt is one transaction: stop it at its last step."""
    order = ordered(controller, machine)
    receipt = agent.receipt(order.body)
    before = (order_now(controller, order), custody(controller), counts(controller))

    def full(*_: object, **__: object) -> bool:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    from expunge_agent.errors import NoSpaceError
    from expunge_controller.store.sql_orders import SqlOrders

    with monkeypatch.context() as patch:
        patch.setattr(SqlOrders, "change", full)
        with pytest.raises(NoSpaceError):
            store(controller, machine, receipt)
    assert (order_now(controller, order), custody(controller), counts(controller)) == before
    assert store(controller, machine, receipt) == Stored(canonical.sha256_hex(receipt.body), ())


def test_a_custody_that_ended_does_not_keep_the_receipt_out(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    from expunge_controller.ledger import append_custody
    from expunge_controller.records.custody import CustodyKind

    order = ordered(controller, machine)
    with controller.store.write() as unit:
        medium = unit.evidence.medium(medium_of(disk())[1])
        assert medium is not None
        append_custody(unit, controller, medium, CustodyKind.DESTROYED, actor="shredding firm", now=now())
    assert store(controller, machine, agent.receipt(order.body)).reasons == ()
    ended = order_now(controller, order)
    assert ended.outcome == "sanitized"
    assert "verified may not come" in ended.note
    assert custody(controller)[-1] == "wiped"


def test_certificates_are_numbered_without_a_gap(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    previous = "0" * 64
    for number in range(1, 4):
        order = ordered(controller, machine, disk(number))
        receipt = agent.receipt(order.body, counter=U64(number), previous=previous)
        previous = store(controller, machine, receipt).digest
    with controller.store.read() as unit:
        prefix = f"CERT-{now():%Y}-"
        assert unit.evidence.last_certificate_number(prefix) == f"{prefix}000003"


def test_a_weaker_level_does_not_pass_for_the_ordered_one(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine, level=Level.PURGE, allow_downgrade=True)
    (target,) = parse_order(order.body).targets
    receipt = agent.receipt(order.body, targets=[replace(target_result(target), level_achieved=Level.PURGE)])
    assert store(controller, machine, receipt).reasons


def refusal(reason: Reason) -> dict[str, Any]:
    """What makes a receipt that of an order refused as a whole."""
    return {
        "outcome": Outcome.REFUSED,
        "refusal": Refusal(reason=reason, detail="No."),
        "targets": [],
        "level_achieved": Level.NONE,
    }


@pytest.mark.parametrize("reason", [Reason.WRONG_MACHINE, Reason.MALFORMED_ORDER, Reason.UNKNOWN_SIGNER])
def test_another_machine_can_neither_end_an_order_nor_keep_its_certificate_away(
    controller: Controller, agent: FakeAgent, machine: MachineRow, reason: Reason
) -> None:
    thief = FakeAgent(machine_id="2" * 32)
    other = enrolled(controller, thief, "beta")
    order = ordered(controller, machine)
    stored = store(controller, other, thief.receipt(order.body, **refusal(reason)))
    assert "the order was for" in " ".join(stored.reasons)
    assert order_now(controller, order) == order
    assert custody(controller) == ["registered", "requested"]
    assert counts(controller) == (0, 1, 0)
    assert store(controller, machine, agent.receipt(order.body)).reasons == ()
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome) == (OrderStatus.FINISHED, "sanitized")
    assert counts(controller) == (1, 1, 1)


def test_work_outranks_an_earlier_refusal_and_is_shown(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    first = store(controller, machine, agent.receipt(order.body, **refusal(Reason.BAD_SIGNATURE)))
    assert order_now(controller, order).outcome == "refused"
    second = agent.receipt(order.body, counter=U64(2), previous=first.digest)
    assert store(controller, machine, second).reasons == ()
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome) == (OrderStatus.ATTENTION, "sanitized")
    assert "The first one said refused" in ended.note
    assert custody(controller)[-3:] == ["wipe-started", "wiped", "verified"]
    assert counts(controller) == (2, 0, 1)
    files = bundle_files(bundling.collect(controller, order.order_id, 0, now()))
    profiles = {profile.digest: profile for profile in builtin().values()}
    assert failures(verify_bundle(files, None, page=certificate_html, readme=readme, profiles=profiles)) == []
    with controller.store.read() as unit:
        deciding = unit.evidence.receipt_of_order(order.digest)
    assert deciding is not None
    assert deciding.body == second.body


@pytest.mark.parametrize("refused", [True, False])
def test_after_work_a_second_receipt_changes_nothing_but_is_shown(
    controller: Controller, agent: FakeAgent, machine: MachineRow, refused: bool
) -> None:
    order = ordered(controller, machine)
    first = agent.receipt(order.body)
    previous = store(controller, machine, first).digest
    before = custody(controller)
    changes = refusal(Reason.EXPIRED) if refused else {}
    for number in (2, 3):
        receipt = agent.receipt(order.body, counter=U64(number), previous=previous, **changes)
        previous = store(controller, machine, receipt).digest
    ended = order_now(controller, order)
    assert (ended.status, ended.outcome) == (OrderStatus.ATTENTION, "sanitized")
    assert custody(controller) == before
    assert counts(controller) == (3, 0, 1)
    with controller.store.read() as unit:
        deciding = unit.evidence.receipt_of_order(order.digest)
    assert deciding is not None
    assert deciding.body == first.body


def test_without_an_order_a_machine_speaks_only_of_its_own_media(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    thief = FakeAgent(machine_id="2" * 32)
    other = enrolled(controller, thief, "beta")
    ordered(controller, machine)
    targets = [Target(identity=disk(), hint="/dev/sdz")]
    alone = thief.world.order(issuer="local", machine_id=thief.machine_id, targets=targets)
    assert store(controller, other, thief.receipt(alone)).reasons == ()
    assert custody(controller) == ["registered", "requested"]
    assert counts(controller) == (1, 0, 0)
    with controller.store.read() as unit:
        medium = unit.evidence.medium(medium_of(disk())[1])
        row = unit.fleet.machine(other.machine_id)
    assert medium is not None
    assert medium.machine_id == machine.machine_id
    assert row is not None
    assert "registered for another machine" in row.note


def test_certificate_numbers_go_on_after_999999(
    controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    previous = "0" * 64
    prefix = f"CERT-{now():%Y}-"
    for number in range(1, 4):
        order = ordered(controller, machine, disk(number))
        receipt = agent.receipt(order.body, counter=U64(number), previous=previous)
        previous = store(controller, machine, receipt).digest
        if number == 1:
            with controller.store.write() as unit:
                (row,) = unit.evidence.certificates_of_order(order.digest)
                row = dataclasses.replace(row, number=f"{prefix}999999", target=9)
                unit.evidence.add_certificate(row)
    with controller.store.read() as unit:
        assert unit.evidence.last_certificate_number(prefix) == f"{prefix}1000001"
