"""The tree of what stands on a device, with all that decides whether it may be taken down."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

from expunge_agent.core.deactivation import MountedAt, Over, Standing, Surface, Swap
from expunge_agent.devices import ioctls, mount_tree, mounts, overlays, stack, usage, volumes
from expunge_agent.devices.mounts import Mount, unescape
from expunge_agent.devices.nodes import Node, by_number, family, number_of_path
from expunge_agent.devices.occupants import Occupants
from expunge_agent.devices.roots import Roots, link_name, read_bytes, read_text
from expunge_agent.devices.usage import Eyes

_DEPTH = 16
_WHOLE = "a holder of the whole drive"
_WRITE_BACK = "the backing store of zram"
_TOO_DEEP = "a stack too deep to follow"
_OURS = "self"
"""This process, where it sees a copy of the machine's mounts that does not follow them."""

_WHICH = ("dm/uuid", "md/uuid", "loop/backing_file")
"""What tells a device from another one that gets its number later: a loop device is its file."""


def standing_on(node: Node, eyes: Eyes) -> Standing:
    """`node` and everything that stands on it, files of its file systems that are devices again among it."""
    return _Builder(node, eyes).tree()


def standing_at(path: str, eyes: Eyes) -> Standing | None:
    """The same for the block device at `path`; None where there is none."""
    node = by_number(number_of_path(path, eyes.roots), eyes.roots)
    return standing_on(node, eyes) if node is not None else None


def surface(eyes: Eyes) -> Surface:
    """What of the machine a plan depends on."""
    found = re.search(rb"^MemAvailable:\s*(\d+) kB$", read_bytes(eyes.roots.proc / "meminfo"), re.MULTILINE)
    return Surface(
        points=tuple(one.point for one in mount_tree.acting(eyes.mounts)),
        available=int(found[1]) * 1024 if found else 0,
    )


def swap_areas(roots: Roots) -> list[Swap]:
    """All active swap areas with what is in them (proc_swaps(5): kilobytes)."""
    found = []
    for line in read_bytes(roots.proc / "swaps").split(b"\n")[1:]:
        fields = line.split()
        if len(fields) >= 4:
            found.append(Swap(path=unescape(fields[0]), used=int(fields[3]) * 1024))
    return found


