"""The port: what the vault asks of whoever keeps its root key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

import msgspec

from expunge_agent.core.layout import Layout
from expunge_agent.protocol.base import Frozen, PathText, Text
from expunge_agent.protocol.receipt_keys import KeyEvidence

Passphrase = Callable[[], bytes | memoryview]
"""Asked for only when it is needed."""


class FileSettings(Frozen, frozen=True, tag_field="kind", tag="file"):
    """``folder``: where the root keys lie; outside the vault, so that its backups do not hold them."""

    folder: PathText


class TpmSettings(Frozen, frozen=True, tag_field="kind", tag="tpm"):
    """``tcti``: how the TPM is reached (``device:/dev/tpmrm0``). ``index``: the first of the two NV indexes
    that the vault's roots use in turns."""

    tcti: Text
    index: Annotated[int, msgspec.Meta(ge=0x01000000, le=0x01FFFFFE)]


class TokenSettings(Frozen, frozen=True, tag_field="kind", tag="pkcs11"):
    """``module``: the PKCS#11 library. ``token``: the token's label."""

    module: PathText
    token: Text


HolderSettings = FileSettings | TpmSettings | TokenSettings


@dataclass(frozen=True)
class Destruction:
    """How a root key was destroyed. ``beyond``: by a device that keeps keys itself and discards what it
    held, rather than by an overwrite of a file. ``doubts``: why the key may still be there."""

    how: str
    beyond: bool
    doubts: tuple[str, ...] = ()
    evidence: tuple[KeyEvidence, ...] = ()


class KeyHolder(Protocol):
    """Keeps root keys of 256 bits, each under an id. All calls may raise an `ExpungeError`."""

    where: str
    """Where it keeps them, in words."""
    beyond: bool
    """Whether it will destroy beyond a logical overwrite (see `Destruction`)."""

    def create(self, root: str) -> None:
        """Make a root key, durable on return; one that is there already is left."""

    def has(self, root: str) -> bool:
        """Whether it is there."""

    def seal(self, root: str, secret: bytes, about: bytes) -> bytes:
        """`secret` sealed by the root key, bound to `about`."""

    def unseal(self, root: str, sealed: bytes, about: bytes) -> bytes:
        """What `seal` sealed. Raises VerificationError where it does not open."""

    def place(self, root: str) -> Layout:
        """Where a root key is stored, as far as an overwrite could miss it; asked and journalled before `spoil`, as a
        spoiling that was killed may have moved it."""

    def spoil(self, root: str, before: Layout) -> tuple[str, ...]:
        """Make what is stored of a root key worthless, in its place, where that can be done before it is taken
        away; the doubts there are about it. `before`: `place`, before the first attempt. Again is harmless."""

    def destroy(self, root: str) -> Destruction:
        """Destroy a root key that was spoiled, for good. One that is gone was destroyed by a run before this one,
        which did not come to say so."""

    def close(self) -> None:
        """Let go of device and secrets."""


def not_opened(where: str) -> str:
    """The sentence for a secret that does not open."""
    return f"The vault key does not open with the root key in {where}."
