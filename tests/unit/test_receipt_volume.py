"""What a receipt says of a volume and of what was taken down: claimed, checked, certified in both languages."""

from __future__ import annotations

from typing import Any, Final

import pytest
from msgspec.structs import replace

from expunge_agent.core.deactivation import StepKind
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Reason, Receipt, Refusal, TargetResult
from expunge_agent.protocol.receipt_steps import DeactivationStep, Member
from expunge_controller.records.certificate import (
    Certificate,
    CertifiedStep,
    MediumRecord,
    freeze_certificate,
    parse_certificate,
)
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.receipt_checks import order_problems
from expunge_controller.records.volume_checks import STEPS, volume_problems
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.render.certificate_volume import volume_section
from support.evidence import CONTROLLER, DISK, SIZE, START, World, target_result

WORLD: Final = World()
LV: Final = BlockIdentity(bus="lvm", model="vg0/data", serial="LVM-" + "a" * 64, wwn="", size=U64(SIZE))
MEMBERS: Final = [
    Member(path="/dev/md0", kind="md raid1", type="virtual", identity=replace(LV, bus="md"), depth=1),
    Member(path="/dev/sda", kind="disk", type="hdd", identity=DISK, depth=2),
]
UNMOUNTED: Final = DeactivationStep(what="unmount", on="/srv/data", device="dm-1", ended="done")
CLOSED: Final = DeactivationStep(
    what="close-crypt",
    on="secret",
    device="dm-2",
    ended="interrupted",
    said="the run broke off",
    beside=["/dev/sdb"],
)


def volume(**changes: Any) -> TargetResult:
    """A logical volume that was overwritten well."""
    same = {"identity_before": LV, "identity_opened": LV, "identity_after": LV, "members": MEMBERS}
    made = target_result(Target(identity=LV, hint="/dev/dm-1"))
    medium = replace(made.medium, type="virtual") if made.medium is not None else None
    return replace(made, **{**same, "medium": medium, "deactivated": [UNMOUNTED], **changes})


def receipt(result: TargetResult, **order: Any) -> tuple[Receipt, bytes]:
    """The receipt of an order for the volume that lets things be taken down."""
    body = WORLD.order(**{"targets": [result.target], "deactivate": True, **order})
    level = result.level_achieved
    return WORLD.receipt(body, targets=[result], outcome=result.outcome, level_achieved=level), body


def problems(result: TargetResult) -> str:
    from expunge_controller.records.consistency import evidence_problems

    return "; ".join(evidence_problems(receipt(result)[0], None))


def test_a_good_volume_is_taken() -> None:
    assert problems(volume()) == ""
    made, body = receipt(volume())
    assert order_problems(made, body) == []
    assert canonical.convert(canonical.parse(canonical.dumps(made)), Receipt) == made


def test_every_kind_of_step_is_known_to_both_sides() -> None:
    assert set(STEPS) == {kind.value for kind in StepKind}
    page = volume_section(
        certify(volume(deactivated=[replace(UNMOUNTED, what=one) for one in STEPS])).sanitization.volume  # type: ignore[arg-type]
    ).html
    assert not [one for one in STEPS if f"<td>{one}</td>" in page], "each has words of its own"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"members": []}, "what it lies on is not named"),
        ({"members": [replace(MEMBERS[0], depth=0)]}, "at depth 0"),
        ({"members": [replace(MEMBERS[0], identity=LV)]}, "a member of itself"),
        ({"members": [MEMBERS[0]] * 257}, "more members"),
        ({"level_achieved": Level.PURGE}, "cannot achieve purge"),
        ({"deactivated": [replace(UNMOUNTED, what="formatted")]}, "not known (formatted)"),
        ({"deactivated": [replace(UNMOUNTED, ended="failed", said="busy")]}, "still stood on the target: unmount /srv/data"),
        ({"deactivated": [replace(UNMOUNTED, ended="failed")]}, "failed without a reason"),
        ({"deactivated": [replace(UNMOUNTED, ended="begun")]}, "still stood on"),
        ({"deactivated": [UNMOUNTED, CLOSED]}, "close-crypt secret"),
    ],
)  # fmt: skip
def test_each_contradiction_is_found(change: dict[str, Any], word: str) -> None:
    assert word in problems(volume(**change))


