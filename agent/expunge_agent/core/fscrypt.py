"""File-system encryption of Linux (fscrypt): policies, what the fscrypt tool stores of them, the case of one key.

Sources: Documentation/filesystems/fscrypt.rst and include/uapi/linux/fscrypt.h of Linux; metadata/metadata.proto of
the fscrypt tool (github.com/google/fscrypt), of which only the fields needed are read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from expunge_agent.core.guard import listing
from expunge_agent.core.key_conditions import BITS, condition, lacking, looked_for, refuted, stated
from expunge_agent.protocol.base import Frozen, Level, Name, Text
from expunge_agent.protocol.key_rules import KeyCondition, lesser, most
from expunge_agent.protocol.order_keys import KeyStatement
from expunge_agent.protocol.receipt_keys import Condition, KeyCopy

RAW_KEY = "a file with the raw key"
STORED_COPY = "a copy of the policy that the fscrypt tool stores"
POLICY, PROTECTOR = "the stored policy, which wraps the key", "a protector of this key alone"
SHARED = "a protector of other keys too"
ELSEWHERE = "the same key, unwrapped"
PROVISIONED = "a raw key of type fscrypt-provisioning, perhaps this one"
UNSEEN = "perhaps a stored policy and its protectors"
_POLICY_V2 = struct.Struct("<BBBBB3x16s")
_POLICY_V1 = struct.Struct("<BBBB8s")
_STRENGTH = {1: 256, 5: 128, 7: 128, 9: 256}
"""Bits of FSCRYPT_MODE_AES_256_XTS, AES_128_CBC, SM4_XTS, ADIANTUM."""
_CONTENTS = {1: "AES-256-XTS", 5: "AES-128-CBC-ESSIV", 7: "SM4-XTS", 9: "Adiantum"}


class Policy(Frozen, frozen=True):
    """A folder's policy: ``version`` 1 or 2, ``key`` its identifier (v2) or descriptor (v1) in hexadecimal."""

    version: int
    key: Name
    contents: int

    @property
    def cipher(self) -> str:
        """How contents are encrypted, in a word."""
        return _CONTENTS.get(self.contents, f"mode {self.contents}")


class Removal(Frozen, frozen=True):
    """What the kernel said: status before and after (FSCRYPT_KEY_STATUS: 1 absent, 2 present, 3 incompletely removed) and the
    flags of the removal (1: files were busy, 2: other users had added it)."""

    before: int
    after: int
    flags: int
    error: Text = ""

    @property
    def complete(self) -> bool:
        """Whether the key has gone: absent, with no flag."""
        return self.after == 1 and self.flags == 0 and not self.error


class FscryptCase(Frozen, frozen=True):
    """A folder whose key is to go. ``stored``: what the fscrypt tool keeps of it, by path and kind."""

    policy: Policy
    conditions: list[Condition]
    stored: list[KeyCopy]
    copies: list[KeyCopy]

    @property
    def level(self) -> Level:
        """The most that it earns: never purge, as stored keys are files, which are overwritten in place at best."""
        return lesser(Level.CLEAR, most(self.conditions))

    @property
    def lacking(self) -> str:
        """The conditions that are not met; empty where all are."""
        return lacking(self.conditions)


def parse_policy(raw: bytes) -> Policy:
    """The union fscrypt_policy as the kernel returns it. Raises ValueError for a version that is not known."""
    if raw[:1] == b"\2" and len(raw) >= _POLICY_V2.size:
        _, contents, _, _, _, key = _POLICY_V2.unpack_from(raw)
    elif raw[:1] == b"\0" and len(raw) >= _POLICY_V1.size:
        _, contents, _, _, key = _POLICY_V1.unpack_from(raw)
    else:
        raise ValueError(f"an fscrypt policy of version {raw[:1].hex() or 'none'}")
    return Policy(version=2 if raw[0] else 1, key=key.hex(), contents=contents)


def protectors_of(policy_file: bytes) -> list[str]:
    """The descriptors of the protectors that a stored policy names (PolicyData: wrapped_policy_keys, field 3; in each
    protector_descriptor, field 1). Raises ValueError for what is no such file, or was cut."""
    found = []
    try:
        for number, value in _fields(policy_file):
            if number == 3:
                found += [each.decode("ascii") for inner, each in _fields(value) if inner == 1]
    except IndexError as error:
        raise ValueError("it ends too early") from error
    if not found or not all(one.isalnum() for one in found):
        raise ValueError("it names no protector")
    return found


