"""What a disk's commands travel over, as sysfs shows it."""

from __future__ import annotations

from expunge_agent.devices import raid, ufs
from expunge_agent.devices.nodes import Node
from expunge_agent.devices.nvme_neighbours import controllers
from expunge_agent.devices.roots import read_text

_HOSTS = ("iscsi", "sas", "fc", "srp", "spi")
"""Transport classes of SCSI hosts: a host of one has a folder NAME_host (drivers/scsi/scsi_transport_*.c)."""
_SUBSYSTEMS = {"usb": "usb", "virtio": "virtio", "vmbus": "vmbus", "xen": "xen", "mmc": "mmc"}
_FABRICS = {"tcp": "TCP", "rdma": "RDMA", "fc": "Fibre Channel", "loop": "the loop driver"}


def transport(node: Node) -> str:
    """``pcie``, ``tcp``, ``rdma``, ``fc`` … of an NVMe disk (several with a comma); ``sas``, ``fc``, ``iscsi``, ``srp``,
    ``spi``, ``ata``, ``usb``, ``ufs``, ``virtio`` … of others; empty where the kernel does not show it.

    The nearest to the disk: ``sas`` for a SATA drive on a SAS adapter, ``usb`` for anything behind a bridge.
    """
    disk = node.disk
    told = sorted({read_text(folder / "transport") for folder in controllers(disk)} - {""})
    if told:
        return ",".join(told)
    parents = list(disk.parents())
    if any((folder / "ata_port").is_dir() for folder in parents):
        return "ata"
    for folder in parents:
        for name in _HOSTS:
            if (folder / f"{name}_host").is_dir():
                return name
    if ufs.is_ufs(disk):
        return "ufs"
    return next((_SUBSYSTEMS[name] for name in disk.subsystems() if name in _SUBSYSTEMS), "")


def remarks(disk: Node) -> list[str]:
    """What to bear in mind of a disk that is reached over a network or a hypervisor, in words."""
    over = transport(disk)
    if over == "iscsi":
        return ["reached over iSCSI: a storage system makes it up"]
    named = [_FABRICS[one] for one in over.split(",") if one in _FABRICS]
    if controllers(disk) and named:
        return [f"reached over NVMe over {' and '.join(named)}: a storage system may make it up"]
    if over == "fc":
        return ["reached over Fibre Channel: a storage system may make it up"]
    if over == "virtio" and raid.controller(disk):
        return ["reached through a hypervisor, which may make it up"]
    return []
