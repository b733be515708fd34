"""The agent's ML-DSA-65 key: made on first use, kept like its other private keys (PKCS#8, mode 0600)."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from expunge_agent.errors import StateError
from expunge_agent.files import create_durable, exists, read_limited, write_durable
from expunge_agent.protocol import dsse

LOST = "Restore it from a backup, or enrol this machine anew with a fresh state folder."


def load_or_create_second_key(path: Path) -> MLDSA65PrivateKey:
    """The key in `path`, made on first use, with ``path.pub`` (PEM) beside it.

    Raises StateError when it is damaged, open to others, or was there once and is gone: the controller
    would not take receipts with another one.
    """
    public = path.with_name(path.name + ".pub")
    if not exists(path):
        if exists(public):
            raise StateError(f"The key {path} is gone; its public half is still there.", LOST)
        fresh = MLDSA65PrivateKey.generate()
        create_durable(path, fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    key = _load(path)
    if not exists(public):
        write_durable(public, dsse.pem_of(dsse.spki_of(key.public_key())), 0o644)
    return key


def _load(path: Path) -> MLDSA65PrivateKey:
    data = read_limited(path, 65536)
    if path.stat().st_mode & 0o077:
        raise StateError(f"The key {path} can be read by other users.", f"Run: chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise StateError(f"{path} is not a private key.", LOST) from error
    if not isinstance(key, MLDSA65PrivateKey):
        raise StateError(f"{path} is not an ML-DSA-65 key.", LOST)
    return key
