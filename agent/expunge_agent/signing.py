"""The agent's keys: one signs receipts, another opens the SSH connection to the controller."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from expunge_agent.errors import StateError
from expunge_agent.files import create_durable, exists, read_limited, write_durable
from expunge_agent.protocol.sshsig import PrivateKeySigner


def create_key(path: Path) -> None:
    """A new Ed25519 key in `path` (mode 0600, OpenSSH format) and ``path.pub`` beside it.

    Leaves a key that is there alone, also one that another process makes at this moment.
    """
    key = Ed25519PrivateKey.generate()
    if create_durable(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600):
        public = PrivateKeySigner(key).public_line
        write_durable(path.with_name(path.name + ".pub"), f"{public}\n".encode(), 0o644)


def load_key(path: Path) -> PrivateKeySigner:
    """The signer for the key in `path`. Raises StateError when it is damaged or open to others."""
    data = read_limited(path, 65536)
    if path.stat().st_mode & 0o077:
        raise StateError(f"The key {path} can be read by other users.", f"Run: chmod 600 {path}")
    try:
        key = load_ssh_private_key(data, password=None)
    except ValueError as error:
        raise StateError(f"{path} is not an OpenSSH private key.", "Restore it, or enrol again.") from error
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)
    ):
        return PrivateKeySigner(key)
    raise StateError(f"{path} is neither an Ed25519 nor an ECDSA P-256 key.", "Enrol again with a new key.")


def load_or_create_key(path: Path) -> PrivateKeySigner:
    """The key in `path`, made on first use."""
    if not exists(path):
        create_key(path)
    return load_key(path)
