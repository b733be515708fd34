"""Targets of one order that are the same bytes: a drive and its partition, or partitions that share some."""

from __future__ import annotations

import re
from collections.abc import Sequence

from expunge_agent.protocol.identity import BlockIdentity, Identity, Target

_PART = re.compile(r"^(?P<drive>.*?)/?part[0-9]+@(?P<start>[0-9]+)$", re.DOTALL)
"""``instance`` of a partition: the drive's own, then number and first byte (`expunge_agent.devices.describe`)."""

REMEDY = "Order the drive alone, which reaches its partitions too; or the partitions without it."


def overlapping(targets: Sequence[Target]) -> str:
    """A sentence about the first target that has bytes in common with one before it; empty where none has."""
    found = (overlap_of(targets, index) for index in range(len(targets)))
    return next((text for text in found if text), "")


def overlap_of(targets: Sequence[Target | None], index: int) -> str:
    """The same of the target at `index` alone; None stands for one that is not there."""
    target = targets[index]
    for earlier, other in enumerate(targets[:index]):
        if target is not None and other is not None and (how := shared(target.identity, other.identity)):
            return f"Target {index + 1}{_at(target)} {how} target {earlier + 1}{_at(other)}."
    return ""


def shared(one: Identity, other: Identity) -> str:
    """How `one` stands to `other`: ``lies on``, ``holds``, ``shares bytes with``, or empty.

    Two whole devices are never taken for one another: several may have one serial number (the slots of a
    card reader).
    """
    if not isinstance(one, BlockIdentity) or not isinstance(other, BlockIdentity):
        return ""
    drive, start, part = _place(one)
    drive_too, start_too, part_too = _place(other)
    apart = start >= start_too + other.size or start_too >= start + one.size
    if drive != drive_too or not any(drive[2:]) or apart or not (part or part_too):
        return ""
    if part and part_too:
        return "shares bytes with"
    return "lies on" if part else "holds"


def _place(identity: BlockIdentity) -> tuple[tuple[str, ...], int, bool]:
    """The drive by what it says of itself, the first byte on it, and whether it is a partition."""
    found = _PART.match(identity.instance)
    own, start = (found["drive"], int(found["start"])) if found else (identity.instance, 0)
    return (identity.bus, identity.model, identity.serial, identity.wwn, own), start, found is not None


def _at(target: Target) -> str:
    return f" ({target.hint})" if target.hint and target.hint.isprintable() else ""
