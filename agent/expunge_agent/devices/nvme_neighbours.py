"""Namespaces of one NVM subsystem that the kernel shows, whichever of its controllers they are attached to."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from expunge_agent.core.drive import Drive, NvmeNamespace
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import link_name, names, read_int, read_text
from expunge_agent.protocol.canonical import U64


def with_neighbours(drive: Drive, disk: Node) -> Drive:
    """`drive`, which was asked by its namespace `disk`, with the block device of each namespace, and with those the
    kernel shows beside it that this controller does not list: a namespace may be private to another one.

    A second path to a namespace (same NSID, same name in the world) is not counted again.
    """
    beside = neighbours(disk)
    first: dict[int, Node] = {}
    for one in sorted(
        beside, key=lambda one: one.folder.parent != disk.folder.parent
    ):  # the controller's own first
        first.setdefault(read_int(one.folder / "nsid"), one)
    first[read_int(disk.folder / "nsid")] = disk
    listed = [
        replace(one, node=first[one.nsid].name) if one.nsid in first and not one.node else one
        for one in drive.namespaces
    ]
    known = {one.nsid for one in listed}
    more = [_shown(one) for one in beside if _is_another(one, first[read_int(one.folder / "nsid")], known)]
    return replace(drive, namespaces=[*listed, *more])


def neighbours(disk: Node) -> list[Node]:
    """The block devices of every namespace of the subsystem of `disk`, itself among them."""
    home = _subsystem(disk)
    return [
        one
        for one in all_disks(disk.roots)
        if (one.folder / "nsid").exists() and (one == disk or _subsystem(one) == home)
    ]


def controllers(disk: Node) -> list[Path]:
    """The folders of the NVMe controllers that lead to `disk`, or may: with the kernel's own multipath, all of the
    subsystem. Empty for what is no NVMe disk."""
    above = disk.folder.parent
    if not (disk.folder / "nsid").exists():
        return []
    if link_name(above / "subsystem") != "nvme-subsystem":
        return [above]
    return [above / name for name in names(above) if (above / name / "transport").exists()]


def _is_another(one: Node, first: Node, known: set[int]) -> bool:
    """Whether `one` is a namespace that is not listed; `first` is what stands for its number. Those of other
    controllers may have one number and be two (Base 2.0 §3.2.1.5), which their names tell."""
    if one == first:
        return read_int(one.folder / "nsid") not in known
    name = read_text(one.folder / "wwid")
    return not name or name != read_text(first.folder / "wwid")


def _shown(one: Node) -> NvmeNamespace:
    return NvmeNamespace(
        nsid=read_int(one.folder / "nsid"),
        attached=True,
        size=U64(one.size),
        sector=max(read_int(one.folder / "queue/logical_block_size", 0), 0),
        node=one.name,
    )


def known_subsystem(disk: Node) -> Path | None:
    """The folder of the subsystem: above the disk with the kernel's own multipath; else the one that links to the
    controller (nvme_init_subsystem in drivers/nvme/host/core.c). None where the kernel shows none."""
    above = disk.folder.parent
    if link_name(above / "subsystem") == "nvme-subsystem":
        return above
    systems = disk.roots.sys / "class/nvme-subsystem"
    found = (systems / name for name in names(systems) if (systems / name / above.name).exists())
    return next((one.resolve() for one in found), None)


def _subsystem(disk: Node) -> Path:
    """The same; the folder of the controller where there is none."""
    return known_subsystem(disk) or disk.folder.parent
