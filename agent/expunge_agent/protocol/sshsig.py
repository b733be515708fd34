"""SSHSIG: detached OpenSSH signatures (PROTOCOL.sshsig of OpenSSH), made and checked without ssh-keygen.

``ssh-keygen -Y verify`` accepts what `sign` makes, and `verify` accepts what ``ssh-keygen -Y sign``
makes with Ed25519 or ECDSA P-256 keys, in a file or in a FIDO2 security key (`security_key`).
Reading is stricter than OpenSSH's: one spelling only, so that no byte of a signature file can change
unnoticed, and a security key must say that somebody was there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import security_key
from expunge_agent.protocol.security_key import Presence

ORDER_NAMESPACE = "expunge-order"
RECEIPT_NAMESPACE = "expunge-receipt"
CUSTODY_NAMESPACE = "expunge-custody"
CERTIFICATE_NAMESPACE = "expunge-certificate"
ENROLMENT_NAMESPACE = "expunge-enrolment"
VAULT_NAMESPACE = "expunge-vault"
KEY_EVENT_NAMESPACE = "expunge-key-event"
ROTATION_NAMESPACE = "expunge-key-rotation"
PERSON_NAMESPACE = "expunge-person"
LOT_NAMESPACE = "expunge-lot"

MAGIC = b"SSHSIG"
VERSION = 1
BEGIN = "-----BEGIN SSH SIGNATURE-----"
END = "-----END SSH SIGNATURE-----"
HASHES = {b"sha256": hashlib.sha256, b"sha512": hashlib.sha512}
MAX_SIGNATURE = 16384

PublicKey = Ed25519PublicKey | EllipticCurvePublicKey


class Examined(NamedTuple):
    """A signature that is right: by which key, and for a security key what that says of the person."""

    public_line: str
    presence: Presence | None


class Signer(Protocol):
    """A key that can sign: in a file, an ssh-agent, a TPM."""

    @property
    def public_line(self) -> str:
        """The public key as one OpenSSH line without comment: ``ssh-ed25519 AAAA…``."""

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`: string algorithm, string signature (RFC 4253 §6.6)."""


