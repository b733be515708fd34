"""Conditions as they are found: stated in the order, or seen. What is seen outweighs what is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from expunge_agent.core.guard import listing
from expunge_agent.protocol.key_rules import KeyCondition
from expunge_agent.protocol.order_keys import KeyStatement
from expunge_agent.protocol.receipt_keys import Condition, Holds

BITS = 128
"""The least strength of a key (NIST SP 800-88 Rev. 2, cryptographic erase)."""


_WORST_FIRST: tuple[Holds, ...] = ("no", "unknown", "yes")


def condition(which: KeyCondition, holds: Holds, why: str) -> Condition:
    """One condition as the receipt has it."""
    return Condition(id=which.value, holds=holds, why=why[:4000])


def stated(which: KeyCondition, statements: Iterable[KeyStatement]) -> Condition:
    """What the order says of it, the worst of several words; unknown where nobody said anything."""
    said = [each for each in statements if each.id == which.value]
    one = min(said, key=lambda each: _WORST_FIRST.index(each.holds), default=None)
    if one is None:
        return condition(which, "unknown", "Nobody said anything of it in the order.")
    return condition(which, one.holds, f"Stated by {one.said_by}; it was not checked.")


def refuted(said: Condition, found: Sequence[str]) -> Condition:
    """`said`, unless something `found` shows the contrary."""
    if not found:
        return said
    return condition(KeyCondition(said.id), "no", f"Found: {listing(found)}.")


def looked_for(said: Condition, searched: Sequence[str]) -> Condition:
    """`said`, with where was looked in vain."""
    if said.holds == "no" or not searched:
        return said
    return condition(
        KeyCondition(said.id), said.holds, f"{said.why} Looked for in {listing(searched)}: none found."
    )


def lacking(conditions: Iterable[Condition]) -> str:
    """The conditions that are not met, in a sentence's part; empty where all are."""
    return "; ".join(
        f"{one.id} is {one.holds} ({one.why.rstrip('.')})" for one in conditions if one.holds != "yes"
    )
