"""Every way in which an order must not be obeyed ends in a signed refusal that says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.order import ProfileRef
from expunge_agent.protocol.receipt import Reason, Receipt
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_agent.wipe import run_order
from expunge_profiles.load import builtin
from support.agents import NOW, Bench, surroundings, target_of

DATA = b"RECORD 4711 " * 5000


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(DATA)
    return path


def refused(receipt: Receipt, reason: Reason, image: Path) -> None:
    assert receipt.outcome is Outcome.REFUSED
    refusal = receipt.refusal or receipt.targets[0].refusal
    assert refusal is not None
    assert refusal.reason is reason
    assert refusal.detail.endswith(".")
    assert receipt.level_achieved is Level.NONE
    assert image.read_bytes() == DATA, "a refusal must leave every byte alone"


def test_the_right_order_is_obeyed(bench: Bench, image: Path) -> None:
    assert bench.run(bench.order(image)).outcome is Outcome.SANITIZED
    assert b"RECORD" not in image.read_bytes()


def test_expired(bench: Bench, image: Path) -> None:
    order = bench.order(image, expires=timestamp(NOW))
    refused(bench.run(order), Reason.EXPIRED, image)


def test_not_yet_valid(bench: Bench, image: Path) -> None:
    order = bench.order(image, not_before=timestamp(NOW + timedelta(seconds=1)))
    refused(bench.run(order), Reason.NOT_YET_VALID, image)


def test_for_another_machine(bench: Bench, image: Path) -> None:
    refused(bench.run(bench.order(image, machine_id="ab" * 16)), Reason.WRONG_MACHINE, image)


@pytest.mark.parametrize("field", ["nonce", "order_id"])
def test_replayed_with_other_bytes(bench: Bench, image: Path, tmp_path: Path, field: str) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(b"x" * 1000)
    first = bench.order(other)
    assert bench.run(first).outcome is Outcome.SANITIZED
    again = bench.order(image, **{field: getattr(first, field)})
    refused(bench.run(again), Reason.REPLAYED, image)


def test_unknown_signer(bench: Bench, image: Path) -> None:
    bench.controller = PrivateKeySigner(Ed25519PrivateKey.generate())
    refused(bench.run(bench.order(image)), Reason.UNKNOWN_SIGNER, image)


def test_issuer_is_not_the_signer(bench: Bench, image: Path) -> None:
    refused(bench.run(bench.order(image, issuer="controller:other")), Reason.UNKNOWN_SIGNER, image)


def test_signed_for_another_purpose(bench: Bench, image: Path) -> None:
    body = canonical.dumps(bench.order(image))
    signature = sshsig.sign(bench.controller, sshsig.CUSTODY_NAMESPACE, body)
    sealed = run_order(bench.state, bench.hand_in(body, signature), surroundings())
    assert sealed is not None
    refused(bench.checked(sealed), Reason.BAD_SIGNATURE, image)


def test_edited_after_signing(bench: Bench, image: Path) -> None:
    body, signature = bench.sign(bench.order(image))
    sealed = run_order(
        bench.state, bench.hand_in(body.replace(b"CASE-1", b"CASE-2"), signature), surroundings()
    )
    assert sealed is not None
    refused(bench.checked(sealed), Reason.BAD_SIGNATURE, image)


def test_truncated(bench: Bench, image: Path) -> None:
    body, _ = bench.sign(bench.order(image))
    cut = body[: len(body) // 2]
    signature = sshsig.sign(bench.controller, sshsig.ORDER_NAMESPACE, cut)
    sealed = run_order(bench.state, bench.hand_in(cut, signature), surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    refused(receipt, Reason.MALFORMED_ORDER, image)
    assert receipt.order.order_id == ""


def test_a_date_that_does_not_exist(bench: Bench, image: Path) -> None:
    refused(bench.run(bench.order(image, expires="2026-02-31T00:00:00Z")), Reason.MALFORMED_ORDER, image)


@pytest.mark.parametrize(
    "change",
    [{"id": "no-such-profile"}, {"version": 99}, {"digest": "0" * 64}],
    ids=["id", "version", "digest"],
)
def test_unknown_profile(bench: Bench, image: Path, change: dict[str, object]) -> None:
    known = bench.order(image).profile
    fields = {"id": known.id, "version": known.version, "digest": known.digest}
    order = bench.order(image, profile=ProfileRef(**{**fields, **change}))  # type: ignore[arg-type]
    refused(bench.run(order), Reason.UNKNOWN_PROFILE, image)


def test_profile_not_for_this_medium(bench: Bench, image: Path) -> None:
    drives = msgspec.structs.replace(builtin()["zero"], media=("hdd",))
    wanted = ProfileRef(id=drives.id, version=drives.version, digest=drives.digest)
    receipt = bench.run(bench.order(image, profile=wanted), profiles={drives.id: drives})
    refused(receipt, Reason.PROFILE_NOT_APPLICABLE, image)


def test_purge_cannot_be_had_by_overwriting(bench: Bench, image: Path) -> None:
    refused(bench.run(bench.order(image, level=Level.PURGE)), Reason.LEVEL_NOT_ACHIEVABLE, image)


def test_a_downgrade_happens_only_where_allowed_and_shows(bench: Bench, image: Path) -> None:
    receipt = bench.run(bench.order(image, level=Level.PURGE, allow_downgrade=True))
    assert (receipt.level_requested, receipt.level_achieved) == (Level.PURGE, Level.CLEAR)


@pytest.mark.parametrize("field", ["inode", "size", "device"])
def test_identity_differs(bench: Bench, image: Path, field: str) -> None:
    seen = target_of(image).identity
    assert isinstance(seen, FileIdentity)
    fields = {name: getattr(seen, name) for name in seen.__struct_fields__}
    fields[field] = "9:9" if field == "device" else canonical.U64(int(fields[field]) + 1)
    order = bench.order(targets=[Target(identity=FileIdentity(**fields), hint=str(image))])
    refused(bench.run(order), Reason.IDENTITY_MISMATCH, image)


def test_target_that_is_not_there(bench: Bench, image: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone.img"
    gone.write_bytes(b"x")
    order = bench.order(gone)
    gone.unlink()
    refused(bench.run(order), Reason.TARGET_NOT_FOUND, image)


def test_trouble_with_one_target_does_not_hide_the_others(bench: Bench, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.img" for name in "abc"]
    for path in paths:
        path.write_bytes(DATA)
    order = bench.order(*paths)
    paths[1].unlink()
    receipt = bench.run(order)
    assert [result.outcome for result in receipt.targets] == [
        Outcome.SANITIZED,
        Outcome.REFUSED,
        Outcome.SANITIZED,
    ]
    assert receipt.outcome is Outcome.REFUSED
    assert b"RECORD" not in paths[2].read_bytes()


def test_the_same_order_twice_wipes_once(bench: Bench, image: Path) -> None:
    order = bench.order(image)
    first = bench.run(order)
    image.write_bytes(b"new life " * 100)
    assert bench.run(order) == first
    assert image.read_bytes() == b"new life " * 100


def test_the_agents_own_folder_is_never_a_target(bench: Bench) -> None:
    key = bench.state.signing_key
    system = surroundings().system
    receipt = bench.run(bench.order(key), system=replace(system, own=(str(bench.state.root),)))
    assert receipt.targets[0].refusal is not None
    assert receipt.targets[0].refusal.reason is Reason.SYSTEM
