"""A machine's change of signing keys: one document, signed with the new key and with the old one."""

from __future__ import annotations

import hashlib
import hmac
from typing import Annotated, Literal

import msgspec
from msgspec.structs import replace

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, MachineId, Name, Timestamp


class KeyRotation(Frozen, frozen=True):
    """What the agent signs (namespace ``expunge-key-rotation``), with ``new_key`` and, where it still has it, ``old_key``.

    ``grant``: that it has the controller's one-time token, without showing it: HMAC-SHA256, under the SHA-256 of the
    secret, of the canonical bytes with an empty ``grant``.
    """

    format: Literal["expunge/key-rotation/v1"]
    machine_id: MachineId
    old_key: Name
    new_key: Name
    at: Timestamp
    grant: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")] = ""


def granted(rotation: KeyRotation, secret: str) -> KeyRotation:
    """`rotation` with its grant, by the secret of the token."""
    return replace(rotation, grant=grant_of(rotation, hashlib.sha256(secret.encode()).hexdigest()))


def grant_of(rotation: KeyRotation, secret_digest: str) -> str:
    """The grant that `rotation` must have, by the SHA-256 of the secret in hexadecimal."""
    body = canonical.dumps(replace(rotation, grant=""))
    return hmac.digest(bytes.fromhex(secret_digest), body, "sha256").hex()
