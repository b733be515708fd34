"""eMMC devices and SD cards in sysfs: the card itself, and its areas, which the kernel shows as disks of their own."""

from __future__ import annotations

from pathlib import Path

from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import names, read_int


def card(disk: Node) -> Path:
    """The folder of the card that `disk` is or is an area of (Documentation/driver-api/mmc/mmc-dev-attrs.rst).

    ``device`` of an area leads to the disk of the user area, not to the card.
    """
    for folder in disk.parents():
        if (folder / "cid").exists():
            return folder
    return disk.folder / "device"


def user_area(disk: Node) -> Node:
    """The disk of the user area of the card that `disk` is or is an area of."""
    above = Node(disk.roots, disk.folder.parent)
    return above if (above.folder / "dev").exists() and (above.folder / "queue").is_dir() else disk


def area(disk: Node) -> str:
    """``boot0``, ``boot1``, ``gp0`` … for a boot or general purpose partition of an eMMC; empty for the user area."""
    user = user_area(disk)
    return "" if user == disk else disk.name.removeprefix(user.name)


def beside(disk: Node) -> list[str]:
    """The kernel's names of the areas beside the user area `disk`: boot, general purpose, and RPMB, which is no disk."""
    below = [Node(disk.roots, disk.folder / name) for name in names(disk.folder)]
    disks = [one.name for one in below if (one.folder / "queue").is_dir() and (one.folder / "dev").exists()]
    rpmb = f"{disk.name}rpmb"
    return sorted([*disks, *([rpmb] if rpmb in names(card(disk)) else [])])


def forced_read_only(disk: Node) -> bool:
    """Whether it is read-only because Linux was told so, as boot partitions are from the start, and not by a switch or fuse."""
    return read_int(disk.folder / "force_ro", 0) == 1
