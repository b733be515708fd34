"""A FIDO2 authenticator's half of an SSH signature, with the private key in memory (PROTOCOL.u2f of OpenSSH)."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TOUCHED = 0x01
TOUCHED_WITH_PIN = 0x05


def string(data: bytes) -> bytes:
    """RFC 4251 §5 string."""
    return struct.pack(">I", len(data)) + data


def mpint(number: int) -> bytes:
    """RFC 4251 §5 mpint of a positive number."""
    return string(number.to_bytes(number.bit_length() // 8 + 1, "big"))


@dataclass
class Authenticator:
    """A security key; ``flags`` are what it will say of the person. `ecdsa` takes P-256 instead of Ed25519."""

    ecdsa: bool = False
    flags: int = TOUCHED_WITH_PIN
    application: bytes = b"ssh:"
    counter: int = 6
    _ed25519: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    def __post_init__(self) -> None:
        self._p256 = generate_private_key(SECP256R1())

    @property
    def algorithm(self) -> bytes:
        """The key type's name."""
        return b"sk-ecdsa-sha2-nistp256@openssh.com" if self.ecdsa else b"sk-ssh-ed25519@openssh.com"

    @property
    def public_line(self) -> str:
        """The public key as one OpenSSH line."""
        if self.ecdsa:
            point = self._p256.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            parts = [self.algorithm, b"nistp256", point, self.application]
        else:
            raw = self._ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            parts = [self.algorithm, raw, self.application]
        return f"{self.algorithm.decode()} {base64.b64encode(b''.join(map(string, parts))).decode()}"

    def signature_blob(self, data: bytes) -> bytes:
        """What ssh-sk-helper makes of the authenticator's answer."""
        self.counter += 1
        tail = struct.pack(">BI", self.flags, self.counter)
        signed = hashlib.sha256(self.application).digest() + tail + hashlib.sha256(data).digest()
        if self.ecdsa:
            r, s = decode_dss_signature(self._p256.sign(signed, ECDSA(hashes.SHA256())))
            raw = mpint(r) + mpint(s)
        else:
            raw = self._ed25519.sign(signed)
        return string(self.algorithm) + string(raw) + tail
