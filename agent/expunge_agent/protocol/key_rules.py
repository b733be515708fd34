"""The conditions under which destroying a key counts for the data, and what they allow to be claimed.

NIST SP 800-88 Rev. 2 (cryptographic erase): a validated module; a key of 128 bits at least, with as much
entropy; nothing ever stored in plaintext; every copy of the key within reach, unwrapped ones in memory
included; no backup and no escrow. What is not known is not claimed (ADR 0024).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.receipt_keys import Condition


class KeyCondition(StrEnum):
    """Every condition that is asked. The list is closed."""

    VALIDATED_MODULE = "validated-module"
    KEY_STRENGTH = "key-strength"
    KEY_ENTROPY = "key-entropy"
    ALWAYS_ENCRYPTED = "always-encrypted"
    KEYS_IN_REACH = "keys-in-reach"
    NO_KEY_IN_MEMORY = "no-key-in-memory"
    NO_BACKUP = "no-header-backup"
    NO_ESCROW = "no-escrow"


STATED = (
    KeyCondition.VALIDATED_MODULE,
    KeyCondition.KEY_ENTROPY,
    KeyCondition.ALWAYS_ENCRYPTED,
    KeyCondition.NO_KEY_IN_MEMORY,
    KeyCondition.NO_BACKUP,
    KeyCondition.NO_ESCROW,
)
"""Those that nobody can see from the machine alone: somebody has to say so, in the order. The others are seen."""

_LABORATORY = {
    KeyCondition.VALIDATED_MODULE: ("unknown", "no"),
    KeyCondition.KEYS_IN_REACH: ("unknown",),
    KeyCondition.KEY_ENTROPY: ("unknown",),
}
"""What stands against Purge, and not against Clear: that a module's mistake, cells that the host cannot address, or a
poor generator gives the key away is beyond simple, non-invasive recovery (NIST SP 800-88 Rev. 2, Clear)."""


def most(conditions: Iterable[Condition]) -> Level:
    """The most that destroying the key earns under `conditions`; one that is missing counts as unknown."""
    holds = {one.id: one.holds for one in conditions}
    lacking = {one: holds.get(one, "unknown") for one in KeyCondition}
    lacking = {one: how for one, how in lacking.items() if how != "yes"}
    if not lacking:
        return Level.PURGE
    if all(how in _LABORATORY.get(one, ()) for one, how in lacking.items()):
        return Level.CLEAR
    return Level.NONE


def met_for(one: Condition, level: Level) -> bool:
    """Whether this condition, as it stands, allows `level` to be claimed."""
    if one.holds == "yes" or level is Level.NONE:
        return True
    return level is Level.CLEAR and one.holds in _LABORATORY.get(KeyCondition(one.id), ())


def lesser(one: Level, other: Level) -> Level:
    """The lower of two levels."""
    return other if one.reaches(other) else one