class _Builder:
    """One walk up from a device."""

    def __init__(self, root: Node, eyes: Eyes) -> None:
        self._root = root
        self._eyes = eyes
        self._occupants = Occupants(eyes.roots)
        self._swaps = swap_areas(eyes.roots)
        self._acting = mount_tree.acting(eyes.mounts)
        self._every = [*eyes.mounts.mounts, *eyes.mounts.copies]
        self._own = family(root, eyes.disks).numbers

    def tree(self) -> Standing:
        """The whole of it."""
        found = self._layer(self._root, 0)
        extra = [_unknown(one, _WHOLE) for one in self._root.disk.holders if self._root.is_partition]
        kin = family(self._root, self._eyes.disks)
        extra += [
            Standing(name=name, kind=_WRITE_BACK, path=name) for name in usage.zram_over(kin, self._eyes)
        ]
        return _with_layers(found, extra)

    def _layer(self, node: Node, depth: int) -> Standing:
        if depth > _DEPTH:
            return _unknown(node, _TOO_DEEP)
        eyes = self._eyes
        numbers = frozenset([node.number]) if node.number else frozenset[str]()
        above = [*node.partitions, *node.holders, *eyes.loops_over.get(node.number, ())]
        swaps = tuple(one for one in self._swaps if number_of_path(one.path, eyes.roots) == node.number)
        seen = self._mounts_on(numbers)
        at_rest = not (above or seen or swaps)
        return Standing(
            name=node.name,
            kind=stack.kind(node),
            path=str(node.path),
            label=read_text(node.folder / "dm/name"),
            uuid=next((one for one in (read_text(node.folder / file) for file in _WHICH) if one), ""),
            system=usage.system_reason(numbers, eyes),
            pool=eyes.zfs.get(node.number, ""),
            opened_by=eyes.open_now.of_devices(numbers).processes,
            mounts=tuple(self._mounted(one, node, depth) for one in seen),
            swaps=swaps,
            held=at_rest and eyes.roots.live and ioctls.is_claimed(str(node.path)),
            beside=self._beside(node) if node != self._root else (),
            cache_set=link_name(node.folder / "bcache/set"),
            layers=tuple(self._layer(one, depth + 1) for one in above),
        )

    def _mounts_on(self, numbers: frozenset[str]) -> list[Mount]:
        """The mounts to take down, and those elsewhere that would stay when that is done."""
        roots = self._eyes.roots
        gone = mounts.mounts_of_devices(self._acting, numbers, roots)
        ids = {one.mount_id for one in gone}
        others = [
            one for one in mounts.mounts_of_devices(self._every, numbers, roots) if one.mount_id not in ids
        ]
        stay = [one for one in others if mount_tree.astray(one, gone, self._eyes.mounts)]
        return [*gone, *({one.namespace: one for one in stay}.values())]

    def _mounted(self, mount: Mount, node: Node, depth: int) -> MountedAt:
        if mount.mount_id and mount not in self._acting:
            return MountedAt(point=mount.point, namespace=mount.namespace or _OURS)
        over = tuple(Over(one.mount_id, one.point) for one in mount_tree.hiding(mount, self._acting))
        found = MountedAt(point=mount.point, mount_id=mount.mount_id, over=over)
        if not self._eyes.roots.live:
            return found
        numbers = {mount.number, mount_tree.device_of(mount, self._eyes.roots)} - {""}
        return replace(
            found,
            users=self._occupants.of(frozenset(numbers)),
            layers=tuple(self._layer(one, depth + 1) for one in self._loops_in(numbers)),
            swaps=tuple(one for one in self._swaps if _file_on(one.path) in numbers),
            beside=self._members_beside(node),
            overlays=tuple(one.title for one in overlays.over(mount, numbers, self._eyes.mounts)),
        )

    def _loops_in(self, numbers: Iterable[str]) -> list[Node]:
        """Loop devices over regular files of the file system with these numbers."""
        found = []
        for disk in self._eyes.disks:
            if disk.backing_file and disk != self._root.disk:
                backing = ioctls.loop_backing(str(disk.path))
                if backing is not None and _number(backing.device) in numbers:
                    found.append(disk)
        return found

    def _beside(self, node: Node) -> tuple[str, ...]:
        """Drives and partitions off the target that `node` is built on too."""
        found = {leaf.number: leaf for leaf in volumes.leaves(node)} if volumes.slaves(node) else {}
        return tuple(volumes.title(one) for number, one in found.items() if number not in self._own)

    def _members_beside(self, node: Node) -> tuple[str, ...]:
        """Further devices of a btrfs that `node` is one of."""
        for members in self._btrfs:
            if node.number in members:
                others = members - self._own
                return tuple(volumes.title(one) for one in self._nodes(others))
        return ()

    @cached_property
    def _btrfs(self) -> list[frozenset[str]]:
        return list(mounts.btrfs_members(self._eyes.roots).values())

    def _nodes(self, numbers: frozenset[str]) -> list[Node]:
        every = [one for disk in self._eyes.disks for one in (disk, *disk.partitions)]
        return [one for one in every if one.number in numbers]


def _unknown(node: Node, kind: str) -> Standing:
    return Standing(name=node.name, kind=kind, path=str(node.path))


def _with_layers(found: Standing, extra: list[Standing]) -> Standing:
    return replace(found, layers=(*found.layers, *extra)) if extra else found


def _file_on(path: str) -> str:
    """The file system of a swap file; empty for a device."""
    try:
        seen = os.stat(path)  # noqa: PTH116 - may hold surrogates
    except (OSError, ValueError):
        return ""
    return "" if seen.st_rdev else _number(seen.st_dev)


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"
