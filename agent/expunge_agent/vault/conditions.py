"""What a shredding may claim: the conditions of cryptographic erase, each with how it is known. Pure.

NIST SP 800-88 Rev. 2 (cryptographic erase): a validated module; keys of 128 bits at least, with as much
entropy; nothing ever stored in plaintext; every copy of the key within reach; no backup, no escrow. What is
not known is not claimed. The ids are those of all key targets (`protocol.receipt_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.key_rules import KeyCondition, met_for
from expunge_agent.protocol.receipt_keys import Condition, Holds
from expunge_agent.vault.story import UNSAID, Story

STATED = {
    "validated-module": "the module that sealed data and keys is validated (FIPS 140-3)",
    "no-key-in-memory": "where memory could not be locked: swap is encrypted by a key that is gone",
    "no-header-backup": "no copy of the root key, nor of those before it, was ever kept: of its file, of what the device holds, of the host's memory",
    "no-escrow": "nobody else was given the root key, or one before it",
}
"""What nobody can see from this machine: somebody has to say so (`expunge-agent vault note`)."""
ORDER = tuple(one.value for one in KeyCondition)

OF_ROOTS = ("no-header-backup", "no-escrow")
"""Those that are said of root keys, and expire with them."""


def conditions(
    story: Story, key: str, root: str, *, beyond: bool, doubts: Sequence[str] = ()
) -> list[Condition]:
    """All conditions in their order, for `key` and the last root key that wrapped it. `doubts`: why one of
    its root keys may still be there."""
    found: dict[str, tuple[Holds, str]] = {
        "key-strength": ("yes", "AES-256-GCM under keys of 256 bits"),
        "key-entropy": ("yes", "drawn from the system's generator (getrandom(2)), or by the token"),
        "always-encrypted": _always_encrypted(story, key),
        "keys-in-reach": _in_reach(doubts, beyond=beyond),
        "no-key-in-memory": ("unknown", story.swappable)
        if story.swappable
        else (
            "yes",
            "nobody held the vault; key work ran in processes that have ended, locked or without swap",
        ),
        "validated-module": ("unknown", "nobody said so"),
        "no-header-backup": (
            "unknown",
            "a copy of the root key would open what it wraps; nobody said there is none",
        ),
        "no-escrow": ("unknown", "nobody said so"),
    }
    for name in ORDER:
        one, covers = story.last_word(name, root)
        if one is None:
            continue
        if name in STATED or (
            found[name][0] == "yes" and one.holds != "yes"
        ):  # what is seen, only for the worse
            by = f"said by {one.by} at {one.at}: {one.why}"
            expired = f"the root key was replaced since; of the one before it was {by}"
            found[name] = (one.holds, by) if covers or name not in OF_ROOTS else ("unknown", expired)
    return [Condition(id=name, holds=found[name][0], why=found[name][1][:4000]) for name in ORDER]


def lacking(found: list[Condition], level: Level) -> str:
    """The conditions that stand against `level`, in words."""
    counted: Mapping[str, Condition] = {one.id: one for one in found if one.holds != "yes"}
    names = [name for name, one in counted.items() if not met_for(one, level)]
    return "; ".join(f"{name} is {counted[name].holds}: {counted[name].why}" for name in names)


def _always_encrypted(story: Story, key: str) -> tuple[Holds, str]:
    plaintexts = story.plaintexts(key)
    if any(one.where != UNSAID for one in plaintexts):
        return "no", f"{len(plaintexts)} times plaintext was given out; see what can still be read"
    if plaintexts:
        return "unknown", f"{len(plaintexts)} times plaintext was given out; where was not to be recorded"
    if story.gaps:
        return "unknown", f"what was given out is not known: {'; '.join(story.gaps)}"
    return "yes", "the vault writes ciphertext only; where its data came from is not part of it"


def _in_reach(doubts: Sequence[str], *, beyond: bool) -> tuple[Holds, str]:
    if doubts:
        return "unknown", "; ".join(doubts)
    if beyond:
        return "yes", "its root keys were in a device that keeps keys itself"
    return (
        "unknown",
        "the root key lay in files: to overwrite them is logical, their medium may keep old places",
    )
