"""UFS devices: logical units of a SCSI disk behind the kernel's UFS host driver."""

from __future__ import annotations

import os
import re
from pathlib import Path

from expunge_agent.devices import raid
from expunge_agent.devices.nodes import Node, by_number
from expunge_agent.devices.roots import LIVE, Roots, read_text

_DRIVER = "ufshcd"
"""proc_name of the host template (drivers/ufs/core/ufshcd.c)."""


def is_ufs(disk: Node) -> bool:
    """Whether `disk` is a logical unit of a UFS device: its host is the UFS driver's, or its SCSI device has a
    unit descriptor in sysfs (Documentation/ABI/testing/sysfs-driver-ufs)."""
    return raid.controller(disk) == _DRIVER or (disk.folder / "device/unit_descriptor").is_dir()


def serial(disk: Node) -> str:
    """The serial number of the device whose logical unit `disk` is, which all its units share; empty where it has none.

    It is a string descriptor (JESD220, iSerialNumber), for UFS units need not have VPD pages with names. Linux
    prints an empty one as ``(null)``.
    """
    told = (read_text(folder / "string_descriptors/serial_number") for folder in disk.parents())
    return next((text for text in told if text and text != "(null)"), "")


def unit(disk: Node) -> str:
    """Which logical unit of its device it is, such as ``lun3``."""
    return f"lun{(disk.folder / 'device').resolve().name.rpartition(':')[2]}"


def fully_provisioned(disk: Node) -> bool:
    """Whether the unit descriptor has thin provisioning disabled (JESD220, bProvisioningType 00h): it then
    takes no UNMAP, and a purge reaches nothing of it."""
    return read_text(disk.folder / "device/unit_descriptor/provisioning_type") == "0x00"


def query_node(disk: Node) -> Path | None:
    """The node that takes query requests for the device of `disk` (``ufs-bsgN``, N the SCSI host's number); None
    where there is none (kernel without CONFIG_SCSI_UFS_BSG)."""
    host = next((one for one in disk.parents() if re.fullmatch(r"host\d+", one.name)), None)
    if host is None or not is_ufs(disk):
        return None
    name = f"ufs-bsg{host.name.removeprefix('host')}"
    return Path("/dev/bsg") / name if (disk.roots.sys / "class/bsg" / name).exists() else None


def query_node_of(fd: int, roots: Roots = LIVE) -> Path | None:
    """The same for the block device open at `fd`."""
    number = os.fstat(fd).st_rdev
    node = by_number(f"{os.major(number)}:{os.minor(number)}", roots)
    return query_node(node.disk) if node is not None else None
