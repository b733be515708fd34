"""What a block device is, as the kernel tells it: identity, type, sectors."""

from __future__ import annotations

from pathlib import Path

from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.volume import BUSES, is_lvm, lvm_name
from expunge_agent.devices import host, makers, mmc, raid, udev, ufs, vpd
from expunge_agent.devices.nodes import SECTOR, Node
from expunge_agent.devices.roots import read_bytes, read_int, read_text
from expunge_agent.devices.transport import remarks, transport
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity

_BUS_BY_DRIVER = {"loop": "loop", "zram": "zram", "device-mapper": "dm", "mdp": "md", "md": "md"}
_BUS_BY_SUBSYSTEM = {
    "nvme": "nvme",
    "nvme-subsystem": "nvme",
    "mmc": "mmc",
    "scsi": "scsi",
    "virtio": "virtio",
    "xen": "xen",
}
_WORLD_WIDE = ("naa.", "eui.", "uuid.", "nvme.")
"""Designators that are names of one unit in the world; ``t10.`` is vendor text around the serial."""
_WITH_HEADER = ("CRYPT-LUKS1-", "CRYPT-LUKS2-", "CRYPT-BITLK-", "CRYPT-FVAULT2-", "CRYPT-VERITY-")
"""UUIDs of mappings that begin with that of a header."""


def bus(node: Node) -> str:
    """How it is attached: nvme, ata, scsi, usb, ufs, mmc, virtio, xen, loop, zram, lvm, dm-crypt, dm, md or unknown."""
    disk = node.disk
    if (disk.folder / "dm").is_dir():
        uuid = read_text(disk.folder / "dm/uuid")
        return "lvm" if is_lvm(uuid) else "dm-crypt" if uuid.startswith("CRYPT-") else "dm"
    if (disk.folder / "md").is_dir():
        return "md"
    subsystems = disk.subsystems()
    if "usb" in subsystems:
        return "usb"
    if any((folder / "ata_port").is_dir() for folder in disk.parents()):
        return "ata"
    if ufs.is_ufs(disk):
        return "ufs"
    for name in subsystems:
        if name in _BUS_BY_SUBSYSTEM:
            return _BUS_BY_SUBSYSTEM[name]
    return _BUS_BY_DRIVER.get(disk.driver, "unknown")


def identity(node: Node, size: int | None = None) -> BlockIdentity:
    """Who the device at `node` is. `size` in bytes, where an open descriptor knows better than sysfs.

    The kernel's own account comes first, so that the identity is the same whether or not udev runs
    (as in a rescue system); udev fills what the kernel leaves empty. Without serial and WWN the
    ``instance`` is boot id and disk sequence number (Linux 5.15): valid until it is detached.
    """
    disk = node.disk
    found_bus = bus(disk)
    model, serial, wwn = _names(disk, found_bus)
    if not (model and (serial or wwn)):
        told = udev.properties(disk)
        model, serial, wwn = model or told.model, serial or told.serial, wwn or told.wwn
    instance = "" if serial or wwn else _instance(disk)
    instance = f"{instance}/{_area(disk, found_bus, serial)}".strip("/")
    if node.is_partition and (serial or wwn or instance):
        part = f"part{read_int(node.folder / 'partition')}@{read_int(node.folder / 'start') * SECTOR}"
        instance = f"{instance}/{part}".lstrip("/")
    return BlockIdentity(
        bus=found_bus,
        model=model,
        serial=serial,
        wwn=wwn,
        size=U64(node.size if size is None else size),
        instance=instance,
    )


