"""Orders that a machine gives itself: ``expunge-agent wipe`` without a controller."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from msgspec.structs import replace

from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.base import Level, timestamp
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.order import Order, ProfileRef
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.signing import signer_or_new
from expunge_agent.state import State
from expunge_profiles.schema import Profile

VALID_FOR = timedelta(hours=24)


@dataclass(frozen=True)
class Wish:
    """What the person at the machine wants, and what the receipt is to say of it."""

    profile: Profile
    level: Level
    allow_downgrade: bool
    requested_by: str
    case_number: str
    reason: str
    deactivate: bool = False
    keys: KeyWish | None = None
    allow_exceptions: bool = False
    keep: bool = False


def local_order(state: State, targets: Sequence[Target], wish: Wish, now: datetime) -> Order:
    """An order by this agent to itself; the receipt names the agent as its issuer, so it shows."""
    profile = wish.profile
    return Order(
        format="expunge/order/v1",
        order_id=f"local-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        machine_id=state.machine_id,
        issuer=state.principal,
        issued_at=timestamp(now),
        not_before=timestamp(now),
        expires=timestamp(now + VALID_FOR),
        requested_by=wish.requested_by,
        case_number=wish.case_number,
        reason=wish.reason,
        level=wish.level,
        allow_downgrade=wish.allow_downgrade,
        profile=ProfileRef(id=profile.id, version=profile.version, digest=profile.digest),
        targets=list(targets),
        approvals=[],
        nonce=secrets.token_hex(16),
        deactivate=wish.deactivate,
        keys=wish.keys,
        allow_exceptions=wish.allow_exceptions,
        keep=wish.keep,
    )


def never_valid(order: Order) -> Order:
    """`order`, to be refused and nothing else: whoever finds it later finds it expired."""
    return replace(order, expires=order.not_before)


def hand_in(state: State, order: Order) -> str:
    """Sign the order with the agent's own key and spool it; returns its digest."""
    body = canonical.dumps(order)
    signature = sshsig.sign(signer_or_new(state.root), sshsig.ORDER_NAMESPACE, body)
    digest = canonical.sha256_hex(body)
    state.spool(digest, body, signature)
    return digest
