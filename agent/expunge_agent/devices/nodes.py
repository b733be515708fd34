"""Block devices as sysfs lays them out: names, numbers, and who stands on whom."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from expunge_agent.devices.roots import LIVE, Roots, link_name, names, read_bytes, read_int, read_text

SECTOR = 512
"""sysfs counts in units of 512 bytes whatever the device's sector size (Documentation/ABI/stable/sysfs-block)."""


@dataclass(frozen=True)
class Node:
    """One block device: its resolved folder in sysfs. Two nodes are equal when the folder is."""

    roots: Roots
    folder: Path

    @property
    def name(self) -> str:
        """The kernel's name; sysfs writes the ``/`` of names like cciss/c0d0 as ``!``."""
        return self.folder.name.replace("!", "/")

    @property
    def path(self) -> Path:
        """The device node that devtmpfs makes for it."""
        return self.roots.dev / self.name

    @cached_property
    def number(self) -> str:
        """``major:minor``; empty when the device has gone."""
        return read_text(self.folder / "dev")

    @property
    def size(self) -> int:
        """Bytes; 0 when there is no medium or the device has gone."""
        return max(read_int(self.folder / "size", 0), 0) * SECTOR

    @property
    def is_partition(self) -> bool:
        """Whether it is a part of a disk."""
        return (self.folder / "partition").exists()

    @property
    def disk(self) -> Node:
        """The whole disk it belongs to, or itself."""
        return Node(self.roots, self.folder.parent) if self.is_partition else self

    @property
    def partitions(self) -> list[Node]:
        """Its partitions that the kernel knows, in the order of their numbers."""
        if self.is_partition:
            return []
        own = self.folder.name  # sda1, loop0p1: add_partition() in the kernel's block/partitions/core.c
        found = [Node(self.roots, self.folder / name) for name in names(self.folder) if name.startswith(own)]
        return sorted(
            (node for node in found if node.is_partition),
            key=lambda node: read_int(node.folder / "partition"),
        )

    @property
    def holders(self) -> list[Node]:
        """Devices that device mapper, md or bcache built directly on it."""
        found = (
            resolve(self.roots, self.folder / "holders" / name) for name in names(self.folder / "holders")
        )
        return [node for node in found if node is not None]

    @property
    def backing_file(self) -> str:
        """What a loop device loops over, as the kernel prints it; empty for others."""
        raw = read_bytes(self.folder / "loop/backing_file")
        return os.fsdecode(raw.removesuffix(b"\n"))

    @property
    def driver(self) -> str:
        """The name under which its major number is registered: sd, loop, virtblk, device-mapper …"""
        major = self.disk.number.partition(":")[0]
        block = read_bytes(self.roots.proc / "devices").partition(b"Block devices:")[2]
        for line in block.decode("ascii", "replace").splitlines():
            number, _, name = line.strip().partition(" ")
            if number == major and number:
                return name.strip()
        return ""

    @property
    def title(self) -> str:
        """The name for people: a mapped device with what it is called, and that it is a multipath if so."""
        mapped = read_text(self.folder / "dm/name")
        if mapped and read_text(self.folder / "dm/uuid").startswith("mpath-"):
            return f"{self.name} ({mapped}, multipath)"
        return f"{self.name} ({mapped})" if mapped else self.name

    def parents(self) -> Iterable[Path]:
        """The folders of the devices it hangs on, nearest first, up to the bus's root."""
        top = self.roots.sys.resolve()
        for folder in self.disk.folder.parents:
            if folder == top or top not in folder.parents:
                return
            yield folder

    def subsystems(self) -> list[str]:
        """The kernel subsystems on the way up (``scsi``, ``usb``, ``pci`` …), nearest first."""
        found = (link_name(folder / "subsystem") for folder in self.parents())
        return [name for name in found if name]


def resolve(roots: Roots, link: Path) -> Node | None:
    """The node that `link` (in sysfs) leads to, or None when there is none."""
    try:
        folder = link.resolve(strict=True)
    except OSError:
        return None
    return Node(roots, folder) if (folder / "dev").exists() else None


def by_number(number: str, roots: Roots = LIVE) -> Node | None:
    """The node with this ``major:minor``, or None."""
    return resolve(roots, roots.sys / "dev/block" / number)


def all_disks(roots: Roots = LIVE) -> list[Node]:
    """Every whole disk that sysfs lists, empty and virtual ones too; not the hidden paths of a multipath."""
    found = (resolve(roots, roots.sys / "block" / name) for name in names(roots.sys / "block"))
    return [node for node in found if node is not None and read_int(node.folder / "hidden", 0) != 1]


@dataclass(frozen=True)
class Family:
    """A device and everything that would be destroyed with it.

    ``above``: the disk that a partition belongs to (only its direct use matters, not its other
    partitions). ``members``: the device, its partitions, and all that stands on them.
    """

    above: tuple[Node, ...]
    members: tuple[Node, ...]
    holders: tuple[Node, ...]
    loops: tuple[Node, ...]

    @property
    def numbers(self) -> frozenset[str]:
        """``major:minor`` of all of them."""
        return frozenset(node.number for node in (*self.above, *self.members) if node.number)


def family(node: Node, disks: Iterable[Node] | None = None) -> Family:
    """Who stands on `node`, in any depth: partitions, holders, loop devices over any of them.

    `disks` are `all_disks`, where they have been listed already.
    """
    above = () if node.disk == node else (node.disk,)
    loops_over = loops_by_backing_number(all_disks(node.roots) if disks is None else disks)
    members: list[Node] = []
    holders: list[Node] = [holder for disk in above for holder in disk.holders]
    loops: list[Node] = [loop for disk in above for loop in loops_over.get(disk.number, [])]
    queue = [node, *holders, *loops]
    while queue:
        current = queue.pop(0)
        if current in members:
            continue
        members.append(current)
        over = [loop for loop in loops_over.get(current.number, []) if loop != node]
        holders += [holder for holder in current.holders if holder not in holders]
        loops += [loop for loop in over if loop not in loops]
        queue += [*current.partitions, *current.holders, *over]
    return Family(above=above, members=tuple(members), holders=tuple(holders), loops=tuple(loops))


def loops_by_backing_number(disks: Iterable[Node]) -> dict[str, list[Node]]:
    """Loop devices that loop over a block device, by that device's number."""
    found: dict[str, list[Node]] = {}
    for disk in disks:
        backing = disk.backing_file
        if backing and (number := number_of_path(backing, disk.roots)):
            found.setdefault(number, []).append(disk)
    return found


def number_of_path(path: str, roots: Roots = LIVE) -> str:
    """``major:minor`` of the block device at `path` (links followed); empty when there is none.

    In a recording, where there are no device nodes, the name below /dev is looked up in sysfs.
    """
    if not roots.live:
        node = resolve(roots, roots.sys / "class/block" / path.removeprefix("/dev/").replace("/", "!"))
        return node.number if node else ""
    try:
        seen = os.stat(path)  # noqa: PTH116 - may hold surrogates and newlines
    except (OSError, ValueError):
        return ""
    return (
        f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}" if (seen.st_mode & 0o170000) == 0o060000 else ""
    )