def medium(node: Node, path: str = "") -> Medium:
    """Everything that can be said of the device, seen at `path`, without opening it."""
    disk = node.disk
    queue = disk.folder / "queue"
    rotational = read_int(queue / "rotational")
    who = identity(node)
    kind = medium_type(disk, who)
    return Medium(
        path=path or str(node.path),
        identity=who,
        type=kind,
        rotational=None if rotational < 0 else rotational == 1,
        rotation=_rate(disk),
        removable=read_int(disk.folder / "removable", 0) == 1,
        partition=node.is_partition,
        firmware=_first(
            mmc.card(disk) if who.bus == "mmc" else disk.folder / "device", "firmware_rev", "fwrev", "rev"
        ),
        logical_sector=read_int(queue / "logical_block_size"),
        physical_sector=read_int(queue / "physical_block_size"),
        notes=tuple(_notes(node, who, kind)),
    )


def medium_type(disk: Node, who: BlockIdentity) -> MediumType:
    """The type of medium, from evidence: what the drive reports, or how it is attached.

    The kernel's rotational flag is 1 also where nothing was reported, and rules of storage makers set it to 0, so that
    on SCSI and over USB it proves nothing; SBC-4 §6.6.2 (page B1h, MEDIUM ROTATION RATE) does. What is reached
    over iSCSI is what a storage system makes up.
    """
    virtual = makers.is_made_up(who.model, read_text(disk.folder / "device/vendor"))
    if who.bus == "zram" or disk.driver == "ramdisk":
        return MediumType.MEMORY
    if who.bus in ("loop", *BUSES, "virtio", "xen") or virtual:
        return MediumType.VIRTUAL
    if raid.is_volume(disk) or transport(disk) == "iscsi":
        return MediumType.VIRTUAL  # what lies under it is not reached
    if who.bus == "nvme":
        return MediumType.SSD
    if who.bus == "ufs":  # managed flash by definition (JESD220)
        return MediumType.SSD
    if who.bus == "mmc":  # managed flash in either case: JESD84-B51 §1, SD Physical Layer 6.00 §1
        return {"MMC": MediumType.SSD, "SD": MediumType.USB_FLASH}.get(
            read_text(mmc.card(disk) / "type"), MediumType.UNKNOWN
        )
    if who.bus == "usb" and read_int(disk.folder / "removable", 0) == 1:
        return MediumType.USB_FLASH
    if who.bus in ("ata", "scsi", "usb"):
        return _by_rotation(disk, who.bus)
    return MediumType.UNKNOWN


def _by_rotation(disk: Node, found_bus: str) -> MediumType:
    rate = _rate(disk)
    if rate >= 0:
        return MediumType.SSD if rate == 1 else MediumType.HDD if vpd.rotates(rate) else MediumType.UNKNOWN
    # libata makes page B1h up from the drive's own word 217
    flag = read_int(disk.folder / "queue/rotational")
    if found_bus == "scsi":
        return MediumType.UNKNOWN
    if flag == 0:
        return MediumType.SSD
    return MediumType.HDD if flag == 1 and found_bus == "ata" else MediumType.UNKNOWN


def _rate(disk: Node) -> int:
    """MEDIUM ROTATION RATE as the kernel has it of the drive; −1 without page B1h."""
    rate = vpd.rotation_rate(read_bytes(disk.folder / "device/vpd_pgb1"))
    return -1 if rate is None else rate


def _names(disk: Node, found_bus: str) -> tuple[str, str, str]:
    """(model, serial, WWN) from sysfs; empty strings where it does not say."""
    device = mmc.card(disk) if found_bus == "mmc" else disk.folder / "device"
    if found_bus in ("lvm", "dm-crypt", "dm"):
        return (*_mapped_names(read_text(disk.folder / "dm/name"), read_text(disk.folder / "dm/uuid")), "")
    if found_bus == "md":
        return read_text(disk.folder / "md/level"), read_text(disk.folder / "md/uuid"), ""
    model = _first(device, "model", "name")
    vendor = read_text(device / "vendor")
    if found_bus in ("scsi", "usb", "ufs") and vendor and not model.startswith(vendor):
        model = f"{vendor} {model}".strip()
    serial = _first(device, "serial") or read_text(disk.folder / "serial")
    serial = serial or vpd.unit_serial(read_bytes(device / "vpd_pg80"))
    if found_bus == "ata":
        long_model, long_serial = vpd.ata_names(read_bytes(device / "vpd_pg83"))
        model, serial = long_model or model, serial or long_serial
    if found_bus == "usb" and not serial:
        serial = _usb_serial(disk)
    wwn = read_text(disk.folder / "wwid") or read_text(device / "wwid")
    wwn = wwn if wwn.startswith(_WORLD_WIDE) else ""
    if found_bus == "ufs" and not (serial or wwn):
        serial = ufs.serial(disk)
    return model, serial, wwn


