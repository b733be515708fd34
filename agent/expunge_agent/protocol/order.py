"""The order: what the controller asks of one agent, once, signed."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import (
    Digest,
    Frozen,
    Level,
    MachineId,
    Name,
    Nonce,
    OrderId,
    Text,
    Timestamp,
)
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order_keys import KeyWish

MAX_TARGETS = 64
MAX_ORDER = 512 * 1024
"""Bytes of an order."""


class ProfileRef(Frozen, frozen=True):
    """Which policy, to the byte: ``digest`` is that of the profile's canonical JSON."""

    id: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}\Z")]
    version: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    digest: Digest


class Approval(Frozen, frozen=True):
    """A person's consent to the order: who, in which role, when, and their signature if they gave one."""

    by: Name
    role: Name
    at: Timestamp
    signature: Text = ""


class Order(Frozen, frozen=True, omit_defaults=True):
    """Signed with SSHSIG in the namespace ``expunge-order`` over its canonical bytes.

    ``level`` is what the requester needs; ``allow_downgrade`` permits a weaker result to be
    accepted (it is still reported as weaker). ``issuer`` is the signer's principal.

    Of files: ``allow_exceptions`` has files overwritten (and removed) of which something named stays
    elsewhere; ``keep`` has them overwritten only. Both are left out where they are false.
    """

    format: Literal["expunge/order/v1"]
    order_id: OrderId
    machine_id: MachineId
    issuer: Name
    issued_at: Timestamp
    not_before: Timestamp
    expires: Timestamp
    requested_by: Name
    case_number: Text
    reason: Text
    level: Level
    allow_downgrade: bool
    profile: ProfileRef
    targets: Annotated[list[Target], msgspec.Meta(min_length=1, max_length=MAX_TARGETS)]
    approvals: Annotated[list[Approval], msgspec.Meta(max_length=32)]
    nonce: Nonce
    deactivate: bool = False
    """Whether what stands on a target (mounts, swap, mappings, arrays, loop devices) may be taken down first."""
    keys: KeyWish | None = None
    """For targets whose key is destroyed instead of their data."""
    allow_exceptions: bool = False
    keep: bool = False


def parse_order(data: bytes) -> Order:
    """The order in `data`. Raises DocumentError when it is truncated, edited or of another format."""
    return canonical.loads(data, Order, "order")


def order_digest(data: bytes) -> str:
    """The name an order goes by on the agent: SHA-256 of the bytes that were signed."""
    return canonical.sha256_hex(data)
