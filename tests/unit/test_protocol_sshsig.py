"""SSHSIG: what is signed verifies, and nothing else does."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.sshsig import RECEIPT_NAMESPACE, PrivateKeySigner
from expunge_agent.protocol.trust import TrustedSigner, UnknownSignerError

MESSAGE = b'{"a":1}'


@pytest.fixture(params=["ed25519", "ecdsa-p256"])
def signer(request: pytest.FixtureRequest) -> PrivateKeySigner:
    if request.param == "ed25519":
        return PrivateKeySigner(Ed25519PrivateKey.generate())
    return PrivateKeySigner(generate_private_key(SECP256R1()))


def test_a_signature_names_its_key(signer: PrivateKeySigner) -> None:
    armored = sshsig.sign(signer, RECEIPT_NAMESPACE, MESSAGE)
    assert sshsig.verify(armored, RECEIPT_NAMESPACE, MESSAGE) == signer.public_line


def test_other_bytes_or_another_purpose_do_not_verify(signer: PrivateKeySigner) -> None:
    armored = sshsig.sign(signer, RECEIPT_NAMESPACE, MESSAGE)
    with pytest.raises(VerificationError):
        sshsig.verify(armored, RECEIPT_NAMESPACE, MESSAGE + b" ")
    with pytest.raises(VerificationError):
        sshsig.verify(armored, sshsig.ORDER_NAMESPACE, MESSAGE)


def test_every_changed_byte_of_the_signature_is_noticed(signer: PrivateKeySigner) -> None:
    armored = sshsig.sign(signer, RECEIPT_NAMESPACE, MESSAGE)
    for position in range(len(armored)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128):
            changed = bytearray(armored)
            changed[position] ^= flip
            with pytest.raises(VerificationError):
                sshsig.verify(bytes(changed), RECEIPT_NAMESPACE, MESSAGE)


@pytest.mark.parametrize(
    "armored", [b"", b"\n", b"x" * 20000, b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n"]
)
def test_what_is_no_signature_is_said_to_be_none(armored: bytes) -> None:
    with pytest.raises(VerificationError):
        sshsig.verify(armored, RECEIPT_NAMESPACE, MESSAGE)


def test_keys_that_are_not_supported_are_refused() -> None:
    key = generate_private_key(SECP384R1())
    with pytest.raises(VerificationError):
        sshsig.normal_line(PrivateKeySigner(key).public_line)


def test_trust_is_by_key_and_purpose(signer: PrivateKeySigner) -> None:
    armored = sshsig.sign(signer, RECEIPT_NAMESPACE, MESSAGE)
    known = TrustedSigner(
        principal="agent:1", namespaces=(RECEIPT_NAMESPACE,), public_line=signer.public_line
    )
    text = trust.format_allowed_signers([known])
    assert trust.verify(trust.parse_allowed_signers(text), RECEIPT_NAMESPACE, MESSAGE, armored) == known
    for others in (
        [],
        [TrustedSigner(principal="a", namespaces=("expunge-order",), public_line=signer.public_line)],
    ):
        with pytest.raises(UnknownSignerError):
            trust.verify(others, RECEIPT_NAMESPACE, MESSAGE, armored)


@pytest.mark.parametrize(
    "line", ["agent ssh-ed25519 AAAA", 'a namespaces="x"', "nonsense", 'a,b namespaces="x" ssh-ed25519 AAAA']
)
def test_signers_without_a_purpose_are_not_taken(line: str) -> None:
    with pytest.raises((DocumentError, VerificationError)):
        trust.parse_allowed_signers(line)