def test_a_step_that_was_taken_again_counts_by_its_last_end() -> None:
    assert problems(volume(deactivated=[CLOSED, replace(CLOSED, ended="gone")])) == ""
    assert problems(volume(deactivated=[replace(CLOSED, ended="done"), CLOSED])) != ""


def test_a_refusal_may_tell_of_a_step_that_failed() -> None:
    refused = volume(
        outcome=Outcome.REFUSED,
        refusal=Refusal(reason=Reason.DEACTIVATION_FAILED, detail="To unmount failed."),
        level_achieved=Level.NONE,
        passes=[],
        verifications=[],
        exceptions=[],
        identity_opened=None,
        deactivated=[UNMOUNTED, replace(CLOSED, ended="failed", said="in use")],
    )
    assert list(volume_problems(refused, written=False)) == []
    assert problems(refused) == ""


def test_nothing_is_taken_down_without_leave() -> None:
    made, body = receipt(volume(), deactivate=False)
    assert any("which the order does not allow" in one for one in order_problems(made, body))


def test_the_leave_is_part_of_what_is_signed() -> None:
    _, body = receipt(volume())
    assert parse_order(body).deactivate
    assert not parse_order(WORLD.order()).deactivate
    assert b'"deactivate":true' in body


def certify(result: TargetResult) -> Certificate:
    made, order = receipt(result)
    signed = WORLD.signed_receipt(made)
    return certificate_from(
        signed.body,
        signed.signature,
        0,
        order=parse_order(order),
        facts=MediumRecord(),
        number="C-2026-0003",
        issued_at=START,
        issuer=CONTROLLER,
    )


def found_in(certificate: Certificate, result: TargetResult) -> list[str]:
    made, order = receipt(result)
    signed = WORLD.signed_receipt(made)
    certificate = replace(
        certificate,
        evidence=replace(
            certificate.evidence,
            receipt=canonical.sha256_hex(signed.body),
            receipt_signature=canonical.sha256_hex(signed.signature),
            order=made.order.digest,
        ),
    )
    return certificate_problems(certificate, made, signed.body, signed.signature, parse_order(order))


def test_the_certificate_repeats_it_in_both_languages() -> None:
    made = certify(volume())
    assert parse_certificate(freeze_certificate(made)) == made
    page = certificate_html(made)
    for word in (
        "/dev/md0",
        "/dev/sda",
        "unmounted 卸载文件系统",
        "/srv/data",
        "done 完成",
        "卷：底层成员与上层占用",
    ):
        assert word in page
    assert found_in(made, volume()) == []


def test_a_certificate_that_leaves_something_out_is_found() -> None:
    made = certify(volume())
    kept = made.sanitization.volume
    assert kept is not None
    bad = [
        (None, "what the target lies on"),
        (replace(kept, members=kept.members[:1]), "what the target lies on"),
        (replace(kept, steps=[]), "what was taken down"),
        (
            replace(kept, steps=[CertifiedStep(what="unmount", on="/srv", ended="done", said="")]),
            "what was taken down",
        ),
    ]
    for changed, word in bad:
        wrong = replace(made, sanitization=replace(made.sanitization, volume=changed))
        assert any(word in one for one in found_in(wrong, volume())), word


def test_a_drive_with_nothing_on_it_has_no_such_part() -> None:
    order = WORLD.order()
    made = parse_certificate(WORLD.certificate(WORLD.signed_receipt(WORLD.receipt(order)), order).body)
    assert made.sanitization.volume is None
    assert "底层成员" not in certificate_html(made)
