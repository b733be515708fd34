"""Whether a receipt tells of a volume, and of what was taken down for it, without contradicting itself.

Every function returns the problems it found, as sentences; an empty list is the good case.
"""

from __future__ import annotations

from collections.abc import Iterator

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import BlockIdentity, differences
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Receipt, TargetResult
from expunge_agent.protocol.receipt_steps import MAX_MEMBERS, MAX_STEPS

VOLUMES = ("lvm", "md", "dm-crypt")
"""Buses of identities that always lie on something else; a plain mapping may lie on nothing."""
DOWN = ("done", "gone")
STEPS = (
    "unmount", "swapoff", "close-crypt", "deactivate-lv", "stop-md", "detach-loop", "remove-map", "flush-multipath",
    "stop-bcache", "stop-bcache-set",
)  # fmt: skip
"""The kinds of steps that an agent takes (docs/volumes.md)."""


def volume_problems(result: TargetResult, written: bool) -> Iterator[str]:
    """`written`: whether the receipt says that data was changed."""
    identity = result.target.identity
    if len(result.members) > MAX_MEMBERS or len(result.deactivated) > MAX_STEPS:
        yield "it lists more members or steps than an agent does"
    if isinstance(identity, BlockIdentity) and identity.bus in VOLUMES:
        if written and not result.members:
            yield f"a volume ({identity.bus}) was written, and what it lies on is not named"
        if result.level_achieved is Level.PURGE:
            yield f"a volume ({identity.bus}) cannot achieve purge: its members were not reached as drives"
    for member in result.members:
        if member.depth < 1:
            yield f"{member.path} is named as a member at depth {member.depth}"
        if not differences(identity, member.identity):
            yield f"{member.path} is named as a member of itself"
    yield from _steps(result, written)


def _steps(result: TargetResult, written: bool) -> Iterator[str]:
    last: dict[tuple[str, str], str] = {}
    for number, step in enumerate(result.deactivated, start=1):
        if step.what not in STEPS:
            yield f"step {number} is of a kind that is not known ({step.what})"
        if step.ended == "failed" and not step.said:
            yield f"step {number} failed without a reason"
        last[step.what, step.on] = step.ended
    standing = [f"{what} {on}" for (what, on), ended in last.items() if ended not in DOWN]
    if written and standing:
        yield f"data was written while this still stood on the target: {'; '.join(standing[:8])}"


def order_problems(receipt: Receipt, order: Order) -> Iterator[str]:
    """Where an agent took down what the order does not let it take down."""
    if order.deactivate:
        return
    for number, result in enumerate(receipt.targets, start=1):
        if result.deactivated:
            yield f"it took down what stood on target {number}, which the order does not allow"
