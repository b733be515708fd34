"""Second signatures in a bundle: there and right, or never made and said so; taken out, they are missed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from msgspec.structs import replace

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import dsse, sshsig
from expunge_controller.bundle import BundleParts, bundle_files
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records import second_checks
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.certificate import freeze_certificate, parse_certificate
from expunge_controller.records.findings import Status, Step
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.evidence import World

TITLES = (second_checks.ENVELOPE, second_checks.CLASSIC, second_checks.MLDSA65, second_checks.TRUSTED)
SECOND = [
    "receipt.dsse.json",
    "receipt.ed25519.sig",
    "receipt.mldsa65.sig",
    "trust/receipt.ed25519.pem",
    "trust/receipt.mldsa65.pem",
]


def check(files: dict[str, bytes], keys: list[str] | None = None) -> dict[str, Step]:
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles={}, mldsa_keys=keys)
    return {step.title: step for step in steps}


def failed(files: dict[str, bytes], keys: list[str] | None = None) -> dict[str, str]:
    steps = check(files, keys).values()
    return {step.title: step.detail for step in steps if step.status is Status.FAILED}


@pytest.fixture(scope="module")
def files(world: World) -> dict[str, bytes]:
    return bundle_files(world.parts())


def with_guide(world: World, files: dict[str, bytes]) -> dict[str, bytes]:
    """The README that an operator would write for these files."""
    rest = {name: data for name, data in files.items() if name != layout.README}
    return {**rest, layout.README: readme(rest, world.signers).encode()}


def test_whose_key_it_is_stays_open_until_the_auditor_says(world: World, files: dict[str, bytes]) -> None:
    keyid = dsse.keyid(world.mldsa65_key)
    assert failed(files) == {}
    assert [check(files)[title].status for title in TITLES] == ["passed", "passed", "passed", "skipped"]
    assert check(files)[second_checks.MLDSA65].detail == keyid
    assert check(files, ["0" * 64, keyid])[second_checks.TRUSTED].status is Status.PASSED
    assert failed(files, ["0" * 64]) == {second_checks.TRUSTED: f"{keyid} is not one of yours"}


def test_an_agent_with_a_p256_key() -> None:
    world = World(p256=True)
    files = bundle_files(world.parts())
    assert {"receipt.ecdsa-p256.sig", "trust/receipt.ecdsa-p256.pem"} < set(files)
    assert not {name for name in files if "receipt.ed25519" in name}
    assert failed(files) == {}
    assert check(files)[second_checks.CLASSIC].detail == "ecdsa-p256"
    other = World(p256=True)
    assert other.second is not None
    again = dsse.sign(other.agent, other.second, files["receipt.json"])
    assert second_checks.CLASSIC in failed({**files, "receipt.ecdsa-p256.sig": again.classic})


def test_an_agent_from_before_is_skipped_with_the_reason() -> None:
    files = bundle_files(World(second=False).parts())
    assert not set(SECOND) & set(files)
    assert b"mldsa65" not in files["entry.txt"] and b"mldsa65" not in files["receipt.json"]
    steps = check(files)
    assert failed(files) == {}
    assert {steps[title].status for title in TITLES} == {Status.SKIPPED}
    assert "names no ML-DSA-65 key" in steps[second_checks.MLDSA65].detail
    assert set(failed(files, ["0" * 64])) == {second_checks.TRUSTED}  # who asks for one is told


def test_taken_out_they_are_missed(world: World, files: dict[str, bytes]) -> None:
    """Also with a README to match: receipt and log entry name them."""
    bare = with_guide(world, {name: data for name, data in files.items() if name not in SECOND})
    found = failed(bare)
    assert {second_checks.ENVELOPE, second_checks.CLASSIC, second_checks.MLDSA65} < set(found)
    assert "the receipt names an ML-DSA-65 key" in found[second_checks.MLDSA65]
    assert "the log entry names an ML-DSA-65 signature" in found[second_checks.MLDSA65]
    assert "DSSE envelope" in found["the certificate says what the receipt says"]


@pytest.mark.parametrize("name", SECOND)
def test_each_of_them_is_missed(world: World, files: dict[str, bytes], name: str) -> None:
    bare = with_guide(world, {key: data for key, data in files.items() if key != name})
    found = failed(bare)
    assert f"{name} is missing" in found["the files are those of a bundle"]
    assert len(found) > 1


def test_a_receipt_that_names_no_key_cannot_be_given_a_signature(world: World) -> None:
    plain = World(second=False)
    assert world.second is not None
    parts = plain.parts()
    second = dsse.sign(plain.agent, world.second, parts.receipt.body)
    found = failed(bundle_files(parts._replace(second=second)))
    assert "the receipt names no key" in found[second_checks.MLDSA65]


def forged(world: World, key: MLDSA65PrivateKey) -> BundleParts:
    """What the signing key alone can do: the receipt with a second signature by another ML-DSA-65 key."""
    parts = world.parts()
    assert parts.second is not None
    return parts._replace(second=dsse.sign(world.agent, key, parts.receipt.body))


def test_another_key_is_not_the_one_named(world: World) -> None:
    found = failed(bundle_files(forged(world, MLDSA65PrivateKey.generate())))
    assert "the receipt names" in found[second_checks.MLDSA65]
    assert "the log entry is the receipt's" in found


def test_a_new_receipt_by_whoever_broke_the_signing_key(world: World) -> None:
    """Whoever can forge Ed25519 names a key of their own: only the auditor's list tells."""
    thief = World()
    thief.agent, thief.agent_signer = world.agent, world.agent_signer
    thief.controller, thief.controller_signer, thief.signers = (
        world.controller,
        world.controller_signer,
        world.signers,
    )
    thief.key_events, thief.log.fixed = world.key_events, world.log.fixed
    files = bundle_files(thief.parts())
    assert failed(files) == {}
    assert set(failed(files, [dsse.keyid(world.mldsa65_key)])) == {second_checks.TRUSTED}


