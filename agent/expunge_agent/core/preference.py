"""Which technique comes before which on a kind of medium, and how long each takes.

The order is that of NIST SP 800-88 r1 appendix A, as its tables go through the kinds of media: NVMe by key,
then by block; ATA and SCSI by the drive's own overwrite on rotating media, by block on flash, then by key.
For clear the host's overwrite stands first, then the drive's own erase.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from expunge_agent.core.drive import Drive
from expunge_agent.core.medium import MediumType
from expunge_agent.core.technique import BY_KEY, FLASH, Technique
from expunge_agent.protocol.base import Level
from expunge_profiles.schema import Profile

_T = Technique
_NVME = (
    _T.NVME_SANITIZE_CRYPTO,
    _T.NVME_SANITIZE_BLOCK,
    _T.NVME_FORMAT_CRYPTO,
    _T.NVME_FORMAT_USER_DATA,
)
_CRYPTO = (_T.ATA_SANITIZE_CRYPTO, _T.SCSI_SANITIZE_CRYPTO)
_BLOCK = (_T.ATA_SANITIZE_BLOCK, _T.SCSI_SANITIZE_BLOCK, _T.MMC_SANITIZE)
_OVERWRITE = (_T.ATA_SANITIZE_OVERWRITE, _T.SCSI_SANITIZE_OVERWRITE, _T.NVME_SANITIZE_OVERWRITE)
_CLEAR = (
    _T.OVERWRITE,
    _T.ATA_SECURITY_ERASE_ENHANCED,
    _T.ATA_SECURITY_ERASE,
    _T.SCSI_FORMAT_UNIT,
    _T.MMC_SECURE_ERASE,
    _T.UFS_PURGE,
)
_NOTHING = (_T.SECURE_DISCARD, _T.DISCARD, _T.ZERO_OUT)

RATES = {
    MediumType.HDD: 150_000_000,
    MediumType.SSD: 400_000_000,
    MediumType.USB_FLASH: 20_000_000,
    MediumType.FILE: 150_000_000,
    MediumType.VIRTUAL: 100_000_000,
    MediumType.MEMORY: 1_000_000_000,
    MediumType.UNKNOWN: 100_000_000,
}
"""Bytes per second taken for an estimate where the drive declares no time: the sustained rate of an
ordinary medium of the kind, averaged over all of it. Nothing is judged by it."""


def preference(medium: MediumType, level: Level, profile: Profile | None = None) -> Sequence[Technique]:
    """Every technique of the table: first those of `profile` in its own order, then the rest by `medium`."""
    if medium is MediumType.HDD:
        purge = (*_OVERWRITE, *_CRYPTO, *_NVME, _T.OPAL_REVERT, *_BLOCK)
    elif medium in FLASH:
        purge = (*_NVME, *_BLOCK, *_CRYPTO, _T.OPAL_REVERT, *_OVERWRITE)
    else:
        purge = (*_NVME, *_CRYPTO, _T.OPAL_REVERT, *_BLOCK, *_OVERWRITE)
    rest = (*purge, *_CLEAR) if level is Level.PURGE else (*_CLEAR, *purge)
    last = (*BY_KEY, *_NOTHING)
    named = tuple(Technique(word) for word in profile.techniques) if profile is not None else ()
    return tuple(dict.fromkeys((*named, *rest, *last)))


class Estimate(NamedTuple):
    """How long an erase may take, in seconds (−1 unknown), and where that comes from, in words."""

    seconds: int
    source: str


UNKNOWN = Estimate(-1, "")
DECLARED = "declared by the drive"
NOMINAL = "the drive's nominal timeout, by which some drives mean only that they take the command"
BY_RATE = "by its capacity and the rate of an ordinary medium of the kind"


def estimate(
    technique: Technique, size: int, medium: MediumType, drive: Drive | None, passes: int
) -> Estimate:
    """How long the erase takes, without reading back.

    What the drive declares comes first (ATA: IDENTIFY DEVICE words 89 and 90; NVMe: sanitize log), then
    capacity over `RATES`. Changing a key or erasing blocks does not go by capacity: unknown if undeclared.
    A SCSI drive declares no duration but a nominal timeout (SPC-5 §6.35.4): what goes by capacity takes no less than that.
    """
    if technique is Technique.OVERWRITE:
        return Estimate(_over(size * max(1, passes), medium), BY_RATE)
    if technique in (*_NOTHING, *BY_KEY):
        return UNKNOWN
    by_capacity = (*_OVERWRITE, _T.ATA_SECURITY_ERASE, _T.ATA_SECURITY_ERASE_ENHANCED, _T.SCSI_FORMAT_UNIT)
    rated = _over(max(size, _native(drive)), medium) if technique in by_capacity else -1
    declared, nominal = _declared(technique, drive), technique.startswith("scsi-")
    if declared >= 0 and not (nominal and rated > declared):
        return Estimate(declared, NOMINAL if nominal else DECLARED)
    return Estimate(rated, BY_RATE) if rated >= 0 else UNKNOWN


def read_back_seconds(size: int, medium: MediumType, profile: Profile | None) -> int:
    """Seconds one read-back takes as `profile` has it: all of the medium, or a tenth (NIST SP 800-88 r1
    §4.7.3); −1 where the rule gives no share."""
    if profile is None or profile.verification.kind == "full":
        return _over(size, medium)
    if profile.verification.kind == "none":
        return 0
    return _over(size // 10, medium) if profile.verification.rule is not None else -1


def _declared(technique: Technique, drive: Drive | None) -> int:
    if drive is None:
        return -1
    seconds = drive.ability(technique).seconds
    if seconds >= 0 or drive.security is None:
        return seconds
    minutes = {
        Technique.ATA_SECURITY_ERASE: drive.security.minutes,
        Technique.ATA_SECURITY_ERASE_ENHANCED: drive.security.enhanced_minutes,
    }.get(technique, 0)
    return minutes * 60 if minutes > 0 else -1


def _native(drive: Drive | None) -> int:
    return int(drive.native) if drive is not None else 0


def _over(count: int, medium: MediumType) -> int:
    return -(-count // RATES[medium])