def _area(disk: Node, found_bus: str, serial: str) -> str:
    """What tells `disk` from others that carry the same `serial` by their nature; empty for most."""
    if found_bus == "mmc":
        return mmc.area(disk)
    return ufs.unit(disk) if found_bus == "ufs" and serial and serial == ufs.serial(disk) else ""


def _mapped_names(name: str, uuid: str) -> tuple[str, str]:
    """(model, serial) of a mapped device. The UUID of a mapping without a header (``CRYPT-PLAIN-NAME``) holds
    nothing but the name somebody gave it, which tells it from no other (cryptsetup, lib/libdevmapper.c)."""
    if is_lvm(uuid):
        parsed = lvm_name(name)
        return (parsed.title if parsed is not None and not parsed.layer else name), uuid
    headless = uuid.startswith("CRYPT-") and not uuid.startswith(_WITH_HEADER)
    return name, "" if headless else uuid


def _mmc_notes(disk: Node, kind: MediumType) -> list[str]:
    if name := mmc.area(disk):
        user = mmc.user_area(disk).path
        return [f"the area {name} of the eMMC {user}: its user area and other areas are not covered"]
    if areas := mmc.beside(disk):
        return [f"areas of their own beside the user area are not covered: {', '.join(areas)}"]
    return ["an SD card"] if kind is MediumType.USB_FLASH else []


def _first(folder: Path, *files: str) -> str:
    """The first of `files` in `folder` that says something."""
    return next((text for name in files if (text := read_text(folder / name))), "")


def _usb_serial(disk: Node) -> str:
    """The serial number of the USB device it hangs on (of the bridge, if there is one)."""
    for folder in disk.parents():
        if (folder / "idVendor").exists():
            return read_text(folder / "serial")
    return ""


def _instance(disk: Node) -> str:
    boot, sequence = host.boot_id(disk.roots), read_int(disk.folder / "diskseq")
    return f"{boot}/{sequence}" if boot and sequence > 0 else ""


def _notes(node: Node, who: BlockIdentity, kind: MediumType) -> list[str]:
    notes = []
    if backing := node.disk.backing_file:
        notes.append(f"loop device over {backing.encode('unicode_escape').decode('ascii')[:500]}")
    if node.is_partition:
        notes.append(f"a partition of {node.disk.path}; the rest of the drive is not covered")
    if who.bus == "usb" and who.serial and who.serial == _usb_serial(node.disk):
        notes.append("the serial number is that of the USB device, which may be a bridge")
    if raid.is_volume(node):
        notes.append(f"a volume of a RAID controller ({raid.controller(node) or node.driver}), not a drive")
    elif kind is MediumType.VIRTUAL and who.bus not in ("loop", *BUSES):
        notes.append("a virtual disk: what lies under it is not reached")
    if who.bus == "md" and (name := udev.array_name(node.disk)):
        notes.append(f"the array's name is {name}")
    if who.bus == "mmc":
        notes += _mmc_notes(node.disk, kind)
    if who.bus == "ufs":
        notes.append("a logical unit of a UFS device: the others, and its RPMB, are not covered")
    notes += remarks(node.disk)
    if kind is MediumType.UNKNOWN:
        notes.append("the device does not say whether it rotates")
    if node.driver == "sr":
        notes.append("an optical drive")
    return notes