def fscrypt_case(
    policy: Policy,
    stored: Sequence[KeyCopy],
    found: Sequence[KeyCopy],
    searched: Sequence[str],
    statements: Sequence[KeyStatement],
) -> FscryptCase:
    """The case; `found` are copies of raw key or stored policy seen in the folders `searched`, and those the kernel holds
    elsewhere."""
    raw = [one.where for one in found if one.what == RAW_KEY]
    copies = [one.where for one in found if one.what == STORED_COPY]
    no_backup = refuted(stated(KeyCondition.NO_BACKUP, statements), copies)
    conditions = [
        stated(KeyCondition.VALIDATED_MODULE, statements),
        _strength(policy),
        stated(KeyCondition.KEY_ENTROPY, statements),
        stated(KeyCondition.ALWAYS_ENCRYPTED, statements),
        _in_reach(stored),
        _in_memory(found, stated(KeyCondition.NO_KEY_IN_MEMORY, statements)),
        looked_for(no_backup, searched),
        looked_for(refuted(stated(KeyCondition.NO_ESCROW, statements), raw), searched),
    ]
    return FscryptCase(policy=policy, conditions=conditions, stored=list(stored), copies=list(found))


def readable_after(case: FscryptCase, trouble: str) -> list[str]:
    """What can still be read, and by whom; empty where nothing is known that could."""
    holds = {one.id: one.holds for one in case.conditions}
    said = [trouble] if trouble else []
    said += [
        f"Everything, by whoever has {one.where}: {one.what}."
        for one in case.copies
        if one.fate != "destroyed"
    ]
    asked = {
        KeyCondition.NO_BACKUP: "Everything, by whoever has a backup of the stored policy and a way past its protector",
        KeyCondition.NO_ESCROW: "Everything, by whoever adds the raw key again, from wherever it was kept",
        KeyCondition.ALWAYS_ENCRYPTED: "What was stored outside the folder, without encryption, before it came into it",
        KeyCondition.NO_KEY_IN_MEMORY: "Everything, by whoever gets the key from memory that was written out or a keyring",
        KeyCondition.KEY_STRENGTH: "Perhaps everything, by whoever can find the key by trying",
    }
    said += [
        f"{what}: that this cannot be is {'not true' if holds[one] == 'no' else 'not known'} ({one})."
        for one, what in asked.items()
        if holds[one] != "yes"
    ]
    if holds[KeyCondition.KEY_ENTROPY] == "no":
        said.append("Perhaps everything: the key was made with too little entropy.")
    return [one[:4000] for one in said]


def busy(holders: Sequence[str]) -> str:
    """Why the folder stays readable while files of it are open, in a sentence."""
    who = f" by {listing(holders)}" if holders else ""
    return f"Files of the folder are open{who}: the kernel keeps them readable until they are closed."


def _strength(policy: Policy) -> Condition:
    bits = _STRENGTH.get(policy.contents, -1)
    told = f"Contents are encrypted with {policy.cipher}, by the policy"
    if bits < 0:
        return condition(KeyCondition.KEY_STRENGTH, "unknown", f"{told}: its strength is not known here.")
    return condition(KeyCondition.KEY_STRENGTH, "yes" if bits >= BITS else "no", f"{told}: {bits} bits.")


def _in_memory(found: Sequence[KeyCopy], said: Condition) -> Condition:
    said = refuted(said, [one.where for one in found if one.what == ELSEWHERE])
    perhaps = [one.where for one in found if one.what == PROVISIONED]
    if said.holds != "yes" or not perhaps:
        return said
    return condition(
        KeyCondition.NO_KEY_IN_MEMORY, "unknown", f"It may be this key that is kept as {listing(perhaps)}."
    )


def _in_reach(stored: Sequence[KeyCopy]) -> Condition:
    if unseen := [f"{one.where}: {one.detail}" for one in stored if one.what == UNSEEN]:
        return condition(
            KeyCondition.KEYS_IN_REACH, "no", f"What may be stored there cannot be reached: {listing(unseen)}"
        )
    return condition(
        KeyCondition.KEYS_IN_REACH,
        "unknown",
        "What stores the key are files: earlier places of them may be out of reach, on flash in any case.",
    )


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, value) of the length-delimited fields of a protocol-buffer message; others are passed over.

    Raises ValueError or IndexError for what is none.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field beyond the end")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number that is too long")
