"""What a receipt may claim of a destroyed key: never more than the conditions and copies that it lists itself.

Every function yields the problems it found, as sentences.
"""

from __future__ import annotations

from collections.abc import Iterator

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import KeyIdentity
from expunge_agent.protocol.key_rules import STATED, KeyCondition, most
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Receipt, TargetResult
from expunge_profiles.techniques import KEYS, LUKS, VAULT


def looked_at(result: TargetResult) -> bool:
    """Whether what became of a folder's or a vault's key was looked at afterwards (the kernel's status of it and the
    files below; the holder of the root key): only then is a copy called destroyed. Of LUKS the read-backs of the
    passes tell."""
    return (
        result.technique in KEYS
        and result.technique != LUKS
        and result.key is not None
        and any(one.fate == "destroyed" for one in result.key.copies)
    )


def key_problems(result: TargetResult) -> Iterator[str]:
    """Where key, technique and target tell different stories, whatever the outcome."""
    key = result.key
    if key is None:
        return
    if result.technique not in KEYS and not isinstance(result.target.identity, KeyIdentity):
        yield f"its technique is {result.technique or 'none'}, yet a key is told to be destroyed"
    known = {one.value for one in KeyCondition}
    named = [one.id for one in key.conditions]
    if result.technique in KEYS and (strange := sorted(set(named) - known)):
        yield f"it names conditions that are not known here: {', '.join(strange)}"
    if len(set(named)) < len(named):
        yield "it names a condition twice"
    if result.level_achieved is not Level.NONE and key.readable:
        yield f"it says that data can still be read, yet achieves {result.level_achieved}"
    if result.technique == LUKS and not key.overwritten and result.passes:
        yield "passes were written over a header of 0 bytes"


def success_problems(result: TargetResult) -> Iterator[str]:
    """What success by destroying a key demands: it is told, gone, and no level beyond its conditions."""
    key = result.key
    if key is None:
        yield f"{result.technique}, yet nothing is told of the key"
        return
    allowed = most(key.conditions)
    if not allowed.reaches(result.level_achieved):
        yield f"its conditions allow {allowed}, and it claims {result.level_achieved}"
    if not any(one.fate == "destroyed" for one in key.copies):
        yield "no copy of the key is told to be destroyed"
    if allowed is Level.NONE and not key.readable:
        yield "a condition is not met, yet it does not say what can still be read"


def order_problems(receipt: Receipt, order: Order) -> Iterator[str]:
    """Where a condition that takes somebody's word is called met, and nobody gave it in the order. (What is said of a
    vault stands in its own journal.)"""
    said = order.keys.statements if order.keys is not None else []
    vouched = {one.id for one in said if one.holds == "yes"} - {one.id for one in said if one.holds != "yes"}
    for number, result in enumerate(receipt.targets, start=1):
        if result.key is None or result.technique == VAULT:
            continue
        met = {one.id for one in result.key.conditions if one.holds == "yes"}
        if unsaid := sorted((met & set(STATED)) - vouched):
            yield f"target {number}: {', '.join(unsaid)} is called met, and nobody said so in the order"
