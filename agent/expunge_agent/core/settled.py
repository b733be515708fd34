"""The type of a medium, by the kernel's account and the drive's own (ADR 0046)."""

from __future__ import annotations

from expunge_agent.core.drive import SAID_OF_THE_WHOLE, Drive
from expunge_agent.core.medium import Medium, MediumType

_ROTATES = range(0x0401, 0xFFFF)
"""Nominal rotation rates (ATA IDENTIFY DEVICE word 217, SCSI VPD page B1h); 1: it does not rotate; others are reserved."""


def settled_type(medium: Medium, drive: Drive | None) -> MediumType:
    """The type of medium by the kernel's account and the drive's own; unknown where they contradict.

    The drive's rotation rate settles what the kernel could not tell, as behind a USB bridge. A drive that was asked and
    gave none is not taken for rotating: the kernel takes every disk for that which does not say otherwise. One that was
    not asked, or did not answer, leaves the kernel's account.
    """
    if drive is None or drive.rotation < 0 or _distrusted(medium, drive):
        return medium.type
    told = {1: MediumType.SSD}.get(drive.rotation)
    if drive.rotation in _ROTATES:
        told = MediumType.HDD
    if medium.type in (MediumType.FILE, MediumType.VIRTUAL, MediumType.MEMORY, told):
        return medium.type
    if told is None:
        return MediumType.UNKNOWN if medium.type is MediumType.HDD else medium.type
    if medium.type is MediumType.UNKNOWN:
        return told
    if medium.type is MediumType.USB_FLASH and told is MediumType.SSD:
        return medium.type
    return MediumType.UNKNOWN


def _distrusted(medium: Medium, drive: Drive) -> bool:
    """Whether anything speaks against the answers themselves; that the whole drive gives them for a partition does not."""
    return any(not (medium.partition and one == SAID_OF_THE_WHOLE) for one in drive.distrusted)
