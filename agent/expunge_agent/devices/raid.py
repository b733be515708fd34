"""Volumes that a RAID controller makes up, and the physical drives that its driver shows behind them.

What tells a volume from a drive passed through is the driver's own convention, read from the Linux
sources: hpsa and smartpqi have ``raid_level`` (``N/A`` for a physical drive); megaraid_sas puts virtual
drives on channels from 2 on (MEGASAS_MAX_PD_CHANNELS); mpt2sas, mpt3sas and mptsas put volumes on
channel 1 (RAID_CHANNEL); aacraid puts containers on channel 0 (CONTAINER_CHANNEL).
"""

from __future__ import annotations

import re
from pathlib import Path

from expunge_agent.devices import vpd
from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import names, read_bytes, read_text

_ALWAYS = (
    "3w-9xxx", "3w-sas", "3w-xxxx", "arcmsr", "cciss", "DAC960", "gdth", "hptiop", "ips", "mvumi", "myrb",
    "nvraid", "stex",
)  # fmt: skip
"""Drivers whose disks are volumes without exception."""
_BY_LEVEL = ("hpsa", "smartpqi", "myrs")
_ADDRESS = re.compile(r"^(\d+):(\d+):(\d+):(\d+)$")


def controller(node: Node) -> str:
    """The driver of the SCSI host adapter that `node` hangs on, as it calls itself; empty for others."""
    host = _host(node)
    return read_text(host / "scsi_host" / host.name / "proc_name") if host else ""


def is_volume(node: Node) -> bool:
    """Whether the disk is a volume of a RAID controller rather than a drive."""
    disk = node.disk
    if disk.name.startswith(("cciss/", "rd/", "ida/")):
        return True
    driver, address = controller(disk), _address(disk)
    if driver in _ALWAYS:
        return True
    if driver in _BY_LEVEL:
        return read_text(disk.folder / "device/raid_level") not in ("", "N/A")
    if address is None:
        return False
    channel = address[1]
    if driver == "megaraid_sas":
        return channel >= 2
    if driver in ("mpt2sas", "mpt3sas", "mptsas", "mptspi"):
        return channel == 1
    return driver == "aacraid" and channel == 0


def members(node: Node) -> list[str]:
    """Physical disks that the driver shows next to the volume without making block devices of them.

    ``<sg node> <vendor model> <serial>`` each: those of the same controller, which need not all be
    members of this very volume. Empty where the driver keeps them to itself, as megaraid_sas does.
    """
    address = _address(node.disk)
    if address is None or not is_volume(node):
        return []
    devices = node.roots.sys / "bus/scsi/devices"
    found = []
    for name in names(devices):
        parsed = _ADDRESS.match(name)
        if parsed is None or int(parsed[1]) != address[0]:
            continue
        folder = devices / name
        if read_text(folder / "type") == "0" and not names(folder / "block"):
            found.append(_title(folder))
    return found


def _title(folder: Path) -> str:
    generic = names(folder / "scsi_generic")
    words = (
        generic[0] if generic else folder.name,
        read_text(folder / "vendor"),
        read_text(folder / "model"),
        vpd.unit_serial(read_bytes(folder / "vpd_pg80")),
    )
    return " ".join(word for word in words if word)


def _host(node: Node) -> Path | None:
    return next((folder for folder in node.parents() if re.fullmatch(r"host\d+", folder.name)), None)


def _address(disk: Node) -> tuple[int, int, int, int] | None:
    """Host, channel, target and unit of a SCSI disk."""
    for folder in disk.parents():
        if parsed := _ADDRESS.match(folder.name):
            return int(parsed[1]), int(parsed[2]), int(parsed[3]), int(parsed[4])
    return None
