"""Where the kernel's account of a drive and the drive's own answers disagree, or cannot be true."""

from __future__ import annotations

from expunge_agent.core.drive import Drive
from expunge_agent.core.medium import Medium
from expunge_agent.protocol.identity import BlockIdentity

_KNOWN_FILLERS = ("0123456789", "123456789", "1234567890", "DEFAULT", "NOTAPPLICABLE", "UNKNOWN", "NONE")
"""Serial numbers that bridges and cheap sticks give to every unit."""


def doubts(medium: Medium, drive: Drive) -> list[str]:
    """What of `drive`'s answers is not to be trusted, in sentences without a full stop.

    `medium` is the same device as the kernel describes it. An answer that is simply missing is no doubt.
    """
    found = names(medium, drive)
    if drive.apparent and medium.size and int(drive.apparent) != medium.size:
        found.append(f"the drive says {int(drive.apparent)} bytes, the kernel {medium.size}")
    if drive.native and drive.apparent and int(drive.native) < int(drive.apparent):
        found.append(
            f"its native size of {int(drive.native)} bytes is below the accessible {int(drive.apparent)}"
        )
    if medium.size > 0 and 0 < drive.logical_sector != medium.logical_sector > 0:
        found.append(
            f"the drive says sectors of {drive.logical_sector} bytes, the kernel {medium.logical_sector}"
        )
    if drive.rotation > 1 and _stands_still(medium):
        found.append(f"the drive says {drive.rotation} turns a minute, the kernel that it does not rotate")
    for name, text in (("model", drive.model), ("serial number", drive.serial), ("firmware", drive.firmware)):
        if why := garbled(text):
            found.append(f"the {name} {text!r} {why}")
    if why := filler(drive.serial):
        found.append(f"the serial number {drive.serial!r} {why}")
    return found


def names(medium: Medium, drive: Drive) -> list[str]:
    """Of `doubts`, where the two call the drive otherwise."""
    who = medium.identity
    return [*_serials(who, drive), *_models(who, drive)] if isinstance(who, BlockIdentity) else []


def _stands_still(medium: Medium) -> bool:
    """Whether the kernel has it from the drive that it does not rotate. The flag by itself is evidence of an ATA drive
    only, whose own word libata passes on: rules of storage makers set it for others (ADR 0046)."""
    if medium.rotation >= 0:
        return medium.rotation == 1
    who = medium.identity
    return isinstance(who, BlockIdentity) and who.bus == "ata" and medium.rotational is False


def garbled(text: str) -> str:
    """Why `text` cannot be what a drive's maker wrote; empty when it can.

    Control characters and bytes beyond ASCII (shown as ``\\xNN``) have no place in an ATA, SCSI or
    NVMe string (ACS-4 §3.4.9, SPC-5 §4.3.1, NVM Express Base 2.0 §1.4.2).
    """
    if "\\x" in text or any(not 0x20 <= ord(character) <= 0x7E for character in text):
        return "holds characters that no drive's name may have"
    return ""


def filler(serial: str) -> str:
    """Why `serial` tells no unit from another; empty when it may."""
    bare = serial.strip().upper().replace(" ", "").replace("-", "")
    if not bare:
        return ""
    if len(set(bare)) == 1 and len(bare) > 2:
        return "is one character repeated"
    if bare in _KNOWN_FILLERS or (len(bare) > 8 and bare.lstrip("0") in _KNOWN_FILLERS):
        return "is one that many units carry"
    return ""


def _serials(who: BlockIdentity, drive: Drive) -> list[str]:
    kernel, own = _plain(who.serial), _plain(drive.serial)
    if not kernel or not own or kernel == own:
        return []
    if drive.bridge:
        return [f"the bridge gives the serial number {who.serial!r}, the drive behind it {drive.serial!r}"]
    if kernel in own or own in kernel:  # one of the two was cut to the length of its field
        return []
    return [f"the drive says the serial number {drive.serial!r}, the kernel {who.serial!r}"]


def _models(who: BlockIdentity, drive: Drive) -> list[str]:
    kernel, own = _plain(who.model), _plain(drive.model)
    if not kernel or not own or own in kernel or kernel in own:
        return []
    if _plain(drive.model[:16]) in kernel:  # INQUIRY has room for 16 characters (SPC-5 §6.7.2)
        return []
    teller = "the bridge" if drive.bridge else "the kernel"
    return [f"the drive says the model {drive.model!r}, {teller} {who.model!r}"]


def _plain(text: str) -> str:
    return "".join(text.split()).upper()
