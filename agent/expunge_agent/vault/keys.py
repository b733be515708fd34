"""Wrapping one key with another, and deriving keys for one purpose each. AES-256-GCM, HKDF-SHA256."""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY = 32
"""Bytes of every key."""
NONCE = 12


def wrap(by: bytes, secret: bytes, about: bytes) -> bytes:
    """`secret` sealed by the key `by` for what `about` says alone: nonce of 12 bytes, ciphertext, tag of 16."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(by).encrypt(nonce, secret, about)


def unwrap(by: bytes, sealed: bytes, about: bytes) -> bytes | None:
    """What `wrap` sealed; None where key, bytes or `about` are others."""
    try:
        return AESGCM(by).decrypt(sealed[:NONCE], sealed[NONCE:], about)
    except (InvalidTag, ValueError):
        return None


def derive(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    """A key of 32 bytes for `purpose` (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=KEY, salt=salt, info=purpose).derive(key)


def about(what: str, *parts: str) -> bytes:
    """What a wrapped key is bound to: ``expunge-vault/v1``, `what` it is and `parts`, one a line.

    No part holds a line break (`Name` of the keystore forbids it), so it reads one way only.
    """
    return "\n".join(["expunge-vault/v1", what, *parts]).encode()
