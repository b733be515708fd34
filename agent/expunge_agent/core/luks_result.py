"""What the receipt says of a LUKS volume whose keys were destroyed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from expunge_agent.core.key_progress import KeyProgress
from expunge_agent.core.luks_case import HEADER_COPY, LuksCase
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.key_rules import KeyCondition
from expunge_agent.protocol.receipt_keys import KeyCopy, KeyDestruction, KeyEvidence

ERASE, CHECK = "luks-erase", "luks-check"
"""The steps beside the passes: cryptsetup's erase, and the look afterwards."""
_HEADER_BYTES = 592
"""What of a header is shown as evidence: all of LUKS1's, the fields of LUKS2's (they hold no key)."""


def header_evidence(name: str, head: bytes) -> KeyEvidence:
    """The fields of the header as they were read."""
    return KeyEvidence(name=name, hex=head[:_HEADER_BYTES].hex())


def destruction(
    case: LuksCase, where: str, area: int, progress: KeyProgress, overwritten: bool
) -> KeyDestruction:
    """The story of the keys. `where`: what bore the header; `overwritten`: all passes over its `area` bytes ended, and
    were read back."""
    check = progress.done(CHECK)
    gone = overwritten and check is not None and not check.trouble
    erase = progress.done(ERASE)
    header = KeyCopy(
        where=where[:4000],
        what=f"the LUKS header and all keyslots, bytes 0 to {area}",
        fate="destroyed" if gone else "unknown",
        detail=" ".join(one.detail for one in (erase, check) if one is not None)[:4000],
    )
    return KeyDestruction(
        scheme=f"luks{case.header.version}",
        key=case.header.uuid,
        conditions=case.conditions,
        copies=[header, *case.copies],
        readable=list(_readable(case, gone)),
        evidence=[one for step in (erase, check) if step is not None for one in step.evidence],
        overwritten=U64(area),
    )


def _readable(case: LuksCase, gone: bool) -> Iterator[str]:
    holds: Mapping[str, str] = {one.id: one.holds for one in case.conditions}
    if not gone:
        yield "Everything, by whoever has a passphrase: it is not certain that the header was destroyed."
    backups = [one.where for one in case.copies if one.what == HEADER_COPY]
    for where in backups:
        yield f"Everything, by whoever has the backup of the header in {where[:1000]} and one of its passphrases or key files."
    if holds[KeyCondition.NO_BACKUP] != "yes" and not backups:
        yield (
            "Everything, by whoever has a backup of the header (luksHeaderBackup, a snapshot or an image of the target) and "
            f"one of its passphrases or key files: that there is none is {_how(holds[KeyCondition.NO_BACKUP])}."
        )
    if holds[KeyCondition.NO_ESCROW] != "yes":
        yield (
            "Everything, by whoever kept the volume key itself (escrow, a dump of the key): that nobody did is "
            f"{_how(holds[KeyCondition.NO_ESCROW])}."
        )
    if holds[KeyCondition.ALWAYS_ENCRYPTED] != "yes":
        yield (
            "What was stored on the target without encryption, where it was not written over since: that nothing was is "
            f"{_how(holds[KeyCondition.ALWAYS_ENCRYPTED])}."
        )
    if holds[KeyCondition.NO_KEY_IN_MEMORY] != "yes":
        yield (
            "Everything, by whoever gets the key from memory that was written out (hibernation, swap, a core dump) or from "
            f"a keyring: that none holds it is {_how(holds[KeyCondition.NO_KEY_IN_MEMORY])}."
        )
    if holds[KeyCondition.KEY_STRENGTH] != "yes" or holds[KeyCondition.KEY_ENTROPY] == "no":
        yield "Perhaps everything, by whoever can find the key by trying: it may be too weak (key-strength, key-entropy)."
    if any(one.startswith("hw-opal") for one in case.header.segments):
        yield "Everything, by whoever unlocks the drive otherwise: the key in the drive itself was not changed."
    elif holds[KeyCondition.KEYS_IN_REACH] == "no":
        yield "Perhaps everything, by whoever has a passphrase: keyslots may lie where the header does not say (keys-in-reach)."


def _how(holds: str) -> str:
    return "not true" if holds == "no" else "not known"
