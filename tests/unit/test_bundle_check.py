"""A bundle: what is good passes, and whatever was changed, left out, added or mixed up does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Interruption, Reason, Refusal, parse_statement
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers
from expunge_controller.bundle import BundleParts, SignedBytes, bundle_files
from expunge_controller.records import log_check, second_checks, stamp_check
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.certificate import freeze_certificate, parse_certificate
from expunge_controller.records.custody import CustodyKind, next_event
from expunge_controller.records.findings import Status, Step, failures
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.evidence import PROFILE, PURGE, START, World, at, erased_result, nonce


def check(files: dict[str, bytes], trusted: list[TrustedSigner] | None = None) -> list[Step]:
    return verify_bundle(
        files,
        trusted,
        page=certificate_html,
        readme=readme,
        profiles={profile.digest: profile for profile in (PROFILE, PURGE)},
    )


def failed(files: dict[str, bytes], trusted: list[TrustedSigner] | None = None) -> str:
    return " | ".join(f"{step.title}: {step.detail}" for step in failures(check(files, trusted)))


@pytest.fixture
def files(parts: BundleParts) -> dict[str, bytes]:
    return bundle_files(parts)


def test_good_bundle_passes_and_says_whose_keys_it_used(files: dict[str, bytes]) -> None:
    steps = check(files)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert {step.title: step.status for step in steps if step.status is not Status.PASSED} == dict.fromkeys(
        (
            "the keys are those the auditor trusts",
            second_checks.TRUSTED,
            log_check.TRUSTED,
            log_check.SHOWN,
            stamp_check.STAMPED,
        ),
        Status.SKIPPED,
    )
    assert not failures(steps)


def test_keys_of_the_auditor(world: World, files: dict[str, bytes]) -> None:
    skipped = [step.title for step in check(files, world.signers) if step.status is Status.SKIPPED]
    assert skipped == [second_checks.TRUSTED, log_check.TRUSTED, log_check.SHOWN, stamp_check.STAMPED]
    assert not failed(files, world.signers)
    assert "not trusted" in failed(files, [world.agent_signer])
    assert "not trusted" in failed(files, World().signers)
    assert "not trusted" in failed(files, [])


def test_certificate_must_say_what_it_lacks(world: World, files: dict[str, bytes]) -> None:
    certificate = replace(parse_certificate(files["certificate.json"]), assurance=[])
    assert "assurance" in failed(resigned(world, files, freeze_certificate(certificate)))


def test_policy_at_hand_or_skipped(files: dict[str, bytes]) -> None:
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles={})
    skipped = [step.title for step in steps if step.status is Status.SKIPPED]
    assert "passes and verification are those of the profile" in skipped


@pytest.mark.parametrize(
    "name", ["receipt.json", "order.json", "certificate.json", "custody/001.json", "custody/003.json"]
)
def test_missing_documents_and_signatures(files: dict[str, bytes], name: str) -> None:
    for gone in ([name], [name + ".sig"], [name, name + ".sig"]):
        assert failed({key: value for key, value in files.items() if key not in gone}), gone


@pytest.mark.parametrize("name", ["trust/allowed_signers", "README.txt", "certificate.html"])
def test_missing_plain_files(files: dict[str, bytes], name: str) -> None:
    del files[name]
    assert f"{name} is missing" in failed(files)


def test_last_custody_events_cannot_be_dropped(files: dict[str, bytes]) -> None:
    """The end of a chain has no successor to miss it; the receipt it names does."""
    del files["custody/004.json"], files["custody/004.json.sig"]
    assert "no custody event names this receipt" in failed(files)


def test_empty_bundle_fails() -> None:
    assert len(failures(check({}))) >= 5
    assert "receipt.json is missing" in failed({})


@pytest.mark.parametrize("name", ["notes.txt", "custody/5.json", "custody/001.json.sig.sig", "x" * 500])
def test_files_that_do_not_belong(files: dict[str, bytes], name: str) -> None:
    files[name] = b"{}"
    assert "does not belong here" in failed(files)


def test_every_bit_of_every_file_counts(parts: BundleParts, files: dict[str, bytes]) -> None:
    """One bit in 41 positions spread over each file (all positions of short ones)."""
    for name, data in files.items():
        step = max(1, len(data) // 41)
        for position in range(0, len(data), step):
            changed = bytearray(data)
            changed[position] ^= 1 << position % 8
            assert failed({**files, name: bytes(changed)}), (name, position)


def test_documents_of_another_wipe_do_not_mix(world: World, files: dict[str, bytes]) -> None:
    other = bundle_files(world.parts(nonce="f" * 32))
    for name in ("receipt.json", "certificate.json"):
        mixed = {**files, name: other[name], name + ".sig": other[name + ".sig"]}
        if name == "certificate.json":
            mixed["certificate.html"] = other["certificate.html"]
            mixed["README.txt"] = readme(mixed, world.signers).encode()
        assert "another receipt" in failed(mixed) or "no custody event" in failed(mixed), name


def test_receipt_signed_by_another_enrolled_agent(world: World, parts: BundleParts) -> None:
    other = World()
    second = replace(other.agent_signer, principal="agent:" + "7" * 32)
    signature = sshsig.sign(other.agent, sshsig.RECEIPT_NAMESPACE, parts.receipt.body)
    receipt = SignedBytes(parts.receipt.body, signature)
    files = bundle_files(parts._replace(receipt=receipt, signers=[*world.signers, second]))
    assert "its key is agent:7777" in failed(files)


def test_controller_key_cannot_sign_a_receipt(world: World, parts: BundleParts) -> None:
    signature = sshsig.sign(world.controller, sshsig.RECEIPT_NAMESPACE, parts.receipt.body)
    with pytest.raises(VerificationError):
        bundle_files(parts._replace(receipt=SignedBytes(parts.receipt.body, signature)))


def resigned(world: World, files: dict[str, bytes], body: bytes) -> dict[str, bytes]:
    """The bundle with a certificate that a dishonest controller signed."""
    signed = world.by_controller(sshsig.CERTIFICATE_NAMESPACE, body)
    changed = {
        **files,
        "certificate.json": signed.body,
        "certificate.json.sig": signed.signature,
        "certificate.html": certificate_html(parse_certificate(signed.body)).encode(),
    }
    changed["README.txt"] = readme(
        {key: value for key, value in changed.items() if key != "README.txt"}, world.signers
    ).encode()
    return changed


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in leaves(item, (*path, index))]
    return [path]


def purged(world: World) -> dict[str, bytes]:
    """A bundle about a drive that erased itself, over an interruption."""
    order = world.purge_order()
    broken = Interruption(
        noticed_at=at(2), boot_id_before="a", boot_id_after="b", decision="resumed", what="It came back."
    )
    result = erased_result(parse_order(order).targets[0])
    return bundle_files(
        world.parts(order, targets=[result], level_achieved=Level.PURGE, interruptions=[broken])
    )


def test_a_purge_makes_a_good_bundle(world: World) -> None:
    files = purged(world)
    skipped = [step.title for step in check(files, world.signers) if step.status is Status.SKIPPED]
    assert skipped == [second_checks.TRUSTED, log_check.TRUSTED, log_check.SHOWN, stamp_check.STAMPED]
    assert not failed(files, world.signers)
    assert b"\xe5\x87\x80\xe5\x8c\x96" in files["certificate.html"]  # purge, in Chinese


@pytest.mark.parametrize("gone", ["erasure", "canaries", "read_back"])
def test_nothing_of_a_command_can_be_left_out_of_its_certificate(world: World, gone: str) -> None:
    files = purged(world)
    certificate = parse_certificate(files["certificate.json"])
    done = certificate.sanitization
    assert done.erasure is not None
    changed = (
        replace(done, erasure=None)
        if gone == "erasure"
        else replace(done, erasure=replace(done.erasure, **{gone: None}))
    )
    forged = freeze_certificate(replace(certificate, sanitization=changed))
    assert "the certificate says what the receipt says" in failed(resigned(world, files, forged))


def test_no_command_can_be_added_to_a_certificate(world: World, files: dict[str, bytes]) -> None:
    erasure = parse_certificate(purged(world)["certificate.json"]).sanitization.erasure
    certificate = parse_certificate(files["certificate.json"])
    changed = replace(certificate, sanitization=replace(certificate.sanitization, erasure=erasure))
    assert "a command of the drive" in failed(resigned(world, files, freeze_certificate(changed)))


@pytest.mark.parametrize("kind", ["overwrite", "drive command"])
def test_no_repeated_fact_can_be_forged_by_the_controller(
    world: World, files: dict[str, bytes], kind: str
) -> None:
    """Every leaf of the certificate but the register's own and the issuing itself is held to the receipt."""
    if kind != "overwrite":
        files = purged(world)
    plain = canonical.parse(files["certificate.json"])
    own_word = {"register", "number", "issued_at", "assurance"}
    tried = 0
    for path in leaves(plain):
        if path[0] in own_word:
            continue
        changed = canonical.parse(files["certificate.json"])
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = _another(inner[path[-1]])
        try:
            parse_certificate(canonical.dumps(changed))
        except DocumentError:  # it does not even fit the format
            continue
        tried += 1
        step = (
            log_check.NAMED
            if path[:2] == ("evidence", "log")
            else "the certificate says what the receipt says"
        )
        assert step in failed(resigned(world, files, canonical.dumps(changed))), path
    assert tried > 60


