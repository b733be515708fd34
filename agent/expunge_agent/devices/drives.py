"""A drive as it answers for itself, together with what the kernel knows of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from expunge_agent.commands import opal
from expunge_agent.commands.port import CommandError, NvmePort, ScsiPort
from expunge_agent.core.doubts import doubts, names
from expunge_agent.core.drive import SAID_OF_THE_WHOLE, Ability, Drive
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.technique import Technique
from expunge_agent.devices import describe, mmc, raid, ufs
from expunge_agent.devices.nodes import Node, by_number
from expunge_agent.devices.nvme_neighbours import with_neighbours
from expunge_agent.devices.roots import LIVE, Roots, link_name, read_int, read_text
from expunge_agent.devices.transport import transport
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity

Spoken = Literal["nvme", "ata", "scsi", "mmc", "none"]


def examine(path: str | os.PathLike[str], roots: Roots = LIVE) -> Drive | None:
    """What the drive at `path` answers; None where there is no block device.

    The node is opened read-only and without a claim, and only commands that ask are sent. Never
    raises for a drive that does not answer: it then is described as the kernel sees it, and
    ``doubtful`` says why. For a partition the whole drive answers, which ``doubtful`` says too.
    """
    try:
        seen = os.stat(path)  # noqa: PTH116 - may hold surrogates
    except (OSError, ValueError):
        return None
    if not stat.S_ISBLK(seen.st_mode):
        return None
    node = by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots)
    if node is None:
        return None
    drive = examine_node(node)
    return _with_doubts(drive, [SAID_OF_THE_WHOLE]) if node.is_partition else drive


def examine_node(node: Node) -> Drive:
    """The same for a device of sysfs. In a recorded tree nothing is opened."""
    disk = node.disk
    medium = describe.medium(disk)
    known = as_the_kernel_sees_it(disk, medium)
    if known.protocol == "none" or not disk.roots.live:
        return known
    try:
        fd = node_open(disk)
    except OSError as error:
        return _with_doubts(known, [f"it could not be asked: {error.strerror}; this is the kernel's account"])
    try:
        told = _ask(fd, disk, known)
    except CommandError as error:
        return _with_doubts(known, [f"it did not answer ({error}); this is the kernel's account"])
    finally:
        os.close(fd)
    return judged(medium, joined(known, told))


def judged(medium: Medium, drive: Drive) -> Drive:
    """`drive` with what of it is not to be trusted, by the kernel's account of the same device."""
    found = doubts(medium, drive)
    if drive.protocol == "scsi" and drive.bridge and medium.type is not MediumType.USB_FLASH:
        found.append(
            "the USB bridge passes no ATA commands: the drive behind it cannot be asked, nor its own erase "
            "commands be used; attach it directly"
        )
    if drive.bridge:  # it says of itself what it likes; the commands reach the drive behind it
        named = list(dict.fromkeys([*drive.doubtful_names, *names(medium, drive)]))
        drive = msgspec.structs.replace(drive, doubtful_names=named)
    return _with_doubts(drive, found)


def as_the_kernel_sees_it(disk: Node, medium: Medium) -> Drive:
    """The drive without opening anything: from sysfs, with the block layer's own operations as abilities."""
    who = medium.identity
    assert isinstance(who, BlockIdentity)  # noqa: S101 - a node is a block device
    return Drive(
        protocol=spoken(disk, who.bus),
        transport=transport(disk),
        bridge=bridge(disk),
        vendor="" if (vendor := read_text(disk.folder / "device/vendor")).startswith("0x") else vendor,
        model=who.model,
        serial=who.serial,
        firmware=medium.firmware,
        names=[who.wwn] if who.wwn else [],
        rotation=medium.rotation,
        logical_sector=medium.logical_sector,
        physical_sector=medium.physical_sector,
        apparent=U64(medium.size),
        abilities=_block_abilities(disk),
    )


def spoken(disk: Node, bus: str) -> Spoken:
    """The protocol to try first, by the way it is attached. Volumes and virtual disks have none of a drive's."""
    if bus == "nvme":
        return "nvme"
    if bus == "mmc":
        return "mmc"
    if bus in ("ata", "scsi", "usb", "ufs") and disk.driver in ("sd", "") and not raid.is_volume(disk):
        return "ata" if bus == "ata" else "scsi"
    return "none"


def bridge(disk: Node) -> str:
    """What a USB device in between says it is: maker, product, ids and driver; empty without one."""
    driver = ""
    for folder in disk.parents():
        driver = driver or (link_name(folder / "driver") if (folder / "bInterfaceClass").exists() else "")
        if (folder / "idVendor").exists():
            ids = f"({read_text(folder / 'idVendor')}:{read_text(folder / 'idProduct')}"
            names = [read_text(folder / "manufacturer"), read_text(folder / "product")]
            return " ".join([*(name for name in names if name), f"{ids}, {driver})" if driver else f"{ids})"])
    return ""


def node_open(disk: Node) -> int:
    """A descriptor of the disk's node for asking: read-only, no claim. Raises OSError.

    That the node still is this device is checked on the descriptor.
    """
    fd = os.open(disk.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY)
    seen = os.fstat(fd)
    if not stat.S_ISBLK(seen.st_mode) or f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}" != disk.number:
        os.close(fd)
        raise OSError(0, "another device stands at its path")
    return fd


