"""What a shredding may claim: the conditions of cryptographic erase, each with how it is known. Pure.

NIST SP 800-88 Rev. 2 (cryptographic erase): a validated module; keys of 128 bits at least, with as much
entropy; nothing ever stored in plaintext; every copy of the key within reach; no backup, no escrow. What is
not known is not claimed. The conditions are those of all key targets (`protocol.key_rules`).
"""

from __future__ import annotations

from collections.abc import Mapping

from expunge_agent.core.key_conditions import condition
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.key_rules import KeyCondition, met_for
from expunge_agent.protocol.receipt_keys import Condition, Holds
from expunge_agent.vault.story import Export, Gone, Statement

STATED = {
    KeyCondition.VALIDATED_MODULE: "the module that sealed data and keys is validated (FIPS 140-3)",
    KeyCondition.NO_BACKUP: "no copy of the root key was ever kept: of its file, of the token, of the host's memory",
    KeyCondition.NO_ESCROW: "nobody else was given the root key",
}
"""What nobody can see from this machine: somebody has to say so (`expunge-agent vault note`)."""


def conditions(
    *,
    lets_no_copy_out: bool,
    beyond: bool,
    gone: Gone | None,
    plaintexts: list[Export],
    said: list[Statement],
) -> list[Condition]:
    """All of `KeyCondition`, in that order. `gone` is None before the shredding: what will be seen is taken as seen."""
    newest = {one.id: one for one in said}
    found: dict[KeyCondition, tuple[Holds, str]] = {
        KeyCondition.KEY_STRENGTH: ("yes", "AES-256-GCM under keys of 256 bits"),
        KeyCondition.KEY_ENTROPY: (
            "yes",
            "drawn from the system's generator (getrandom(2)), or by the token",
        ),
        KeyCondition.ALWAYS_ENCRYPTED: _always_encrypted(plaintexts),
        KeyCondition.KEYS_IN_REACH: _in_reach(beyond, gone),
        KeyCondition.NO_KEY_IN_MEMORY: (
            "yes",
            "nobody held the vault; key work ran in a process that has ended",
        ),
        KeyCondition.VALIDATED_MODULE: ("unknown", "nobody said so"),
        KeyCondition.NO_BACKUP: (
            "unknown",
            "a copy of the root key would open what it wraps; nobody said there is none",
        ),
        KeyCondition.NO_ESCROW: ("unknown", "nobody said so"),
    }
    if lets_no_copy_out:
        found[KeyCondition.NO_BACKUP] = ("yes", "the holder lets no copy of a root key out")
        found[KeyCondition.NO_ESCROW] = ("yes", "the holder lets no copy of a root key out")
    for name in STATED:
        if name in newest:
            one = newest[name]
            found[name] = (one.holds, f"said by {one.by} at {one.at}: {one.why}")
    return [condition(which, *found[which]) for which in KeyCondition]


def lacking(found: list[Condition], level: Level) -> str:
    """The conditions that stand against `level`, in words."""
    counted: Mapping[str, Condition] = {one.id: one for one in found if one.holds != "yes"}
    names = [name for name, one in counted.items() if not met_for(one, level)]
    return "; ".join(f"{name} is {counted[name].holds}: {counted[name].why}" for name in names)


def _always_encrypted(plaintexts: list[Export]) -> tuple[Holds, str]:
    if plaintexts:
        return "no", f"{len(plaintexts)} times plaintext was given out; see what can still be read"
    return "yes", "the vault writes ciphertext only; where its data came from is not part of it"


def _in_reach(beyond: bool, gone: Gone | None) -> tuple[Holds, str]:
    if gone is not None and gone.doubts:
        return "unknown", "; ".join(gone.doubts)
    if beyond:
        return "yes", "one root key, in a device that keeps keys itself"
    return (
        "unknown",
        "the root key lay in files: to overwrite them is logical, their medium may keep old places",
    )