def _another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    text = str(value)
    if text in ("clear", "purge"):
        return "none"
    swaps = {"passed": "none", "full": "sampled", "sanitized": "failed", "block": "file"}
    if text in swaps:
        return swaps[text]
    if text.isdigit():
        return str(int(text) + 1)
    if text[:1].isalnum() and len(text) == 64:
        return ("0" if text[0] != "0" else "1") + text[1:]
    if len(text) == 20 and text.endswith("Z"):
        return "1999" + text[4:]
    return text + "x"


def test_certificate_for_a_receipt_that_failed(world: World, files: dict[str, bytes]) -> None:
    receipt = parse_statement(files["receipt.json"]).predicate
    bad = replace(
        receipt,
        outcome=Outcome.FAILED,
        level_achieved=Level.NONE,
        targets=[replace(receipt.targets[0], outcome=Outcome.FAILED, level_achieved=Level.NONE, failure="x")],
    )
    signed = world.signed_receipt(bad)
    certificate = parse_certificate(files["certificate.json"])
    forged = replace(
        certificate,
        evidence=replace(certificate.evidence, receipt=canonical.sha256_hex(signed.body)),
    )
    changed = resigned(
        world,
        {**files, "receipt.json": signed.body, "receipt.json.sig": signed.signature},
        freeze_certificate(forged),
    )
    assert "certifies a target whose outcome is failed" in failed(changed)