def scsi_port(fd: int) -> ScsiPort:
    """The kernel's way to a SCSI unit, on an open descriptor."""
    from expunge_agent.commands.kernel_sg import SgPort

    return SgPort(fd)


def nvme_port(fd: int) -> NvmePort:
    """The kernel's way to an NVMe controller, on an open descriptor."""
    from expunge_agent.commands.kernel_nvme import KernelNvme

    return KernelNvme(fd)


def joined(known: Drive, told: Drive) -> Drive:
    """The drive's own account, with the kernel's where it says nothing."""
    default = msgspec.structs.asdict(Drive(protocol="none"))
    fill: dict[str, Any] = {
        name: getattr(known, name)
        for name in (
            "transport",
            "bridge",
            "vendor",
            "model",
            "serial",
            "firmware",
            "names",
            "rotation",
            "logical_sector",
            "physical_sector",
            "apparent",
        )
        if getattr(told, name) == default[name]
    }
    if known.bridge and told.bridge:
        fill["bridge"] = f"{known.bridge}, translating as {told.bridge}"
    have = {one.technique for one in told.abilities}
    fill["abilities"] = [*told.abilities, *(one for one in known.abilities if one.technique not in have)]
    return msgspec.structs.replace(told, **fill)


def ask_nvme(port: NvmePort, disk: Node) -> Drive:
    """All questions to an NVMe controller about the namespace `disk`. Raises CommandError."""
    from expunge_agent.devices.examine_nvme import examine_nvme

    drive = with_neighbours(examine_nvme(port, read_int(disk.folder / "nsid", 1)), disk)
    return with_opal(drive, [lambda: opal.discover_nvme(port)])


def ask_scsi(port: ScsiPort, known: Drive) -> Drive:
    """All questions to a SCSI unit or an ATA drive behind one; `known` as the kernel sees it. Raises CommandError."""
    from expunge_agent.devices.examine_ata import examine_ata
    from expunge_agent.devices.examine_scsi import examine_scsi, speaks_ata

    if known.protocol == "ata" or speaks_ata(port):
        drive = examine_ata(port)
        return with_opal(drive, [lambda: opal.discover_scsi(port), lambda: opal.discover_ata(port)])
    drive = examine_scsi(port)
    # Cheap sticks have been seen to hang on commands they do not know: only drives are asked for more.
    return drive if known.bridge else with_opal(drive, [lambda: opal.discover_scsi(port)])


def _ask(fd: int, disk: Node, known: Drive) -> Drive:
    """Send the questions of the protocol. Raises CommandError."""
    if known.protocol == "nvme":
        return ask_nvme(nvme_port(fd), disk)
    if known.protocol == "mmc":
        return _ask_mmc(fd, disk)
    told = ask_scsi(scsi_port(fd), known)
    return with_ufs(told, disk) if ufs.is_ufs(disk) else told


def _ask_mmc(fd: int, disk: Node) -> Drive:
    from expunge_agent.commands.kernel_mmc import MmcIoctlPort
    from expunge_agent.devices.examine_mmc import area_of, examine_mmc, sd_card

    if read_text(mmc.card(disk) / "type") != "MMC":
        return sd_card()
    if mmc.area(disk):
        return area_of(str(mmc.user_area(disk).path))
    return examine_mmc(MmcIoctlPort(fd))


def with_ufs(drive: Drive, disk: Node) -> Drive:
    """`drive`, a logical unit of a UFS device, with what it can do as such. Its purge status is not asked for: a
    read of it takes the word of a purge under way from whoever waits for it."""
    why = ""
    if ufs.query_node(disk) is None:
        why = "the kernel shows no ufs-bsg node to ask it through (CONFIG_SCSI_UFS_BSG)"
    elif ufs.fully_provisioned(disk):
        why = "its unit descriptor says that nothing of it can be unmapped (bProvisioningType 00h)"
    purge = Ability(technique=Technique.UFS_PURGE, offered=not why, why=why)
    beyond = "not reached: other logical units of the UFS device, its RPMB, what it does not unmap"
    return msgspec.structs.replace(
        drive, rotation=1, abilities=[*drive.abilities, purge], unreached=[*drive.unreached, beyond]
    )


def with_opal(drive: Drive, ways: list[Callable[[], bytes]]) -> Drive:
    """`drive` with level 0 discovery by the first of `ways` that brings one."""
    for discover in ways:
        try:
            raw = discover()
            seen = opal.parse(raw)
        except (CommandError, opal.NotDiscovery):
            continue
        abilities = [one for one in drive.abilities if one.technique is not Technique.OPAL_REVERT]
        return msgspec.structs.replace(
            drive,
            opal=seen.opal(),
            abilities=[*abilities, opal.ability(seen)] if seen.ssc else abilities,
            answers=[*drive.answers, opal.answer(raw)],
        )
    return drive


def _block_abilities(disk: Node) -> list[Ability]:
    queue = disk.folder / "queue"
    discard = read_int(queue / "discard_max_bytes", 0) > 0
    return [
        Ability(
            technique=Technique.DISCARD,
            offered=discard,
            why="" if discard else "the kernel offers none for it",
        ),
        Ability(technique=Technique.ZERO_OUT, offered=True),
    ]


def _with_doubts(drive: Drive, found: list[str]) -> Drive:
    return msgspec.structs.replace(drive, doubtful=list(dict.fromkeys([*drive.doubtful, *found])))