def test_files_of_two_kinds_of_keys_do_not_go_together(world: World, files: dict[str, bytes]) -> None:
    other = bundle_files(World(p256=True).parts())
    mixed = {**files, "receipt.ecdsa-p256.sig": other["receipt.ecdsa-p256.sig"]}
    assert "does not belong here" in failed(with_guide(world, mixed))["the files are those of a bundle"]
    swapped = {name: data for name, data in files.items() if "ed25519" not in name}
    for name in ("receipt.ecdsa-p256.sig", "trust/receipt.ecdsa-p256.pem"):
        swapped[name] = other[name]
    assert second_checks.CLASSIC in failed(with_guide(world, swapped))


@pytest.mark.parametrize("name", SECOND)
def test_every_bit_in_many_places(files: dict[str, bytes], name: str) -> None:
    """All eight bits at 25 places of each file."""
    data = files[name]
    for position in range(0, len(data), max(1, len(data) // 25)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            assert failed({**files, name: bytes(changed)}), (name, position, bit)
    for bad in (b"", data[:-1], data + b"\n", data * 2):
        assert failed({**files, name: bad}), name


def test_no_bundle_is_written_with_a_receipt_of_another_signature(world: World) -> None:
    parts = world.parts()
    wrong = parts.receipt._replace(
        signature=sshsig.sign(world.agent, sshsig.ORDER_NAMESPACE, parts.receipt.body)
    )
    with pytest.raises(VerificationError):
        bundle_files(parts._replace(receipt=wrong))


def test_the_certificate_must_name_them_truly(world: World, files: dict[str, bytes]) -> None:
    certificate = parse_certificate(files["certificate.json"])
    for change in ({"dsse": ""}, {"dsse": "0" * 64}, {"mldsa65_key": ""}, {"mldsa65_key": "0" * 64}):
        lying = freeze_certificate(replace(certificate, evidence=replace(certificate.evidence, **change)))
        body, signature = world.by_controller(sshsig.CERTIFICATE_NAMESPACE, lying)
        told = failed({**files, "certificate.json": body, "certificate.json.sig": signature})
        assert "the certificate says what the receipt says" in told, change
    assert certificate.evidence.dsse.encode() in files["certificate.html"]
    assert certificate.evidence.mldsa65_key.encode() in files["certificate.html"]