def test_failed_wipe_makes_a_good_bundle_without_certificate(world: World) -> None:
    order = world.order()
    good = world.receipt(order)
    result = replace(
        good.targets[0],
        outcome=Outcome.FAILED,
        level_achieved=Level.NONE,
        failure="The device vanished.",
        identity_after=None,
        passes=[replace(good.targets[0].passes[0], complete=False, flushed=False)],
        verifications=[],
    )
    receipt = world.signed_receipt(
        replace(good, outcome=Outcome.FAILED, level_achieved=Level.NONE, targets=[result])
    )
    parts = BundleParts(
        receipt=receipt,
        custody=world.custody(receipt, order, (CustodyKind.WIPE_FAILED,)),
        signers=world.signers,
        order=world.by_controller(sshsig.ORDER_NAMESPACE, order),
        second=world.second_of(receipt),
    )
    steps = check(bundle_files(parts), world.signers)
    assert not failures(steps)
    skipped = {step.title for step in steps if step.status is Status.SKIPPED}
    assert "the certificate is signed" in skipped
    lying = world.custody(receipt, order, (CustodyKind.WIPED,))
    assert "the receipt says failed" in failed(bundle_files(parts._replace(custody=lying)))


def test_certificate_cannot_be_left_out_of_a_success(parts: BundleParts) -> None:
    assert "there is no certificate" in failed(bundle_files(parts._replace(certificate=None)))


def test_order_refused_as_a_whole(world: World) -> None:
    """Such a receipt names no medium; the order it answers does."""
    order = world.order()
    receipt = world.signed_receipt(
        world.receipt(
            order,
            outcome=Outcome.REFUSED,
            refusal=Refusal(reason=Reason.EXPIRED, detail="It expired."),
            targets=[],
            level_achieved=Level.NONE,
        )
    )
    parts = BundleParts(
        receipt=receipt,
        custody=world.custody(receipt, order, (CustodyKind.REFUSED,)),
        signers=world.signers,
        order=world.by_controller(sshsig.ORDER_NAMESPACE, order),
        second=world.second_of(receipt),
    )
    assert failed(bundle_files(parts), world.signers) == ""
    lying = world.custody(receipt, order, (CustodyKind.WIPED,))
    assert "says wiped" in failed(bundle_files(parts._replace(custody=lying)))


def test_order_cannot_be_left_out(parts: BundleParts) -> None:
    assert "it is missing" in failed(bundle_files(parts._replace(order=None)))


def test_custody_of_another_medium(world: World, parts: BundleParts) -> None:
    body = next_event(
        None,
        medium="9" * 64,
        subject="media:sata:OTHER",
        event=CustodyKind.REGISTERED,
        actor="records officer",
        at=START,
        nonce=nonce(9),
        receipt=canonical.sha256_hex(parts.receipt.body),
    )
    custody = [world.by_controller(sshsig.CUSTODY_NAMESPACE, body)]
    assert "a medium that the receipt does not name" in failed(bundle_files(parts._replace(custody=custody)))


def test_gap_in_custody_numbers(world: World, parts: BundleParts) -> None:
    files = bundle_files(parts)
    files["custody/009.json"] = files.pop("custody/004.json")
    files["custody/009.json.sig"] = files.pop("custody/004.json.sig")
    assert "custody/009.json is not event 4" in failed(files)


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\xff\xfe",
        b'* namespaces="expunge-receipt" ssh-ed25519 AAAA\n',
        b"# a comment that nobody wrote\n",
        b"",
    ],
)
def test_odd_trust_files(files: dict[str, bytes], line: bytes) -> None:
    assert "the enclosed keys are readable" in failed({**files, "trust/allowed_signers": line})
    assert "the enclosed keys are readable" in failed(
        {**files, "trust/allowed_signers": files["trust/allowed_signers"] + line + b"\n"}
    )


def test_principal_that_a_shell_would_run(world: World, files: dict[str, bytes]) -> None:
    evil = replace(world.controller_signer, principal="controller:$(reboot)")
    files["trust/allowed_signers"] = format_allowed_signers([world.agent_signer, evil]).encode()
    assert "neither an agent nor a controller" in failed(files)
    text = readme(
        {key: value for key, value in files.items() if key != "README.txt"}, [world.agent_signer, evil]
    )
    assert "-I 'controller:$(reboot)'" in text
