"""DSSE: the second signatures of a receipt, made over its bytes with their type before them (the PAE of DSSE v1).

``receipt.json`` is an in-toto Statement, so the payload type is in-toto's. Two keys sign: the agent's signing key,
plainly (Ed25519, RFC 8032; or ECDSA P-256 with SHA-256 in DER), and an ML-DSA-65 key (FIPS 204, pure, empty context).
What is signed begins with ``DSSEv1``, what SSHSIG signs with ``SSHSIG``, and what SSH signs to log in with a length
that is less than either: no signature of one kind is good as another.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_ssh_public_key,
)

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Digest, Frozen

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ED25519 = "ed25519"
ECDSA_P256 = "ecdsa-p256"
MLDSA65 = "mldsa65"
_PEM = ("-----BEGIN PUBLIC KEY-----\n", "-----END PUBLIC KEY-----\n")
_PEM_LINE = 64
MAX_PART = 8192

Part = Annotated[bytes, msgspec.Meta(max_length=MAX_PART)]
"""Bytes; in JSON they are base64."""


class SecondSignatures(Frozen, frozen=True):
    """What stands beside a receipt's SSHSIG: raw signatures over its PAE, and the ML-DSA-65 public key.

    ``classic`` is by the signing key: 64 bytes of Ed25519, or ECDSA P-256 in DER. ``mldsa65_key`` is a
    SubjectPublicKeyInfo in DER (RFC 9881); the receipt names it by its `keyid`.
    """

    classic: Part
    mldsa65: Part
    mldsa65_key: Part


def pae(body: bytes) -> bytes:
    """The pre-authentication encoding of `body` (DSSE v1, protocol.md)."""
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(body), body)


def sign(signer: sshsig.Signer, second: MLDSA65PrivateKey, body: bytes) -> SecondSignatures:
    """Both signatures of `body`; `signer` may be any key that can sign for SSH."""
    message = pae(body)
    return SecondSignatures(
        classic=_plain(signer.signature_blob(message)),
        mldsa65=second.sign(message),
        mldsa65_key=spki_of(second.public_key()),
    )


def verify_classic(public_line: str, signature: bytes, body: bytes) -> None:
    """Check the signature by the key of an OpenSSH line over the PAE of `body`. Raises VerificationError."""
    key = load_ssh_public_key(sshsig.normal_line(public_line).encode("ascii"))
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, pae(body))
        elif isinstance(key, EllipticCurvePublicKey):
            if encode_dss_signature(*decode_dss_signature(signature)) != signature:
                raise InvalidSignature
            key.verify(signature, pae(body), ECDSA(hashes.SHA256()))
        else:
            raise InvalidSignature
    except (InvalidSignature, ValueError) as error:
        raise _bad(algorithm(public_line)) from error


def verify_mldsa65(spki: bytes, signature: bytes, body: bytes) -> None:
    """Check the ML-DSA-65 signature over the PAE of `body`. Raises VerificationError."""
    try:
        mldsa65_key(spki).verify(signature, pae(body))
    except (InvalidSignature, ValueError) as error:
        raise _bad(MLDSA65) from error


def mldsa65_key(spki: bytes) -> MLDSA65PublicKey:
    """The ML-DSA-65 public key in `spki`, which must be spelt as we spell it. Raises VerificationError."""
    try:
        key = load_der_public_key(spki)
    except Exception as error:  # the library raises several kinds for damaged keys
        raise _no_key() from error
    if not isinstance(key, MLDSA65PublicKey) or spki_of(key) != spki:
        raise _no_key()
    return key


def spki_of(key: MLDSA65PublicKey | Ed25519PublicKey | EllipticCurvePublicKey) -> bytes:
    """The SubjectPublicKeyInfo of a public key, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_line(public_line: str) -> bytes:
    """The SubjectPublicKeyInfo of the key in an OpenSSH line. Raises VerificationError."""
    key = load_ssh_public_key(sshsig.normal_line(public_line).encode("ascii"))
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise _no_key()
    return spki_of(key)


def keyid(spki: bytes) -> Digest:
    """How an envelope and a receipt call a key: SHA-256 of its SubjectPublicKeyInfo."""
    return canonical.sha256_hex(spki)


def algorithm(public_line: str) -> str:
    """`ED25519` or `ECDSA_P256`: how the key of an OpenSSH line signs the PAE. Raises VerificationError."""
    key = load_ssh_public_key(sshsig.normal_line(public_line).encode("ascii"))
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return ECDSA_P256
    return ED25519


def envelope(body: bytes, public_line: str, second: SecondSignatures) -> bytes:
    """``receipt.dsse.json``: canonical JSON, the signing key's signature first."""
    keyed = ((spki_of_line(public_line), second.classic), (second.mldsa65_key, second.mldsa65))
    return canonical.dumps(
        {
            "payload": base64.b64encode(body).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [
                {"keyid": keyid(spki), "sig": base64.b64encode(signature).decode()}
                for spki, signature in keyed
            ],
        }
    )


def pem_of(spki: bytes) -> bytes:
    """A public key as a PEM file (RFC 7468), in the one layout that `spki_in` takes."""
    text = base64.b64encode(spki).decode()
    lines = [text[at : at + _PEM_LINE] + "\n" for at in range(0, len(text), _PEM_LINE)]
    return "".join([_PEM[0], *lines, _PEM[1]]).encode()


def spki_in(pem: bytes) -> bytes:
    """The SubjectPublicKeyInfo in a PEM file. Raises VerificationError where it is not laid out as ours are."""
    try:
        lines = pem.decode("ascii").splitlines()
        spki = base64.b64decode("".join(lines[1:-1]), validate=True)
    except (ValueError, binascii.Error) as error:
        raise _no_key() from error
    if pem_of(spki) != pem:
        raise _no_key()
    return spki


def _plain(blob: bytes) -> bytes:
    """An SSH signature (RFC 8032 in RFC 8709, RFC 5656 §3.1.2) as everybody else writes it."""
    name, raw = sshsig.signature_parts(blob)
    if name == b"ssh-ed25519":
        return raw
    if name == b"ecdsa-sha2-nistp256":
        return encode_dss_signature(*sshsig.ecdsa_numbers(raw))
    raise VerificationError(
        f"A key that signs as {name.decode('ascii', 'replace')!r} cannot sign a receipt.",
        "Use an Ed25519 or ECDSA P-256 key.",
    )


def _bad(what: str) -> VerificationError:
    return VerificationError(
        f"The {what} signature does not belong to these bytes.",
        "Do not rely on this document; get it again from its source.",
    )


def _no_key() -> VerificationError:
    return VerificationError(
        "That is not a public key in the one form that expunge writes.", "Get it again from its source."
    )
