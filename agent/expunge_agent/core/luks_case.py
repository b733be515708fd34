"""One LUKS volume whose keys are to be destroyed: what is known of it, and which conditions hold.

What can be seen is seen; the rest is asked for in the order, and unknown where nobody said anything. What the
machine sees outweighs what somebody says.
"""

from __future__ import annotations

from collections.abc import Sequence

from expunge_agent.core.key_conditions import BITS, condition, lacking, looked_for, refuted, stated
from expunge_agent.core.luks import LuksHeader
from expunge_agent.core.luks_data import bare
from expunge_agent.core.medium import MediumType
from expunge_agent.protocol.base import Frozen, Level
from expunge_agent.protocol.identity import FileIdentity
from expunge_agent.protocol.key_rules import KeyCondition, most
from expunge_agent.protocol.order_keys import KeyStatement
from expunge_agent.protocol.receipt_keys import Condition, KeyCopy

HEADER_COPY = "a LUKS header with the same UUID"
IN_KEYRING = "an entry of the kernel's keyring"
_KNOWN_CIPHERS = (
    "aes",
    "serpent",
    "twofish",
    "camellia",
    "aria",
    "sm4",
    "capi:xts(aes)",
    "capi:xts(serpent)",
)
_TOKENS = {
    "systemd-tpm2": "a passphrase sealed by the TPM of the machine that made it",
    "systemd-fido2": "a passphrase derived by a FIDO2 token",
    "systemd-pkcs11": "a passphrase encrypted to a PKCS#11 token or smart card",
    "systemd-recovery": "a recovery key, which was printed or shown to somebody",
    "clevis": "a passphrase that a Clevis pin (TPM, Tang server) gives back",
    "luks2-keyring": "a passphrase in a keyring of the kernel",
}


class LuksCase(Frozen, frozen=True):
    """``header`` stands on the target, or in the file ``header_file``. ``copies``: what else was found that holds the
    key or helps to it, besides the header itself."""

    header: LuksHeader
    conditions: list[Condition]
    copies: list[KeyCopy]
    header_file: FileIdentity | None = None

    @property
    def level(self) -> Level:
        """The most that the conditions allow."""
        return most(self.conditions)

    @property
    def lacking(self) -> str:
        """The conditions that are not met, in a sentence's part; empty where all are."""
        return lacking(self.conditions)


def luks_case(
    header: LuksHeader,
    medium: MediumType,
    found: Sequence[KeyCopy],
    searched: Sequence[str],
    statements: Sequence[KeyStatement],
    header_file: FileIdentity | None = None,
    *,
    size: int,
) -> LuksCase:
    """The case of `header` on a medium of this type; `found` are copies seen elsewhere, `searched` where was looked,
    `size` the bytes of what bears the data."""
    backups = [one.where for one in found if one.what == HEADER_COPY]
    held = [one.where for one in found if one.what == IN_KEYRING]
    no_backup = refuted(stated(KeyCondition.NO_BACKUP, statements), backups)
    conditions = [
        stated(KeyCondition.VALIDATED_MODULE, statements),
        _strength(header),
        stated(KeyCondition.KEY_ENTROPY, statements),
        _always_encrypted(
            header, _open_places(header, header_file, size), stated(KeyCondition.ALWAYS_ENCRYPTED, statements)
        ),
        _in_reach(header, medium),
        refuted(stated(KeyCondition.NO_KEY_IN_MEMORY, statements), held),
        looked_for(no_backup, searched),
        stated(KeyCondition.NO_ESCROW, statements),
    ]
    return LuksCase(
        header=header, conditions=conditions, copies=[*_tokens(header), *found], header_file=header_file
    )


def _strength(header: LuksHeader) -> Condition:
    which, bits = KeyCondition.KEY_STRENGTH, header.strength
    told = f"{header.cipher or 'no cipher of the host'}, {header.key_bits} bits of key"
    if "hw-opal" in header.segments:
        return condition(which, "unknown", "The drive encrypts by itself; how cannot be seen.")
    if bits < 0:
        return condition(
            which, "unknown", f"{header.cipher}: no keyslot is left that tells the key's length."
        )
    if bits < BITS:
        return condition(which, "no", f"{told}: {bits} bits of strength.")
    if not all(one.startswith(_KNOWN_CIPHERS) for one in header.cipher.split(", ")):
        return condition(which, "unknown", f"{told}: the strength of this cipher is not known here.")
    return condition(which, "yes", f"{told}: {bits} bits of strength, by the header.")


def _open_places(header: LuksHeader, header_file: FileIdentity | None, size: int) -> list[tuple[int, int]]:
    """What of the medium is neither encrypted nor part of the header that is overwritten."""
    return bare(header.encrypted, 0 if header_file is not None else int(header.area), size)


def _always_encrypted(header: LuksHeader, places: list[tuple[int, int]], said: Condition) -> Condition:
    which = KeyCondition.ALWAYS_ENCRYPTED
    if "linear" in header.segments:
        return condition(
            which, "no", "The header lists areas that are not encrypted (an encryption under way)."
        )
    if "null" in header.cipher:
        return condition(which, "no", f"The cipher is {header.cipher}: nothing is encrypted.")
    if places and said.holds != "no":
        told = ", ".join(f"{start} to {end}" for start, end in places[:8])
        why = f"By its header it does not encrypt all of the medium: bytes {told} are outside; what they hold stays."
        return condition(which, "unknown", why)
    return said


def _in_reach(header: LuksHeader, medium: MediumType) -> Condition:
    which = KeyCondition.KEYS_IN_REACH
    if any(one.startswith("hw-opal") for one in header.segments):
        return condition(
            which,
            "no",
            "The drive holds a key of its own (hw-opal), which stays; the header wraps only what unlocks it.",
        )
    if header.doubts:
        why = f"Where its keys lie is not certain: {'; '.join(header.doubts)}. Repair it (cryptsetup repair), or overwrite "
        return condition(which, "no", f"{why}the whole target.")
    if medium is MediumType.HDD:
        return condition(which, "yes", "The header stands on rotating media, where an overwrite replaces it.")
    return condition(
        which,
        "unknown",
        f"The header stands on a medium of type {medium}: earlier places of it may be out of the host's reach.",
    )


def _tokens(header: LuksHeader) -> list[KeyCopy]:
    return [
        KeyCopy(
            where=f"token of the header ({one.type}), for keyslot {', '.join(one.keyslots) or 'none'}",
            what=_TOKENS.get(one.type, "a way to a passphrase that is not known here"),
            fate="remains" if one.type in _TOKENS else "unknown",
            detail="What the header keeps of it is overwritten; what lies outside stays, and opens a backup of the header.",
        )
        for one in header.tokens
    ]
