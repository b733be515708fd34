"""The techniques a policy may allow, by name, and the most each can earn. Pure.

The words and the credit are those of the agent's closed table (``expunge_agent.core.technique``), said
here once more because policies stand on their own; a test holds the two together. Credit is that of NIST
SP 800-88 r2: what changes the key is purge, a block erase on flash only, an overwrite by the drive itself
on rotating media only, like the host's overwrite of a LUKS header; nothing else the host writes or discards is.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Technique = Literal[
    "overwrite",
    "nvme-sanitize-crypto",
    "nvme-sanitize-block",
    "nvme-sanitize-overwrite",
    "nvme-format-crypto",
    "nvme-format-user-data",
    "ata-sanitize-crypto",
    "ata-sanitize-block",
    "ata-sanitize-overwrite",
    "ata-security-erase-enhanced",
    "ata-security-erase",
    "scsi-sanitize-crypto",
    "scsi-sanitize-block",
    "scsi-sanitize-overwrite",
    "scsi-format-unit",
    "opal-psid-revert",
    "mmc-sanitize",
    "mmc-secure-erase",
    "ufs-purge",
    "secure-discard",
    "discard",
    "zero-out",
    "luks-erase",
    "fscrypt-key-removal",
    "vault-shred",
]
"""How data is taken away; ``overwrite`` is by the host, pass by pass; ``luks-erase``, ``fscrypt-key-removal`` and
``vault-shred`` destroy keys of what the host encrypted, so the data stay where they are; all others are the drive's own."""
OVERWRITE: Final[Technique] = "overwrite"
LUKS: Final[Technique] = "luks-erase"
FSCRYPT: Final[Technique] = "fscrypt-key-removal"
VAULT: Final[Technique] = "vault-shred"
KEYS: Final[tuple[Technique, ...]] = (LUKS, FSCRYPT, VAULT)
"""By which only keys go; what they earn hangs on the conditions of cryptographic erase besides."""
WORDS: Final[tuple[str, ...]] = get_args(Technique)

_BY_KEY: Final = (
    "nvme-sanitize-crypto",
    "nvme-format-crypto",
    "ata-sanitize-crypto",
    "scsi-sanitize-crypto",
    "opal-psid-revert",
    "vault-shred",
)
_BY_BLOCK: Final = (
    "nvme-sanitize-block",
    "nvme-format-user-data",
    "ata-sanitize-block",
    "scsi-sanitize-block",
    "mmc-sanitize",
)
_BY_THE_DRIVES_OVERWRITE: Final = (
    "nvme-sanitize-overwrite",
    "ata-sanitize-overwrite",
    "scsi-sanitize-overwrite",
)
_NOTHING: Final = ("secure-discard", "discard", "zero-out")


def can_earn(technique: str, medium: str) -> Literal["none", "clear", "purge"]:
    """The most `technique` earns on the kind of `medium`, both words of a policy."""
    if technique in _NOTHING:
        return "none"
    if medium in ("file", "virtual", "memory"):
        return "clear"
    purges = (
        technique in _BY_KEY
        or (technique in _BY_BLOCK and medium in ("ssd", "usb-flash"))
        or (technique in (*_BY_THE_DRIVES_OVERWRITE, "luks-erase") and medium == "hdd")
    )
    return "purge" if purges else "clear"
