"""The controller's private keys: Ed25519, OpenSSH format, files of mode 0600 without passphrase."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from expunge_agent.errors import NotFoundError, PermissionProblemError, StateError
from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import files


def ensure_key(path: Path, comment: str) -> PrivateKeySigner:
    """The key at `path`, made first where there is none (its public half goes to ``NAME.pub``)."""
    if not path.exists():
        key = Ed25519PrivateKey.generate()
        files.write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    signer = load_key(path)
    public = path.with_name(path.name + ".pub")
    if not public.exists():
        files.write_private(public, f"{signer.public_line} {comment}\n".encode())
    return signer


def load_key(path: Path) -> PrivateKeySigner:
    """The key at `path`, ready to sign. Raises NotFoundError, PermissionProblemError or StateError."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"The key {path} is missing.", "Restore it from your backup.") from error
    if stat.S_IMODE(mode) & 0o077:
        raise PermissionProblemError(
            f"The key {path} can be read by others (mode {stat.S_IMODE(mode):04o}).",
            f"Find out who read it, then: chmod 600 {path}",
        )
    try:
        key = load_ssh_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise StateError(f"The key {path} is damaged.", "Restore it from your backup.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise StateError(f"The key {path} is not an Ed25519 key.", "Restore it from your backup.")
    return PrivateKeySigner(key)
