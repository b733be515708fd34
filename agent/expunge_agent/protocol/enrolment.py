"""Enrolment: the one-time token a controller gives out, and what a machine says of itself for it."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Literal

import msgspec

from expunge_agent.errors import DocumentError, EnrolmentError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, MachineId, Name, Nonce, Text, Timestamp
from expunge_agent.protocol.dsse import Part

TOKEN_PREFIX = "expunge1."  # a name, not a secret  # noqa: S105


class EnrolmentToken(Frozen, frozen=True):
    """Where to call and whom to believe. The secret is good for one machine, until it expires.

    ``host`` is empty for a machine that the controller will dial.
    ``host_key`` is the controller's SSH host key, ``order_key`` the key that signs its orders
    (public key lines), ``controller`` its name (the principal is ``controller:`` and this name).
    """

    controller: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
    host: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    host_key: str
    order_key: Name
    secret: Nonce

    def text(self) -> str:
        """The token as one word to copy."""
        return TOKEN_PREFIX + base64.urlsafe_b64encode(canonical.dumps(self)).decode().rstrip("=")


def parse_token(text: str) -> EnrolmentToken:
    """The token in `text`. Raises EnrolmentError."""
    try:
        if not text.startswith(TOKEN_PREFIX):
            raise ValueError("prefix")
        body = text[len(TOKEN_PREFIX) :]
        return canonical.loads(
            base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)), EnrolmentToken, "token"
        )
    except (ValueError, binascii.Error, DocumentError) as error:
        raise EnrolmentError(
            "That is not an enrolment token, or a part of it is missing.",
            "Copy the whole word that `expunge enrol` printed.",
        ) from error


class HostFacts(Frozen, frozen=True):
    """The machine at the time it enrolled."""

    hostname: Text
    kernel: Text
    boot_id: Text
    host_keys: list[str]
    """Fingerprints of its SSH host keys, where it has any."""


class Enrolment(Frozen, frozen=True, omit_defaults=True):
    """What the agent signs (namespace ``expunge-enrolment``) with the key it will sign receipts with.

    ``mldsa65_key`` is the key of its second signatures (see `dsse`); enrolments from before there were any lack it.
    """

    format: Literal["expunge/enrolment/v1"]
    secret: Nonce
    machine_id: MachineId
    signing_key: Name
    dial_key: Name
    host: HostFacts
    at: Timestamp
    mldsa65_key: Part = b""
