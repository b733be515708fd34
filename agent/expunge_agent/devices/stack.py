"""The whole stack above a medium, as a tree."""

from __future__ import annotations

from expunge_agent.core.stack import Layer
from expunge_agent.devices import mounts
from expunge_agent.devices.nodes import Node, number_of_path
from expunge_agent.devices.roots import read_text
from expunge_agent.devices.usage import Eyes
from expunge_agent.protocol.canonical import U64

_MAPPED = {
    "LVM": "lvm",
    "CRYPT": "crypt",
    "mpath": "multipath",
    "DMRAID": "dmraid",
    "VERITY": "verity",
    "INTEGRITY": "integrity",
}
"""Who made a mapped device, by the first word of its UUID (lvm2, cryptsetup, multipath-tools, dmraid)."""
_DEPTH = 16


def stack(node: Node, eyes: Eyes) -> Layer:
    """`node` and everything the kernel shows to stand on it: partitions, holders, loop devices."""
    return _layer(node, eyes, 0)


def kind(node: Node) -> str:
    """What sort of block device it is, in a word or two."""
    if node.is_partition:
        return "partition"
    if (node.folder / "md").is_dir():
        return f"md {read_text(node.folder / 'md/level')}".strip()
    if (node.folder / "bcache").is_dir() and node.name.startswith("bcache"):
        return "bcache"
    if (node.folder / "dm").is_dir():
        uuid = read_text(node.folder / "dm/uuid")
        maker = uuid.partition("-")[0]
        if maker.startswith("part") and "-mpath-" in uuid:
            return "multipath partition"
        return _MAPPED.get(maker, "device mapper")
    if node.backing_file:
        return "loop"
    return "disk"


def _layer(node: Node, eyes: Eyes, depth: int) -> Layer:
    numbers = frozenset([node.number]) if node.number else frozenset[str]()
    above = [*node.partitions, *node.holders, *eyes.loops_over.get(node.number, ())]
    return Layer(
        name=node.name,
        kind=kind(node),
        path=str(node.path),
        size=U64(node.size),
        label=read_text(node.folder / "dm/name"),
        mounts=[_clean(m.title) for m in mounts.mounts_of_devices(eyes.mounts.mounts, numbers, eyes.roots)],
        swap=any(number_of_path(path, eyes.roots) == node.number for path in mounts.swaps(eyes.roots)),
        pool=eyes.zfs.get(node.number, ""),
        opened_by=list(eyes.open_now.of_devices(numbers).processes),
        layers=[_layer(one, eyes, depth + 1) for one in above] if depth < _DEPTH else [],
    )


def _clean(text: str) -> str:
    """Mount points may hold bytes that no document may."""
    return text.encode("utf-8", "backslashreplace").decode()
