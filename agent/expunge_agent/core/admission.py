"""May this order be obeyed? Each rule once, in the order in which it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import canonical, sshsig, trust
from expunge_agent.protocol.base import MachineId, moment
from expunge_agent.protocol.order import Order, parse_order
from expunge_agent.protocol.overlap import REMEDY, overlapping
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.trust import TrustedSigner, UnknownSignerError
from expunge_profiles.schema import Profile

ASK_AGAIN = "Have the controller issue a new order."


def read_order(body: bytes, signature: bytes, signers: list[TrustedSigner]) -> Order | Refusal:
    """The order in `body` if a pinned controller signed exactly these bytes.

    1. the signature is an SSHSIG over the bytes, in the namespace of orders;
    2. its key is pinned for orders;
    3. the bytes are an order of this format;
    4. the signer is the issuer that the order names.
    """
    try:
        signer = trust.verify(signers, sshsig.ORDER_NAMESPACE, body, signature)
    except UnknownSignerError as error:
        return Refusal(reason=Reason.UNKNOWN_SIGNER, detail=error.message, remedy=error.remedy)
    except VerificationError as error:
        return Refusal(reason=Reason.BAD_SIGNATURE, detail=error.message, remedy=ASK_AGAIN)
    try:
        order = parse_order(body)
        if body != canonical.dumps(order):
            raise DocumentError("The order is not in its canonical form.", ASK_AGAIN)
        if len({canonical.dumps(target.identity) for target in order.targets}) < len(order.targets):
            raise DocumentError("The order names a target twice.", ASK_AGAIN)
        for text in (order.issued_at, order.not_before, order.expires):
            moment(text)
    except DocumentError as error:
        return Refusal(reason=Reason.MALFORMED_ORDER, detail=error.message, remedy=error.remedy)
    if order.issuer != signer.principal:
        return Refusal(
            reason=Reason.UNKNOWN_SIGNER,
            detail=f"The order names {order.issuer} as its issuer, but {signer.principal} signed it.",
            remedy=ASK_AGAIN,
        )
    return order


def own_signer(principal: str, public_line: str) -> TrustedSigner:
    """The agent itself, whose orders to itself (``expunge-agent wipe``, without a controller) count too."""
    return TrustedSigner(principal=principal, namespaces=(sshsig.ORDER_NAMESPACE,), public_line=public_line)


def check_order(order: Order, machine_id: MachineId, now: datetime, fresh: bool) -> Refusal | None:
    """Whether a genuine order is meant for this machine, now, and for the first time, and can be carried out.

    `fresh` is False when its nonce or its id came with other bytes before.
    """
    if order.machine_id != machine_id:
        return Refusal(
            reason=Reason.WRONG_MACHINE,
            detail=f"The order is for machine {order.machine_id}, this is {machine_id}.",
            remedy="Send it to the machine it names.",
        )
    if not fresh:
        return Refusal(
            reason=Reason.REPLAYED,
            detail="Its nonce or its order id was used by another order before.",
            remedy=ASK_AGAIN,
        )
    if now < moment(order.not_before):
        return Refusal(
            reason=Reason.NOT_YET_VALID,
            detail=f"The order is valid from {order.not_before}.",
            remedy="Check this machine's clock, or have the controller issue a new order.",
        )
    if now >= moment(order.expires):
        return Refusal(
            reason=Reason.EXPIRED,
            detail=f"The order expired at {order.expires}.",
            remedy="Check this machine's clock, or have the controller issue a new order.",
        )
    if text := overlapping(order.targets):
        return Refusal(reason=Reason.OVERLAPPING_TARGETS, detail=text[:4000], remedy=REMEDY)
    return None


def find_profile(order: Order, profiles: Mapping[str, Profile]) -> Profile | Refusal:
    """The very policy the order means: same id, version and digest."""
    profile = profiles.get(order.profile.id)
    if profile is not None and (profile.version, profile.digest) == (
        order.profile.version,
        order.profile.digest,
    ):
        return profile
    if profile is None:
        detail = f"This agent has no profile {order.profile.id!r}."
    else:
        detail = (
            f"This agent's profile {profile.id} is version {profile.version} ({profile.digest[:12]}…), "
            f"the order means version {order.profile.version} ({order.profile.digest[:12]}…)."
        )
    return Refusal(
        reason=Reason.UNKNOWN_PROFILE,
        detail=detail,
        remedy="Bring agent and controller to the same release, or install the custom profile on both.",
    )
