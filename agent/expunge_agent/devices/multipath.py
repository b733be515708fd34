"""Several ways to one disk: paths with the same world wide name are one medium."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from expunge_agent.devices import describe
from expunge_agent.devices.nodes import Node
from expunge_agent.devices.roots import read_text
from expunge_agent.protocol.identity import BlockIdentity


def groups(disks: Iterable[Node]) -> Mapping[str, tuple[Node, ...]]:
    """The paths of each disk that has more than one, by the ``major:minor`` of each path.

    Paths agree in everything that the disk says of itself, name and serial number among it: drives
    that merely share a careless maker's world wide name differ in serial number or size. The hidden
    paths of NVMe's own multipath are no disks here.
    """
    by_name: dict[str, list[Node]] = {}
    for disk in disks:
        if name := _name(disk):
            by_name.setdefault(name, []).append(disk)
    found: dict[str, tuple[Node, ...]] = {}
    for several in by_name.values():
        if len(several) < 2:
            continue
        by_identity: dict[BlockIdentity, list[Node]] = {}
        for disk in several:
            by_identity.setdefault(describe.identity(disk), []).append(disk)
        for who, paths in by_identity.items():
            if len(paths) > 1 and who.serial and who.wwn:
                found.update({path.number: tuple(paths) for path in paths})
    return found


def same_part(path: Node, node: Node) -> Node | None:
    """What stands for `node` (a disk or a partition of it) on another `path` to the same disk."""
    if not node.is_partition:
        return path
    number = read_text(node.folder / "partition")
    return next((part for part in path.partitions if read_text(part.folder / "partition") == number), None)


def _name(disk: Node) -> str:
    """The world wide name of a SCSI disk; empty for others and for names made of filler."""
    name = read_text(disk.folder / "device/wwid")
    _kind, dot, digits = name.partition(".")
    return name if dot and name.startswith(("naa.", "eui.")) and len(set(digits.strip("0"))) > 1 else ""
