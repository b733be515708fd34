"""Free space as an inventory lists it."""

from __future__ import annotations

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.space import SUPPORTED, Space, space_refusal
from expunge_agent.devices.space import PREFIX, look_at_space
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import SpaceWish
from expunge_agent.protocol.receipt import Reason, Refusal


def space_item(text: str, system: SystemPaths, *, runs_orders: bool = True) -> wire.InventoryItem | Refusal:
    """What ``free-space:MOUNTPOINT`` is on this machine; a Refusal where it is no free space at all.

    `runs_orders` is false where this user only answers for root, whose rights are not his.
    """
    seen = look_at_space(text.removeprefix(PREFIX), system)
    if isinstance(seen, Refusal):
        return seen
    refusal = space_refusal(None, seen, SpaceWish(), system)
    if refusal is not None and not _is_one(seen):
        return refusal
    ours = refusal is not None and (
        runs_orders or refusal.reason not in (Reason.NOT_PERMITTED, Reason.READ_ONLY)
    )
    return wire.InventoryItem(
        identity=seen.identity,
        path=text,
        type=seen.type.value,
        firmware="",
        logical_sector=-1,
        physical_sector=-1,
        blocked=[refusal.detail] if refusal is not None and ours else [],
        notes=[f"{seen.free} of {seen.size} bytes free, {seen.available} for ordinary users", *seen.notes],
    )


def _is_one(seen: Space) -> bool:
    """Whether it is a mount point of a file system that can be filled, by the name it was given."""
    return not seen.symlinks and not seen.belongs_to and seen.identity.filesystem in SUPPORTED
