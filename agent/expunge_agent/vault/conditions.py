"""What a shredding may claim: the conditions of cryptographic erase, each with how it is known. Pure.

NIST SP 800-88 Rev. 2 (cryptographic erase): a validated module; keys of 128 bits at least, with as much
entropy; nothing ever stored in plaintext; every copy of the key within reach; no backup, no escrow. What is
not known is not claimed. The ids are those of all key targets (`protocol.receipt_keys`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from expunge_agent.protocol.base import Level
from expunge_agent.protocol.key_rules import met_for
from expunge_agent.protocol.receipt_keys import Condition
from expunge_agent.vault.story import Export, Gone, Statement

Holds = Literal["yes", "no", "unknown"]

STATED = {
    "validated-module": "the module that sealed data and keys is validated (FIPS 140-3)",
    "no-header-backup": "no copy of the root key was ever kept: of its file, of the token, of the host's memory",
    "no-escrow": "nobody else was given the root key",
}
"""What nobody can see from this machine: somebody has to say so (`expunge-agent vault note`)."""
ORDER = (
    "validated-module",
    "key-strength",
    "key-entropy",
    "always-encrypted",
    "keys-in-reach",
    "no-key-in-memory",
    "no-header-backup",
    "no-escrow",
)


def conditions(
    *,
    lets_no_copy_out: bool,
    beyond: bool,
    gone: Gone | None,
    plaintexts: list[Export],
    said: list[Statement],
) -> list[Condition]:
    """All conditions in their order. `gone` is None before the shredding: what will be seen is taken as seen."""
    newest = {one.id: one for one in said}
    found: dict[str, tuple[Holds, str]] = {
        "key-strength": ("yes", "AES-256-GCM under keys of 256 bits"),
        "key-entropy": ("yes", "drawn from the system's generator (getrandom(2)), or by the token"),
        "always-encrypted": _always_encrypted(plaintexts),
        "keys-in-reach": _in_reach(beyond, gone),
        "no-key-in-memory": ("yes", "nobody held the vault; key work ran in a process that has ended"),
        "validated-module": ("unknown", "nobody said so"),
        "no-header-backup": (
            "unknown",
            "a copy of the root key would open what it wraps; nobody said there is none",
        ),
        "no-escrow": ("unknown", "nobody said so"),
    }
    if lets_no_copy_out:
        found["no-header-backup"] = ("yes", "the holder lets no copy of a root key out")
        found["no-escrow"] = ("yes", "the holder lets no copy of a root key out")
    for name in STATED:
        if name in newest:
            one = newest[name]
            found[name] = (one.holds, f"said by {one.by} at {one.at}: {one.why}")
    return [Condition(id=name, holds=found[name][0], why=found[name][1][:4000]) for name in ORDER]


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
