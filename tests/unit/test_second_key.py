"""The agent's ML-DSA-65 key: made once, kept for root alone, never quietly replaced; every receipt bears its signature."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge_agent.errors import StateError
from expunge_agent.outbox import SECOND, Outbox
from expunge_agent.protocol import dsse
from expunge_agent.second_key import load_or_create_second_key
from support.agents import Bench


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mldsa65_key"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    made = tmp_path / "image"
    made.write_bytes(os.urandom(256 * 1024))
    return made


def spki(path: Path) -> bytes:
    return dsse.spki_of(load_or_create_second_key(path).public_key())


def test_the_key_is_made_once_and_is_its_owners_alone(path: Path) -> None:
    first = spki(path)
    assert spki(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert dsse.spki_in((path.parent / "mldsa65_key.pub").read_bytes()) == first
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["mldsa65_key", "mldsa65_key.pub"]


def test_a_key_whose_public_half_was_never_written_is_used(path: Path) -> None:
    """Killed between the two files."""
    first = spki(path)
    (path.parent / "mldsa65_key.pub").unlink()
    assert spki(path) == first
    assert (path.parent / "mldsa65_key.pub").exists()


def test_a_lost_key_is_not_replaced(path: Path) -> None:
    spki(path)
    path.unlink()
    with pytest.raises(StateError, match="is gone"):
        load_or_create_second_key(path)
    assert not path.exists()


def test_a_key_that_others_can_read_is_refused(path: Path) -> None:
    spki(path)
    path.chmod(0o640)
    with pytest.raises(StateError, match="read by other users"):
        load_or_create_second_key(path)


@pytest.mark.parametrize("kind", ["damaged", "empty", "another kind"])
def test_what_is_no_such_key(path: Path, kind: str) -> None:
    other = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    data = {"damaged": b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "empty": b"", "another kind": other}[kind]
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(StateError, match="is not"):
        load_or_create_second_key(path)
    assert path.read_bytes() == data


def test_an_agent_from_before_gets_its_key_with_its_next_receipt(bench: Bench, image: Path) -> None:
    assert not bench.state.mldsa65_key.exists()
    receipt = bench.run(bench.order(image))
    assert receipt.agent.mldsa65_key == dsse.keyid(spki(bench.state.mldsa65_key))
    outbox = Outbox(bench.state.root)
    assert bench.checked(outbox.get(1)) == receipt


def test_a_signing_key_of_the_other_kind(bench: Bench, image: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    bench.state.signing_key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    )
    receipt = bench.run(bench.order(image))
    sealed = Outbox(bench.state.root).get(1)
    assert bench.checked(sealed) == receipt
    assert sealed.second is not None and sealed.second.classic[0] == 0x30, "DER"


def test_a_receipt_sealed_before_has_none(bench: Bench, image: Path) -> None:
    bench.run(bench.order(image))
    (bench.state.root / "receipts" / "000000000001" / SECOND).unlink()
    sealed = Outbox(bench.state.root).get(1)
    assert sealed.second is None


def test_nothing_is_begun_without_the_key(bench: Bench, image: Path) -> None:
    before = image.read_bytes()
    spki(bench.state.mldsa65_key)
    bench.state.mldsa65_key.unlink()
    with pytest.raises(StateError, match="is gone"):
        bench.run(bench.order(image))
    assert image.read_bytes() == before
