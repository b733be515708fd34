"""Keys that live in a FIDO2 security key, as OpenSSH writes them (PROTOCOL.u2f of OpenSSH).

The authenticator signs SHA-256(application), one byte of flags, a counter and SHA-256 of the message;
flags and counter stand in clear beside the signature. ``ssh-keygen -Y verify`` takes any flags: a
signature that nobody touched anything for checks out there. Here the flags are read.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SK_ED25519 = b"sk-ssh-ed25519@openssh.com"
SK_ECDSA = b"sk-ecdsa-sha2-nistp256@openssh.com"
STRINGS = {SK_ED25519: 3, SK_ECDSA: 4}
"""How many strings the public key's wire form has, the algorithm's name among them."""
USER_PRESENT = 0x01
USER_VERIFIED = 0x04
"""WebAuthn level 2 §6.1: flag bits 0 (UP) and 2 (UV)."""
_TAIL = struct.Struct(">BI")


class Presence(NamedTuple):
    """What the authenticator says of the person: bits of ``flags``, and its own count of signatures."""

    flags: int
    counter: int

    @property
    def user_present(self) -> bool:
        """Somebody touched it."""
        return bool(self.flags & USER_PRESENT)

    @property
    def user_verified(self) -> bool:
        """Somebody gave it their PIN or fingerprint."""
        return bool(self.flags & USER_VERIFIED)


def public_key(fields: list[bytes]) -> Ed25519PublicKey | EllipticCurvePublicKey:
    """The key in the strings of its wire form (as many as `STRINGS` says). Raises ValueError."""
    if not fields[-1].startswith(b"ssh:"):
        raise ValueError("the application of a security key for SSH begins with ssh:")
    if fields[0] == SK_ED25519:
        return Ed25519PublicKey.from_public_bytes(fields[1])
    if fields[1] != b"nistp256" or fields[2][:1] != b"\x04":
        raise ValueError("not an uncompressed point of P-256")
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), fields[2])


def presence(tail: bytes) -> Presence:
    """The flags and counter behind a signature. Raises ValueError."""
    if len(tail) != _TAIL.size:
        raise ValueError("flags and counter are five bytes")
    return Presence(*_TAIL.unpack(tail))


def signed_data(application: bytes, tail: bytes, data: bytes) -> bytes:
    """What the authenticator signs when SSH asks it to sign `data`."""
    return hashlib.sha256(application).digest() + tail + hashlib.sha256(data).digest()
