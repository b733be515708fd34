"""Several ways to one disk: paths with the same world wide name are one medium."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from expunge_agent.core.doubts import filler
from expunge_agent.devices import describe
from expunge_agent.devices.nodes import Node
from expunge_agent.devices.nvme_neighbours import known_subsystem
from expunge_agent.devices.roots import read_text
from expunge_agent.protocol.identity import BlockIdentity


def groups(disks: Iterable[Node]) -> Mapping[str, tuple[Node, ...]]:
    """The paths of each disk that has more than one, by the ``major:minor`` of each path.

    Paths agree in everything that the disk says of itself, name and serial number among it: drives
    that merely share a careless maker's world wide name differ in serial number or size. The hidden
    paths of NVMe's own multipath are no disks here.
    """
    by_name: dict[tuple[str, Path | None], list[Node]] = {}
    for disk in disks:
        if (name := _name(disk))[0]:
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


def map_over(paths: Iterable[Node]) -> Node | None:
    """The multipath map (multipath-tools, device mapper) that holds one of `paths`."""
    return next((holder for path in paths for holder in path.holders if is_map(holder)), None)


def is_map(node: Node) -> bool:
    """Whether `node` is such a map: they have UUIDs of their own (libmultipath/dm-generic.h)."""
    return read_text(node.folder / "dm/uuid").startswith("mpath-")


def _name(disk: Node) -> tuple[str, Path | None]:
    """The world wide name of a SCSI disk or an NVMe namespace; empty for others and for names made of filler.

    What the kernel makes up for a namespace without one (``nvme.``: vendor, serial number, model, NSID) is no better
    than the serial number, so that the subsystem, where it is known, has to be the same too.
    """
    name = read_text(disk.folder / "wwid") or read_text(disk.folder / "device/wwid")
    kind, dot, digits = name.partition(".")
    if not dot or kind not in ("naa", "eui", "uuid", "nvme") or len(set(digits.strip("0"))) < 2:
        return "", None
    if kind != "nvme":
        return name, None
    return ("", None) if filler(describe.identity(disk).serial) else (name, known_subsystem(disk))