class PrivateKeySigner:
    """A signer over a private key held in memory (Ed25519 or ECDSA P-256)."""

    def __init__(self, key: Ed25519PrivateKey | EllipticCurvePrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self._public_line = public.decode("ascii")

    @property
    def public_line(self) -> str:
        """The public key as one OpenSSH line."""
        return self._public_line

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`."""
        if isinstance(self._key, Ed25519PrivateKey):
            return ed25519_blob(self._key.sign(data))
        return p256_blob(*decode_dss_signature(self._key.sign(data, ECDSA(hashes.SHA256()))))


def ed25519_blob(signature: bytes) -> bytes:
    """The SSH signature made of an Ed25519 one of 64 bytes (RFC 8709 §6)."""
    return _string(b"ssh-ed25519") + _string(signature)


def p256_blob(r: int, s: int) -> bytes:
    """The SSH signature made of an ECDSA P-256 one (RFC 5656 §3.1.2)."""
    return _string(b"ecdsa-sha2-nistp256") + _string(_mpint(r) + _mpint(s))


def check_blob(public_line: str, blob: bytes, data: bytes) -> None:
    """Check what `Signer.signature_blob` gave for `data`. Raises VerificationError."""
    _check(public_blob(public_line), blob, data)


def sign(signer: Signer, namespace: str, message: bytes) -> bytes:
    """An armored detached signature of `message`, ASCII bytes (see `_armor`)."""
    hashed = hashlib.sha512(message).digest()
    blob = signer.signature_blob(_signed_data(namespace.encode(), b"sha512", hashed))
    body = struct.pack(">I", VERSION) + b"".join(
        _string(part) for part in (public_blob(signer.public_line), namespace.encode(), b"", b"sha512", blob)
    )
    return _armor(MAGIC + body)


def verify(armored: bytes, namespace: str, message: bytes) -> str:
    """Check a detached signature; returns the signer's public key line.

    Whether that key may be trusted is another question (`trust`). Raises VerificationError, also
    for a security key that nobody touched.
    """
    return examine(armored, namespace, message).public_line


def examine(armored: bytes, namespace: str, message: bytes) -> Examined:
    """As `verify`; returns also what a security key says of the person behind it."""
    data = _dearmor(armored)
    if data[:6] != MAGIC or len(data) < 10 or struct.unpack(">I", data[6:10])[0] != VERSION:
        raise _bad("it is not an SSHSIG version 1")
    parts, rest = _read_strings(data[10:], 5)
    key_blob, signed_namespace, reserved, hash_name, signature = parts
    if rest or reserved:
        raise _bad("it carries bytes that do not belong there")
    if signed_namespace != namespace.encode():
        raise _bad(f"it was made for {signed_namespace.decode('utf-8', 'replace')!r}, not for {namespace!r}")
    if hash_name not in HASHES:
        raise _bad("its hash algorithm is not sha256 or sha512")
    line = _public_line(key_blob)
    signed = _signed_data(signed_namespace, hash_name, HASHES[hash_name](message).digest())
    return Examined(line, _check(key_blob, signature, signed))


def in_our_layout(armored: bytes) -> bytes:
    """The same signature in the one layout that bundles hold (see `_armor`). Raises VerificationError."""
    return _armor(_dearmor(armored))


def public_blob(public_line: str) -> bytes:
    """The SSH wire form of a public key line. Raises VerificationError for anything else."""
    try:
        return base64.b64decode(public_line.split()[1], validate=True)
    except (IndexError, binascii.Error) as error:
        raise VerificationError(
            "That is not an OpenSSH public key line.", "It looks like: ssh-ed25519 AAAA…"
        ) from error


def fingerprint(public_line: str) -> str:
    """``SHA256:…`` as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(public_blob(public_line)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def normal_line(public_line: str) -> str:
    """A public key line without comment, checked to be a supported key. Raises VerificationError."""
    return _public_line(public_blob(public_line))


def _check(key_blob: bytes, signature: bytes, data: bytes) -> Presence | None:
    (kind,), _ = _read_strings(key_blob, 1)
    key = _load(key_blob)
    (algorithm, raw), tail = _read_strings(signature, 2)
    seen: Presence | None = None
    try:
        if algorithm != kind:
            raise InvalidSignature
        if kind in security_key.STRINGS:
            seen = security_key.presence(tail)
            application = _read_strings(key_blob, security_key.STRINGS[kind])[0][-1]
            data = security_key.signed_data(application, tail, data)
        elif tail:
            raise InvalidSignature
        if isinstance(key, Ed25519PublicKey):
            key.verify(raw, data)
        else:
            _check_ecdsa(key, raw, data)
    except (InvalidSignature, ValueError) as error:
        raise _bad("it does not belong to these bytes") from error
    if seen is not None and not seen.user_present:
        raise _bad("its security key signed without anybody touching it")
    return seen


def _check_ecdsa(key: EllipticCurvePublicKey, raw: bytes, data: bytes) -> None:
    (r, s), tail = _read_strings(raw, 2)
    number_r, number_s = int.from_bytes(r, "big"), int.from_bytes(s, "big")
    if tail or _mpint(number_r) + _mpint(number_s) != raw:
        raise InvalidSignature
    key.verify(encode_dss_signature(number_r, number_s), data, ECDSA(hashes.SHA256()))


def _load(key_blob: bytes) -> PublicKey:
    (kind,), _ = _read_strings(key_blob, 1)
    try:
        if kind in security_key.STRINGS:
            fields, rest = _read_strings(key_blob, security_key.STRINGS[kind])
            if rest:
                raise ValueError("bytes behind the key")
            return security_key.public_key(fields)
        text = f"{kind.decode('ascii')} {base64.b64encode(key_blob).decode()}"
        key = load_ssh_public_key(text.encode("ascii"))
    except Exception as error:  # the library raises several kinds for damaged keys
        raise _bad("its public key is damaged") from error
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key
    raise _bad("its key is neither Ed25519 nor ECDSA P-256")


def _public_line(key_blob: bytes) -> str:
    (algorithm,), _ = _read_strings(key_blob, 1)
    _load(key_blob)
    return f"{algorithm.decode('ascii')} {base64.b64encode(key_blob).decode()}"


def _signed_data(namespace: bytes, hash_name: bytes, hashed: bytes) -> bytes:
    return MAGIC + b"".join(_string(part) for part in (namespace, b"", hash_name, hashed))


def _armor(data: bytes) -> bytes:
    """Our layout: the base64 text on one line, no newline at the end.

    ssh-keygen overlooks changes of line breaks and of what follows the last line; where there are
    none, no byte of the layout can change without its noticing.
    """
    return f"{BEGIN}\n{base64.b64encode(data).decode()}\n{END}".encode()


def _armor_of_openssh(data: bytes) -> bytes:
    """The layout that ``ssh-keygen -Y sign`` writes: lines of 70 characters, a newline at the end."""
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([BEGIN, *lines, END, ""]).encode()


def _dearmor(armored: bytes) -> bytes:
    """The blob inside, refusing every layout but the two above."""
    if len(armored) > MAX_SIGNATURE:
        raise _bad("it is far too long")
    try:
        lines = armored.decode("ascii").removesuffix("\n").split("\n")
        data = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:
        raise _bad("its text is damaged") from error
    if armored not in (_armor(data), _armor_of_openssh(data)):
        raise _bad("its text was altered")
    return data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _mpint(number: int) -> bytes:
    """RFC 4251 §5 mpint of a positive number, with its length."""
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big") if number else b"")


def _read_strings(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    parts = []
    for _ in range(count):
        if len(data) < 4:
            raise _bad("it ends too early")
        (length,) = struct.unpack(">I", data[:4])
        if len(data) < 4 + length:
            raise _bad("it ends too early")
        parts.append(data[4 : 4 + length])
        data = data[4 + length :]
    return parts, data


def _bad(why: str) -> VerificationError:
    return VerificationError(
        f"The signature is not valid: {why}.", "Do not rely on this document; get it again from its source."
    )


def signature_parts(blob: bytes) -> tuple[bytes, bytes]:
    """Algorithm and signature in what `Signer.signature_blob` gives (RFC 4253 §6.6). Raises VerificationError."""
    (algorithm, raw), rest = _read_strings(blob, 2)
    if rest:
        raise _bad("it carries bytes that do not belong there")
    return algorithm, raw


def ecdsa_numbers(raw: bytes) -> tuple[int, int]:
    """r and s of an ECDSA signature as SSH writes it (RFC 5656 §3.1.2). Raises VerificationError."""
    (r, s), rest = _read_strings(raw, 2)
    if rest:
        raise _bad("it carries bytes that do not belong there")
    return int.from_bytes(r, "big"), int.from_bytes(s, "big")
