"""A person's own key, ready to sign: in a file, or in the ssh-agent that SSH_AUTH_SOCK names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from expunge_agent.errors import DocumentError, NotFoundError, StateError, UsageError
from expunge_agent.protocol import security_key, sshsig
from expunge_agent.protocol.sshsig import PrivateKeySigner, Signer
from expunge_controller.files import read_small

if TYPE_CHECKING:
    from paramiko.agent import AgentKey

MAX_KEY = 64 * 1024
_PRIVATE = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_SECURITY_KEYS = tuple(security_key.STRINGS)


def read_public(path: Path) -> str:
    """The public key line in the file at `path`. Raises NotFoundError, DocumentError, VerificationError."""
    data = read_small(path, MAX_KEY, "a key")
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    if data.startswith(_PRIVATE):
        raise DocumentError(
            f"{path} is a private key.", "Give the .pub file beside it; keep this one secret."
        )
    if len(lines) != 1:
        raise DocumentError(f"{path} is not one public key.", "It looks like: ssh-ed25519 AAAA… name")
    return sshsig.normal_line(lines[0])


def signer_of(path: Path, passphrase: Callable[[], str]) -> Signer:
    """The key at `path`: a private key, or a public one whose private half an ssh-agent holds.

    `passphrase` is asked where the private key has one. Raises NotFoundError, StateError, UsageError.
    """
    data = read_small(path, MAX_KEY, "a key")
    if not data.startswith(_PRIVATE):
        return in_agent(read_public(path))
    if _is_handle(data):
        raise UsageError(
            f"{path} stands for a security key, which this program does not talk to.",
            f"Add it to an ssh-agent and give {path}.pub, or: ssh-keygen -Y sign -n expunge-custody -f {path} FILE",
        )
    try:
        key = _loaded(data, None) or _loaded(data, passphrase().encode())
    except ValueError as error:
        raise StateError(
            f"{path} cannot be opened: {error}.", "Check the passphrase, and that it is an OpenSSH key."
        ) from error
    if isinstance(key, Ed25519PrivateKey):
        return PrivateKeySigner(key)
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return PrivateKeySigner(key)
    raise StateError(f"{path} is neither an Ed25519 nor an ECDSA P-256 key.", "Take another key.")


def in_agent(public_line: str) -> Signer:
    """The key with this public line in the ssh-agent. Raises NotFoundError."""
    with _held(public_line):
        return _AgentSigner(public_line)


class _AgentSigner:
    """A key that signs inside an ssh-agent; its answer is the SSH signature, flags of a security key included."""

    def __init__(self, public_line: str) -> None:
        self.public_line = public_line

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`. Raises StateError where the agent refuses."""
        import paramiko

        with _held(self.public_line) as key:
            try:
                return bytes(key.sign_ssh_data(data))
            except paramiko.SSHException as error:
                raise StateError(
                    f"The ssh-agent did not sign: {error}.", "Unlock it, touch the key, try again."
                ) from error


@contextmanager
def _held(public_line: str) -> Iterator[AgentKey]:
    import paramiko

    agent = paramiko.Agent()
    try:
        for key in agent.get_keys():
            if key.asbytes() == sshsig.public_blob(public_line):
                yield key
                return
    finally:
        agent.close()
    raise NotFoundError(
        f"No ssh-agent holds the key {sshsig.fingerprint(public_line)}.",
        "Start one and ssh-add the key, or give the private key's file.",
    )


def _is_handle(data: bytes) -> bool:
    """Whether a private key file only points to a security key; its public half stands in clear at its beginning."""
    text = b"".join(data.split(b"\n")[1:4])
    try:
        start = base64.b64decode(text[: len(text) // 4 * 4])
    except binascii.Error:
        return False
    return any(kind in start for kind in _SECURITY_KEYS)


def _loaded(data: bytes, passphrase: bytes | None) -> object | None:
    """The private key; None where it has a passphrase and none was given. Raises ValueError."""
    try:
        return load_ssh_private_key(data, password=passphrase)
    except TypeError as error:
        if passphrase is None:
            return None
        raise ValueError(str(error)) from error
