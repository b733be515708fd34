"""The closed table of techniques, and what each earns on which medium.

Credit follows NIST SP 800-88 r2 (which refers to IEEE 2883) and is never more than that:

- a command that changes or discards the media's encryption key is Purge on any medium that encrypts all
  it stores; a *crypto scramble* of the drive's own is such a command;
- a sanitize *block erase* is Purge on flash only, a sanitize *overwrite* on rotating media only;
- ATA Security Erase is Clear on flash, and so is a UFS purge, which rests on an unmapping before it (ADR 0031);
- overwriting from the host, discard, UNMAP and write-zeroes never earn Purge;
- on a medium of unknown type only cryptographic erase counts as Purge;
- overwriting the header of LUKS destroys the wrapped keys: Purge on rotating media, where an overwrite reaches
  what it overwrites, Clear elsewhere; removing a key of fscrypt is Clear. Both only where the conditions of
  cryptographic erase hold (`protocol.key_rules`, ADR 0024).
- shredding a key of a vault is cryptographic erase, and earns it only where the conditions of that hold
  (`vault.conditions`, ADR 0026).
"""

from __future__ import annotations

from enum import StrEnum

from expunge_agent.core.medium import MediumType
from expunge_agent.protocol.base import Level


class Technique(StrEnum):
    """How data is taken away. The list is closed: no configuration adds to it."""

    OVERWRITE = "overwrite"
    NVME_SANITIZE_CRYPTO = "nvme-sanitize-crypto"
    NVME_SANITIZE_BLOCK = "nvme-sanitize-block"
    NVME_SANITIZE_OVERWRITE = "nvme-sanitize-overwrite"
    NVME_FORMAT_CRYPTO = "nvme-format-crypto"
    NVME_FORMAT_USER_DATA = "nvme-format-user-data"
    ATA_SANITIZE_CRYPTO = "ata-sanitize-crypto"
    ATA_SANITIZE_BLOCK = "ata-sanitize-block"
    ATA_SANITIZE_OVERWRITE = "ata-sanitize-overwrite"
    ATA_SECURITY_ERASE_ENHANCED = "ata-security-erase-enhanced"
    ATA_SECURITY_ERASE = "ata-security-erase"
    SCSI_SANITIZE_CRYPTO = "scsi-sanitize-crypto"
    SCSI_SANITIZE_BLOCK = "scsi-sanitize-block"
    SCSI_SANITIZE_OVERWRITE = "scsi-sanitize-overwrite"
    SCSI_FORMAT_UNIT = "scsi-format-unit"
    OPAL_REVERT = "opal-psid-revert"
    MMC_SANITIZE = "mmc-sanitize"
    MMC_SECURE_ERASE = "mmc-secure-erase"
    UFS_PURGE = "ufs-purge"
    SECURE_DISCARD = "secure-discard"
    DISCARD = "discard"
    ZERO_OUT = "zero-out"
    LUKS_ERASE = "luks-erase"
    FSCRYPT_KEY_REMOVAL = "fscrypt-key-removal"
    VAULT_SHRED = "vault-shred"


KEEPS_NO_RECORD = (
    Technique.SCSI_SANITIZE_CRYPTO,
    Technique.SCSI_SANITIZE_BLOCK,
    Technique.SCSI_SANITIZE_OVERWRITE,
    Technique.SCSI_FORMAT_UNIT,
)
"""A drive that has ended one of these well is as one that never began (SBC-4 §4.11, §5.4): for who saw it
accepted or at work, ready is the end."""
LEAVES_ZEROS = (
    Technique.NVME_SANITIZE_OVERWRITE,
    Technique.ATA_SANITIZE_OVERWRITE,
    Technique.SCSI_SANITIZE_OVERWRITE,
)
"""The pattern given with these is zero."""
LEAVES_NOISE = (
    Technique.NVME_SANITIZE_CRYPTO,
    Technique.NVME_FORMAT_CRYPTO,
    Technique.ATA_SANITIZE_CRYPTO,
    Technique.ATA_SECURITY_ERASE_ENHANCED,
    Technique.SCSI_SANITIZE_CRYPTO,
    Technique.OPAL_REVERT,
)
"""After a change of the key, and after whatever pattern a maker chose, old places may read as anything."""
BY_KEY = (Technique.LUKS_ERASE, Technique.FSCRYPT_KEY_REMOVAL, Technique.VAULT_SHRED)
"""The host takes away keys of what it encrypted itself; the data stay where they are."""
FLASH = (MediumType.SSD, MediumType.USB_FLASH)

_CRYPTO = (
    Technique.NVME_SANITIZE_CRYPTO,
    Technique.NVME_FORMAT_CRYPTO,
    Technique.ATA_SANITIZE_CRYPTO,
    Technique.SCSI_SANITIZE_CRYPTO,
    Technique.OPAL_REVERT,
    Technique.VAULT_SHRED,
)
_BLOCK = (
    Technique.NVME_SANITIZE_BLOCK,
    Technique.NVME_FORMAT_USER_DATA,
    Technique.ATA_SANITIZE_BLOCK,
    Technique.SCSI_SANITIZE_BLOCK,
    Technique.MMC_SANITIZE,
)
_OVERWRITE = (
    Technique.NVME_SANITIZE_OVERWRITE,
    Technique.ATA_SANITIZE_OVERWRITE,
    Technique.SCSI_SANITIZE_OVERWRITE,
)
_WHOLE = (
    Technique.OVERWRITE,
    Technique.ATA_SECURITY_ERASE_ENHANCED,
    Technique.ATA_SECURITY_ERASE,
    Technique.SCSI_FORMAT_UNIT,
    Technique.MMC_SECURE_ERASE,
    Technique.UFS_PURGE,
)


def earns(technique: Technique, medium: MediumType) -> Level:
    """The most that `technique`, carried out and verified in full, earns on `medium`.

    Virtual and RAM-backed devices and files never earn more than Clear: what lies under them was
    not reached. Discards earn nothing: that a block reads as zeros is no evidence of its erasure.
    """
    if medium in (MediumType.FILE, MediumType.VIRTUAL, MediumType.MEMORY):
        return Level.CLEAR if technique in (*_CRYPTO, *_BLOCK, *_OVERWRITE, *_WHOLE, *BY_KEY) else Level.NONE
    if technique in _CRYPTO:
        return Level.PURGE
    if technique in BY_KEY:
        on_platters = technique is Technique.LUKS_ERASE and medium is MediumType.HDD
        return Level.PURGE if on_platters else Level.CLEAR
    if technique in _BLOCK:
        return Level.PURGE if medium in FLASH else Level.CLEAR
    if technique in _OVERWRITE:
        return Level.PURGE if medium is MediumType.HDD else Level.CLEAR
    return Level.CLEAR if technique in _WHOLE else Level.NONE
