"""What the controller checks of a receipt: a good one passes, and each lie has its own finding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import (
    Conduct,
    Reason,
    Receipt,
    Refusal,
    Stream,
    TargetResult,
    freeze,
    parse_statement,
)
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem
from expunge_controller.bundle import SignedBytes
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.records.findings import Status
from expunge_controller.records.receipt_checks import KnownReceipts, ReceiptVerdict, check_receipt
from expunge_profiles.schema import Pass
from expunge_profiles.schema import Verification as ProfileVerification
from support.evidence import (
    DISK,
    MACHINE,
    PROFILE,
    SIZE,
    World,
    a_pass,
    a_verification,
    at,
    target_result,
)

NEW = KnownReceipts()
BAD_RANGE = RangeProblem(range=ByteRange(start=U64(4096), length=U64(512)), what="I/O error")


def judge(world: World, signed: SignedBytes, **options: Any) -> ReceiptVerdict:
    settings: dict[str, Any] = {
        "agent_signers": [world.agent_signer],
        "order_body": world.order(),
        "known": NEW,
        "delivered_by": MACHINE,
        "profile": PROFILE,
        "second": world.second_of(signed),
    }
    return check_receipt(signed.body, signed.signature, **(settings | options))


def verdict_on(world: World, receipt: Receipt, **options: Any) -> ReceiptVerdict:
    return judge(world, world.signed_receipt(receipt), **options)


def good(world: World, **changes: Any) -> Receipt:
    return world.receipt(world.order(), **changes)


def with_target(world: World, **changes: Any) -> Receipt:
    return good(world, targets=[target_result(Target(identity=DISK, hint="/dev/sdz"), **changes)])


def not_done(world: World, outcome: Outcome, **changes: Any) -> Receipt:
    """A receipt of a wipe that did not succeed."""
    changes = {"outcome": outcome, "level_achieved": Level.NONE} | changes
    return replace(with_target(world, **changes), outcome=outcome, level_achieved=Level.NONE)


def test_good_receipt(world: World) -> None:
    verdict = verdict_on(world, good(world))
    assert verdict.accepted and not verdict.gap and not verdict.duplicate and verdict.summary == ""
    assert {step.status for step in verdict.steps} == {Status.PASSED}
    assert [step.number for step in verdict.steps] == list(range(1, len(verdict.steps) + 1))
    assert verdict.statement is not None and verdict.signer == world.agent_signer
    assert verdict.digest == canonical.sha256_hex(freeze(good(world)))


def test_p256_agent() -> None:
    world = World(p256=True)
    assert verdict_on(world, good(world)).accepted


def test_what_cannot_run_is_skipped_with_its_reason(world: World) -> None:
    verdict = verdict_on(world, good(world), order_body=None, delivered_by=None, profile=None)
    assert verdict.accepted
    skipped = {step.title: step.detail for step in verdict.steps if step.status is Status.SKIPPED}
    assert set(skipped) == {
        "it answers the order",
        "it comes from the machine that delivered it",
        "passes and verification are those of the profile",
    }
    assert all(skipped.values())


def test_signature_and_origin(world: World) -> None:
    signed = world.signed_receipt(good(world))
    stranger = World()
    assert "not trusted" in judge(world, signed, agent_signers=[stranger.agent_signer]).summary
    assert "delivered by" in judge(world, signed, delivered_by="7" * 32).summary
    wrong_space = SignedBytes(signed.body, sshsig.sign(world.agent, sshsig.ORDER_NAMESPACE, signed.body))
    assert "not for 'expunge-receipt'" in judge(world, wrong_space).summary
    other_machine = replace(world.agent_signer, principal="agent:" + "7" * 32)
    assert "its key is agent:7777" in judge(world, signed, agent_signers=[other_machine]).summary
    fingerprint = replace(good(world).agent, key="SHA256:AAAA")
    assert "fingerprint" in verdict_on(world, good(world, agent=fingerprint)).summary


def test_bytes_that_are_no_receipt(world: World) -> None:
    for body in (b"", b"{}", b"[" * 5000, freeze(good(world))[:-1], b"\x00" * 100):
        signed = SignedBytes(body, sshsig.sign(world.agent, sshsig.RECEIPT_NAMESPACE, body))
        verdict = judge(world, signed)
        assert not verdict.accepted and verdict.statement is None


def test_receipt_that_is_not_canonical(world: World) -> None:
    body = freeze(good(world)) + b"\n"
    signed = SignedBytes(body, sshsig.sign(world.agent, sshsig.RECEIPT_NAMESPACE, body))
    assert "canonical" in judge(world, signed).summary


def test_subject_of_another_medium(world: World) -> None:
    body = freeze(good(world))
    subject = parse_statement(body).subject[0]
    for new in (
        replace(subject, digest=replace(subject.digest, sha256="0" * 64)),
        replace(subject, name="media:sata:OTHER"),
    ):
        changed = canonical.dumps(replace(parse_statement(body), subject=[new]))
        signed = SignedBytes(changed, sshsig.sign(world.agent, sshsig.RECEIPT_NAMESPACE, changed))
        assert "subjects" in judge(world, signed).summary


def test_every_bit_of_receipt_and_signature(world: World) -> None:
    """Every byte position, each of its eight bits, in the receipt and in the signature file."""
    signed = world.signed_receipt(good(world))
    signers = [world.agent_signer]

    def accepts(body: bytes, signature: bytes) -> bool:
        from expunge_agent.errors import VerificationError
        from expunge_agent.protocol import trust

        try:
            trust.verify(signers, sshsig.RECEIPT_NAMESPACE, body, signature)
        except VerificationError:
            return False
        return True

    assert accepts(*signed)
    for at_byte in range(len(signed.body)):
        for bit in range(8):
            changed = bytearray(signed.body)
            changed[at_byte] ^= 1 << bit
            assert not accepts(bytes(changed), signed.signature), (at_byte, bit)
    for at_byte in range(len(signed.signature)):
        for value in range(256):
            if value != signed.signature[at_byte]:
                changed = bytearray(signed.signature)
                changed[at_byte] = value
                assert not accepts(signed.body, bytes(changed)), (at_byte, value)


def test_against_the_order(world: World) -> None:
    receipt = good(world)
    said = receipt.order
    lies: dict[str, Receipt] = {
        "another order's digest": replace(receipt, order=replace(said, digest="0" * 64)),
        "order id": replace(receipt, order=replace(said, order_id="EX-9")),
        "nonce": replace(receipt, order=replace(said, nonce="f" * 32)),
        "issuer": replace(receipt, order=replace(said, issuer="controller:other")),
        "requester": replace(receipt, order=replace(said, requested_by="nobody")),
        "case number": replace(receipt, order=replace(said, case_number="")),
        "level requested": replace(receipt, level_requested=Level.NONE),
        "its profile is not": replace(receipt, profile=None),
        "by machine": replace(receipt, agent=replace(receipt.agent, machine_id="7" * 32)),
        "its targets are not": replace(
            receipt, targets=[target_result(Target(identity=replace(DISK, serial="FICT9999999")))]
        ),
    }
    for phrase, lie in lies.items():
        assert phrase in verdict_on(world, lie).summary, phrase


def test_weaker_than_ordered(world: World) -> None:
    for allowed in (False, True):
        order = world.order(level=Level.PURGE, allow_downgrade=allowed)
        verdict = verdict_on(world, world.receipt(order), order_body=order)
        assert verdict.accepted is allowed
        assert ("where purge was ordered" in verdict.summary) is not allowed


def test_counter_and_chain(world: World) -> None:
    first = world.signed_receipt(good(world))
    first_digest = canonical.sha256_hex(first.body)
    second = good(world, counter=U64(2), previous=first_digest, nonce="3" * 32)
    after_first = KnownReceipts(1, first_digest)
    assert verdict_on(world, second, known=after_first).accepted
    again = judge(world, first, known=after_first)
    assert again.accepted and again.duplicate

    twin = verdict_on(world, good(world, nonce="4" * 32), known=after_first)
    assert "two agents sign with one key" in twin.summary
    assert (
        "does not follow" in verdict_on(world, replace(second, previous="9" * 64), known=after_first).summary
    )
    assert "does not follow" in verdict_on(world, good(world, previous="9" * 64)).summary
    assert "counters start at 1" in verdict_on(world, good(world, counter=U64(0))).summary

    third = good(world, counter=U64(5), previous="9" * 64)
    late = verdict_on(world, third, known=after_first)
    assert late.accepted and late.gap
    assert any("receipts 2 to 4 are missing" in step.detail for step in late.steps)
    assert (
        "names no receipt before" in verdict_on(world, good(world, counter=U64(5)), known=after_first).summary
    )

    known = KnownReceipts(5, "5" * 64, {1: first_digest, 5: "5" * 64})
    filled = verdict_on(world, second, known=known)
    assert filled.accepted and not filled.gap
    assert verdict_on(world, replace(second, counter=U64(3), previous="2" * 64), known=known).gap
    big = good(world, counter=U64(2**63), previous="1" * 64)
    assert verdict_on(world, big, known=after_first).gap


def test_times(world: World) -> None:
    for lie in (
        good(world, started_at=at(10), finished_at=at(9)),
        good(world, finished_at="2026-02-30T00:00:00Z"),
        with_target(world, passes=[a_pass(0, started_at=at(5), finished_at=at(4)), a_pass(1)]),
        with_target(world, verifications=[a_verification(started_at=at(8), finished_at=at(2))]),
    ):
        assert "its times are possible" in verdict_on(world, lie).summary


BROKEN: dict[str, Callable[[TargetResult], TargetResult]] = {
    "pass 2 is not complete": lambda r: replace(r, passes=[a_pass(0), a_pass(1, complete=False)]),
    "pass 1 was not flushed": lambda r: replace(r, passes=[a_pass(0, flushed=False), a_pass(1)]),
    "pass 2 had errors": lambda r: replace(
        r,
        passes=[
            a_pass(0),
            a_pass(
                1,
                bytes_written=U64(SIZE - 512),
                error_bytes=U64(512),
                error_count=U64(1),
                errors=[BAD_RANGE],
            ),
        ],
    ),
    "accounts for": lambda r: replace(r, passes=[a_pass(0), a_pass(1, bytes_written=U64(SIZE - 1))]),
    "wrote more than": lambda r: replace(r, passes=[a_pass(0), a_pass(1, bytes_written=U64(SIZE + 1))]),
    "is out of order": lambda r: replace(r, passes=[a_pass(0), a_pass(1, index=2)]),
    "without a single pass": lambda r: replace(r, passes=[], verifications=[]),
    "1 passes were run, the profile demands 2": lambda r: replace(
        r, passes=[a_pass(0)], verifications=[a_verification(of_pass=0)]
    ),
    "the profile demands 00": lambda r: replace(r, passes=[a_pass(0, fixed="FF"), a_pass(1)]),
    "the profile demands keyed stream": lambda r: replace(
        r, passes=[a_pass(0), a_pass(1, stream=None, fixed="00")]
    ),
    "names bytes beyond": lambda r: replace(r, passes=[a_pass(0), a_pass(1, resumed_at=[U64(SIZE + 1)])]),
    "more errors than it counts": lambda r: replace(r, passes=[a_pass(0), a_pass(1, errors=[BAD_RANGE])]),
    "was not read back": lambda r: replace(r, verifications=[]),
    "verification is not complete": lambda r: replace(r, verifications=[a_verification(complete=False)]),
    "verification read 5 of": lambda r: replace(r, verifications=[a_verification(bytes_read=U64(5))]),
    "3 mismatched": lambda r: replace(
        r, verifications=[a_verification(mismatched_bytes=U64(3), mismatch_count=U64(1))]
    ),
    "7 unreadable": lambda r: replace(r, verifications=[a_verification(unreadable_bytes=U64(7))]),
    "a full verification of": lambda r: replace(
        r, verifications=[a_verification(bytes_expected=U64(512), bytes_read=U64(512))]
    ),
    "from a cache of the host": lambda r: replace(r, verifications=[a_verification(reads_medium=False)]),
    "0 unreadable bytes, yet": lambda r: replace(r, verifications=[a_verification(unreadable=[BAD_RANGE])]),
    "there is none": lambda r: replace(
        r, verifications=[a_verification(kind="sampled", bytes_expected=U64(512), bytes_read=U64(512))]
    ),
    "a sampled verification of 0": lambda r: replace(
        r, verifications=[a_verification(kind="sampled", bytes_expected=U64(0), bytes_read=U64(0))]
    ),
    "more mismatches than it counts": lambda r: replace(
        r, verifications=[a_verification(mismatches=[BAD_RANGE])]
    ),
    "read more than it should": lambda r: replace(
        r, verifications=[a_verification(bytes_read=U64(SIZE + 1))]
    ),
    "it verifies pass 7": lambda r: replace(r, verifications=[a_verification(of_pass=7)]),
    "identity before: serial": lambda r: replace(r, identity_before=replace(DISK, serial="OTHER")),
    "identity when opened: wwn": lambda r: replace(r, identity_opened=replace(DISK, wwn="0x5000")),
    "identity after: size": lambda r: replace(r, identity_after=replace(DISK, size=U64(1))),
    "identity after was not recorded": lambda r: replace(r, identity_after=None),
    "exceptions are listed": lambda r: replace(r, exceptions=["512 bytes at 4096"]),
    "a refusal or failure": lambda r: replace(r, failure="it broke"),
    "yet the level achieved is none": lambda r: replace(r, level_achieved=Level.NONE),
}


@pytest.mark.parametrize("phrase", BROKEN)
def test_success_demands_all_of_its_evidence(world: World, phrase: str) -> None:
    receipt = good(world)
    lie = replace(receipt, targets=[BROKEN[phrase](receipt.targets[0])])
    assert phrase in verdict_on(world, lie).summary


def test_an_overwrite_never_achieves_purge(world: World) -> None:
    lie = replace(with_target(world, level_achieved=Level.PURGE), level_achieved=Level.PURGE)
    assert "never achieves purge" in verdict_on(world, lie).summary


def test_the_whole_claims_no_more_than_its_targets(world: World) -> None:
    failed = not_done(world, Outcome.FAILED, failure="gone")
    assert verdict_on(world, failed).accepted
    for lie, phrase in (
        (replace(failed, outcome=Outcome.SANITIZED), "not every target"),
        (replace(failed, outcome=Outcome.EXCEPTIONS), "not every target"),
        (replace(failed, level_achieved=Level.CLEAR), "more than one of its targets achieved"),
        (good(world, level_achieved=Level.PURGE), "claims purge"),
        (good(world, limitations=[]), "no limitations"),
        (good(world, outcome=Outcome.REFUSED), "refused without a reason"),
        (good(world, refusal=Refusal(reason=Reason.EXPIRED, detail="x")), "its outcome is not refused"),
        (not_done(world, Outcome.FAILED, level_achieved=Level.CLEAR), "failed cannot achieve clear"),
    ):
        assert phrase in verdict_on(world, lie).summary, phrase


def test_exceptions_earn_no_level_and_must_be_listed(world: World) -> None:
    short = a_pass(
        1, bytes_written=U64(SIZE - 512), error_bytes=U64(512), error_count=U64(1), errors=[BAD_RANGE]
    )
    honest = not_done(
        world,
        Outcome.EXCEPTIONS,
        passes=[a_pass(0), short],
        verifications=[a_verification(bytes_read=U64(SIZE - 512), unreadable_bytes=U64(512))],
        exceptions=["512 bytes could not be written."],
    )
    assert verdict_on(world, honest).accepted, verdict_on(world, honest).summary
    result = honest.targets[0]
    for change, phrase in (
        ({"exceptions": []}, "none is listed"),
        ({"level_achieved": Level.CLEAR}, "the level achieved is clear"),
        ({"outcome": Outcome.SANITIZED}, "pass 2 had errors"),
    ):
        lie = replace(honest, targets=[replace(result, **change)])
        assert phrase in verdict_on(world, lie).summary, phrase


def test_interrupted_pass_without_an_end(world: World) -> None:
    stopped = not_done(
        world,
        Outcome.INTERRUPTED,
        failure="The run was stopped before its end.",
        identity_after=None,
        passes=[a_pass(0, complete=False, flushed=False, finished_at="", bytes_written=U64(1024))],
        verifications=[],
    )
    assert verdict_on(world, stopped).accepted, verdict_on(world, stopped).summary


def test_nothing_is_written_to_what_was_not_ordered(world: World) -> None:
    lie = not_done(world, Outcome.FAILED, failure="x", identity_opened=replace(DISK, serial="OTHER"))
    assert "identity when opened: serial" in verdict_on(world, lie).summary
    never = not_done(world, Outcome.FAILED, failure="x", identity_opened=None)
    assert "identity when opened was not recorded" in verdict_on(world, never).summary


def refused(world: World, reason: Reason, **changes: Any) -> Receipt:
    fields: dict[str, Any] = {
        "outcome": Outcome.REFUSED,
        "refusal": Refusal(reason=reason, detail="d", remedy="r"),
        "targets": [],
        "level_achieved": Level.NONE,
        "limitations": [],
    }
    return good(world, **(fields | changes))


def test_refusals(world: World) -> None:
    expired = refused(world, Reason.EXPIRED, profile=None, level_requested=None)
    assert verdict_on(world, expired).accepted, verdict_on(world, expired).summary
    unread = refused(
        world,
        Reason.BAD_SIGNATURE,
        order=replace(good(world).order, order_id="", nonce="", issuer="", requested_by="", case_number=""),
        profile=None,
        level_requested=None,
    )
    assert verdict_on(world, unread).accepted
    touched = refused(world, Reason.MOUNTED, targets=good(world).targets)
    assert "a target was not" in verdict_on(world, touched).summary
    target = not_done(
        world,
        Outcome.REFUSED,
        refusal=Refusal(reason=Reason.MOUNTED, detail="d"),
        passes=[],
        verifications=[],
    )
    assert verdict_on(world, target).accepted
    wrote = not_done(world, Outcome.REFUSED, refusal=Refusal(reason=Reason.MOUNTED, detail="d"))
    assert "yet bytes were written" in verdict_on(world, wrote).summary


@pytest.mark.parametrize(
    "reason", [Reason.WRONG_MACHINE, Reason.MALFORMED_ORDER, Reason.BAD_SIGNATURE, Reason.UNKNOWN_SIGNER]
)
def test_no_refusal_by_another_machine_answers_the_order(world: World, reason: Reason) -> None:
    order = world.order(machine_id="7" * 32)
    receipt = refused(world, reason)
    receipt = replace(receipt, order=replace(receipt.order, digest=canonical.sha256_hex(order)))
    assert "by machine" in verdict_on(world, receipt, order_body=order).summary


def test_a_machine_cannot_call_its_own_order_another_machines(world: World) -> None:
    assert "yet the order is for this one" in verdict_on(world, refused(world, Reason.WRONG_MACHINE)).summary


def test_damaged_order_is_said_not_raised(world: World) -> None:
    body = b"{}"
    receipt = good(world)
    receipt = replace(receipt, order=replace(receipt.order, digest=canonical.sha256_hex(body)))
    assert "does not fit" in verdict_on(world, receipt, order_body=body).summary


def test_profiles_with_complements_and_random_bytes(world: World) -> None:
    profile = replace(
        PROFILE,
        passes=(Pass(random_byte=True), Pass(complement=True), Pass(pattern="924924")),
        verification=ProfileVerification(kind="full", after="every"),
    )
    passes = [a_pass(index, fixed=fixed, stream=None) for index, fixed in enumerate(("3C", "c3", "924924"))]
    checks = [a_verification(of_pass=index) for index in range(3)]
    receipt = with_target(world, passes=passes, verifications=checks)
    assert not evidence_problems(receipt, profile)
    stream = Stream(cipher="aes-256-ctr", key_digest="ab" * 32)
    for index, change in (
        (0, {"fixed": "3C3C"}),
        (0, {"fixed": "zz"}),
        (1, {"fixed": "3C"}),
        (2, {"fixed": "492492"}),
        (2, {"stream": stream}),
    ):
        wrong = [*passes]
        wrong[index] = replace(passes[index], **change)
        assert evidence_problems(with_target(world, passes=wrong, verifications=checks), profile)
    assert evidence_problems(with_target(world, passes=passes, verifications=checks[1:]), profile)


def test_profile_at_hand_is_another(world: World) -> None:
    assert (
        "not the one it names" in verdict_on(world, good(world), profile=replace(PROFILE, version=2)).summary
    )


def test_many_findings_stay_readable(world: World) -> None:
    receipt = good(world, targets=[])
    many = replace(receipt, outcome=Outcome.SANITIZED, level_achieved=Level.CLEAR)
    results = [
        target_result(Target(identity=replace(DISK, serial=f"S{number}")), passes=[]) for number in range(50)
    ]
    verdict = verdict_on(world, replace(many, targets=results))
    assert "and " in verdict.summary and len(verdict.summary) < 3000


def test_sampled_places_can_be_found_again(world: World) -> None:
    profile = replace(
        PROFILE, verification=ProfileVerification(kind="sampled", after="last", rule="nist-800-88r1")
    )
    fields: dict[str, Any] = {"kind": "sampled", "bytes_expected": U64(4096), "bytes_read": U64(4096)}
    told = a_verification(**fields, seed="ab" * 32, rule="at random")
    assert not evidence_problems(with_target(world, verifications=[told]), profile)
    for gone in ({"seed": ""}, {"rule": ""}):
        problems = evidence_problems(with_target(world, verifications=[replace(told, **gone)]), profile)
        assert "without the seed and rule" in " ".join(problems)


def test_a_read_back_from_a_cache_is_not_clean(world: World) -> None:
    cached = with_target(world, verifications=[a_verification(reads_medium=False)])
    assert "served from a cache" in verdict_on(world, cached).summary


def test_the_speeds_of_a_pass_are_possible(world: World) -> None:
    conduct = Conduct(chunk=1 << 20, stripes=4, slowest=U64(2), fastest=U64(1))
    odd = with_target(world, passes=[a_pass(0, conduct=conduct), a_pass(1)])
    assert "faster than the fastest" in verdict_on(world, odd).summary


def test_the_end_of_a_target_is_a_date(world: World) -> None:
    odd = with_target(world, finished_at="2026-13-02T09:30:00Z")
    assert "is not a date" in verdict_on(world, odd).summary
