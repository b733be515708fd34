"""The agent's keys: one signs receipts, wherever it is held; another opens the SSH connection to the controller.

``signing_key.json`` says where the signing key is; without it, it is the file ``signing_key``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from expunge_agent.errors import ExpungeError, SigningKeyError, StateError, UsageError
from expunge_agent.files import create_durable, exists, read_limited, write_durable
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.sshsig import PrivateKeySigner, Signer
from expunge_agent.signers import ssh_agent, token, tpm
from expunge_agent.signers.settings import (
    FileKey,
    KeySettings,
    KeyWish,
    SshAgentKey,
    TokenKey,
    TpmKey,
    matches,
)

FILE = "signing_key"
SETTINGS = "signing_key.json"
PROBE_NAMESPACE = "expunge-probe"
T = TypeVar("T")
PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to sign a receipt with a key that does not answer."""


class _Held(Signer, Protocol):
    """A key outside this process: ``where`` says in words who holds it."""

    where: str


class HeldSigner:
    """A key that others hold: what they sign is checked, and what they complain of is an `SigningKeyError`."""

    def __init__(self, held: _Held) -> None:
        self._held = held

    @property
    def public_line(self) -> str:
        """The public key line that was pinned."""
        return self._held.public_line

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`. Raises SigningKeyError."""
        try:
            blob = self._held.signature_blob(data)
            sshsig.check_blob(self.public_line, blob, data)
        except SigningKeyError:
            raise
        except ExpungeError as error:
            raise SigningKeyError(
                f"The signing key in {self._held.where} does not sign: {error.message}", error.remedy
            ) from error
        return blob


def create_key(path: Path) -> None:
    """A new Ed25519 key in `path` (mode 0600, OpenSSH format) and ``path.pub`` beside it.

    Leaves a key that is there alone, also one that another process makes at this moment.
    """
    key = Ed25519PrivateKey.generate()
    if create_durable(path, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), 0o600):
        _publish(path, PrivateKeySigner(key))


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


def held_settings(root: Path) -> KeySettings:
    """Where the signing key of the state folder `root` is."""
    path = root / SETTINGS
    if not exists(path):
        return FileKey(name=FILE)
    return canonical.loads(read_limited(path, 65536), KeySettings, str(path))  # type: ignore[arg-type]


def signer_of(root: Path) -> Signer:
    """The signing key of the state folder `root`; where others hold it, they are asked when it signs."""
    return open_signer(root, held_settings(root))


def signer_or_new(root: Path) -> Signer:
    """The signing key, made as a file where there is none yet."""
    if not exists(root / SETTINGS):
        return load_or_create_key(root / FILE)
    return signer_of(root)


def open_signer(root: Path, held: KeySettings) -> Signer:
    """The signer that the settings name."""
    match held:
        case FileKey():
            return load_key(root / held.name)
        case SshAgentKey():
            return HeldSigner(ssh_agent.SshAgentSigner(held))
        case TokenKey():
            return HeldSigner(token.TokenSigner(held))
        case TpmKey():
            return HeldSigner(tpm.TpmSigner(held))


def first_key(root: Path, wish: KeyWish | None) -> Signer:
    """The signing key to enrol with: what is there, else what `wish` asks for (None: a file).

    Raises UsageError where another kind of key is there already, SigningKeyError where it does not sign.
    """
    there = exists(root / SETTINGS) or exists(root / FILE)
    if there and wish is not None and not matches(wish, held_settings(root)):
        raise UsageError(
            "This machine has another signing key already.",
            "Leave --key out, or change keys with: expunge-agent rotate-key",
        )
    if not there and wish is not None and wish.kind != "file":
        keep(root, new_key(root, wish))
    signer = signer_or_new(root)
    probe(signer)
    return signer


def new_key(root: Path, wish: KeyWish) -> KeySettings:
    """A key of the kind asked for: made, or found where it lies. It signs nothing yet."""
    match wish.kind:
        case "ssh-agent":
            return ssh_agent.choose(wish.place, wish.fingerprint)
        case "pkcs11":
            return token.choose(wish)
        case "tpm2":
            return tpm.choose(wish.place)
    name = f"{FILE}.{secrets.token_hex(4)}"
    create_key(root / name)
    return FileKey(name=name)


def keep(root: Path, held: KeySettings) -> None:
    """From now on `held` is the signing key; durable on return."""
    write_durable(root / SETTINGS, canonical.dumps(held), 0o600)
    _publish(root / FILE, open_signer(root, held))


def probe(signer: Signer) -> None:
    """Have the key sign something of no meaning. Raises SigningKeyError where it does not."""
    sshsig.sign(signer, PROBE_NAMESPACE, secrets.token_bytes(32))


def patiently(sign: Callable[[], T], give_up: Callable[[float], bool]) -> T:
    """What `sign` makes, tried again for half a minute while the key does not answer.

    `give_up` waits some seconds and says whether to wait no longer.
    """
    for pause in PAUSES:
        try:
            return sign()
        except SigningKeyError:
            if give_up(pause):
                break
    return sign()


def _publish(path: Path, signer: Signer) -> None:
    write_durable(path.with_name(path.name + ".pub"), f"{signer.public_line}\n".encode(), 0o644)
