"""How far a technique reaches: one namespace, or everything the controller's subsystem holds."""

from __future__ import annotations

from expunge_agent.core.drive import Drive, NvmeNamespace
from expunge_agent.core.technique import Technique

IDENTIFY_CONTROLLER = "Identify Controller"
"""Name of the answer that holds the NVMe Identify Controller data (NVM Express Base 2.0 figure 275)."""
_FNA = 524
_SANITIZE = (
    Technique.NVME_SANITIZE_CRYPTO,
    Technique.NVME_SANITIZE_BLOCK,
    Technique.NVME_SANITIZE_OVERWRITE,
)
FORMATS = (Technique.NVME_FORMAT_CRYPTO, Technique.NVME_FORMAT_USER_DATA)


def others(drive: Drive, node: str) -> list[NvmeNamespace] | None:
    """All namespaces beside the one that was asked about, whose block device is `node`; None when it does not
    show which one that is, or nobody lists them all."""
    return None if drive.unlisted else listed_others(drive, node)


def listed_others(drive: Drive, node: str) -> list[NvmeNamespace] | None:
    """Those of `others` that are known, where there may be more, too; None when it does not show which one was
    asked about."""
    own = [
        one
        for one in drive.namespaces
        if (one.nsid == drive.nsid if drive.nsid else bool(one.node) and one.node == node)
    ]
    return None if len(own) != 1 else [one for one in drive.namespaces if one is not own[0]]


def takes(technique: Technique, drive: Drive, node: str) -> bool:
    """Whether `technique`, given to `drive`, takes the data of the namespace whose block device is `node`, too."""
    return whole_subsystem(technique, drive) and any(one.node == node for one in drive.namespaces)


def whole_subsystem(technique: Technique, drive: Drive) -> bool:
    """Whether `technique` takes the data of every namespace of the drive's NVM subsystem.

    Sanitize always does (Base 2.0 §8.21). Format NVM does where FNA bit 0 (a format of one is one of
    all) or bit 1 (so is its secure erase) is set. Where the drive's FNA is not at hand: yes. A revert takes
    the keys of the whole TPer, which is the subsystem's.
    """
    if drive.protocol != "nvme":
        return False
    if technique in _SANITIZE or technique is Technique.OPAL_REVERT:
        return True
    if technique not in FORMATS:
        return False
    for answer in drive.answers:
        if answer.name == IDENTIFY_CONTROLLER and len(answer.hex) >= 2 * (_FNA + 1):
            return int(answer.hex[2 * _FNA : 2 * _FNA + 2], 16) & 0x3 != 0
    return True
