"""Who uses a device or a file: everything the guard's rules ask about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.medium import Kind, Usage
from expunge_agent.devices import ioctls, mmc, mounts, multipath, overlays, zfs
from expunge_agent.devices.nodes import (
    Family,
    Node,
    all_disks,
    by_number,
    family,
    loops_by_backing_number,
    number_of_path,
)
from expunge_agent.devices.openers import Index
from expunge_agent.devices.paths import Walked, walk
from expunge_agent.devices.roots import LIVE, Roots, read_int, read_text

_MAX_NESTING = 8
"""A loop device over a file over a loop device … deeper than this is given up on, and refused."""


@dataclass(frozen=True)
class Eyes:
    """What is looked at once and used for several targets; nothing is taken from it to the next step of a run."""

    roots: Roots
    system: SystemPaths
    mounts: mounts.Mounts

    @classmethod
    def open(cls, roots: Roots = LIVE, system: SystemPaths | None = None) -> Eyes:
        """Read the mount tables now."""
        return cls(roots=roots, system=system or SystemPaths(), mounts=mounts.all_mounts(roots))

    @cached_property
    def disks(self) -> list[Node]:
        """Every whole disk, empty ones too."""
        return all_disks(self.roots)

    @cached_property
    def open_now(self) -> Index:
        """What other processes have open, as it is when first asked."""
        return Index(self.roots)

    @cached_property
    def loops_over(self) -> Mapping[str, list[Node]]:
        """Loop devices over block devices, by the number of the device below."""
        return loops_by_backing_number(self.disks)

    @cached_property
    def paths(self) -> Mapping[str, tuple[Node, ...]]:
        """Disks that are reached by several paths: see `multipath.groups`."""
        return multipath.groups(self.disks)

    @cached_property
    def zfs(self) -> Mapping[str, str]:
        """The ZFS pool of each member device, by ``major:minor``."""
        return zfs.pools(self.roots)


def of_block(node: Node, path: str, eyes: Eyes, depth: int = 0) -> Usage:
    """The usage of the block device `node`, seen at `path`; that of further paths to the same disk included."""
    return _with_paths(_of_path(node, path, eyes, depth), node, eyes, depth)


def elsewhere(node: Node, path: str, eyes: Eyes) -> Usage:
    """Who uses the same data as `node` by another way, and so stays when all that stands on `node` is taken down:
    what it loops over, and further paths to the disk."""
    own, every = _itself(node, path, eyes), of_block(node, path, eyes)

    def others(name: str) -> tuple[str, ...]:
        return tuple(one for one in getattr(every, name) if one not in getattr(own, name))

    return Usage(
        path=path,
        kind=Kind.BLOCK,
        mounts=others("mounts"),
        swaps=others("swaps"),
        holders=others("holders"),
        loops=others("loops"),
        opened_by=others("opened_by"),
    )


def used_elsewhere(path: str, eyes: Eyes) -> Usage | None:
    """`elsewhere` of the block device at `path`; None where there is none."""
    node = by_number(number_of_path(path, eyes.roots), eyes.roots)
    return elsewhere(node, path, eyes) if node is not None else None


def _with_paths(usage: Usage, node: Node, eyes: Eyes, depth: int) -> Usage:
    for other in eyes.paths.get(node.disk.number, ()):
        same = multipath.same_part(other, node) if other != node.disk else None
        if same is not None:
            usage = _both(usage, _of_path(same, str(same.path), eyes, depth))
    return usage


def _of_path(node: Node, path: str, eyes: Eyes, depth: int) -> Usage:
    return _with_backing(_itself(node, path, eyes), node, eyes, depth)


def _itself(node: Node, path: str, eyes: Eyes) -> Usage:
    """The usage of the device alone, not of what it loops over."""
    kin = family(node, eyes.disks)
    numbers = kin.numbers
    seen = mounts.mounts_of_devices(eyes.mounts.mounts, numbers, eyes.roots)
    opened = eyes.open_now.of_devices(numbers)
    return Usage(
        path=path,
        kind=Kind.BLOCK,
        mounts=_unique(mount.title for mount in seen),
        swaps=tuple(mounts.swaps_of_devices(numbers, eyes.roots)),
        holders=tuple(holder.title for holder in kin.holders) + zram_over(kin, eyes) + _zfs_over(kin, eyes),
        partitions=tuple(part.title for part in node.partitions),
        loops=tuple(str(loop.path) for loop in kin.loops),
        opened_by=opened.processes,
        read_only=_block_read_only(node),
        writable=not eyes.roots.live or os.access(path, os.R_OK | os.W_OK, effective_ids=True),
        system=system_reason(numbers, eyes),
        notes=_blind_spots(eyes, opened.unseen),
    )


def of_file(walked: Walked, seen: os.stat_result, eyes: Eyes) -> Usage:
    """The usage of the regular file that `walked` found and `seen` describes."""
    opened = eyes.open_now.of_file(seen)
    return Usage(
        path=walked.path,
        kind=Kind.FILE,
        symlinks=walked.symlinks,
        real_path=walked.real_path,
        mounts=_unique(mount.title for mount in mounts.mounts_of_file(eyes.mounts.mounts, seen, eyes.roots)),
        swaps=tuple(mounts.swaps_of_file(seen, eyes.roots)),
        loops=tuple(_loops_over_file(walked.path, seen, eyes)),
        opened_by=opened.processes,
        read_only=_file_read_only(walked.path),
        writable=os.access(walked.path, os.R_OK | os.W_OK, effective_ids=True),
        hard_links=seen.st_nlink,
        system=eyes.system.file_reason(walked.path),
        notes=_blind_spots(eyes, opened.unseen),
    )


def _with_backing(usage: Usage, node: Node, eyes: Eyes, depth: int) -> Usage:
    """`usage` of a loop device, joined with that of what it loops over: writing to one writes to the other."""
    backing = node.disk.backing_file
    if not backing:
        return usage
    if depth >= _MAX_NESTING:
        return replace(usage, holders=(*usage.holders, "a stack of loop devices too deep to follow"))
    if under := by_number(number_of_path(backing, eyes.roots), eyes.roots):
        other = of_block(under, str(under.path), eyes, depth + 1)
    elif (walked := walk(backing)).kind is Kind.FILE and walked.seen is not None and eyes.roots.live:
        other = of_file(walked, walked.seen, eyes)
    else:
        return usage
    own = (str(node.disk.path), *(str(part.path) for part in node.disk.partitions))
    together = _both(usage, other)
    return replace(together, loops=tuple(loop for loop in together.loops if loop not in own))


def _both(usage: Usage, other: Usage) -> Usage:
    """`usage` with the users that `other`, which leads to the same data, has as well."""
    return replace(
        usage,
        mounts=_unique((*usage.mounts, *other.mounts)),
        swaps=_unique((*usage.swaps, *other.swaps)),
        holders=_unique((*usage.holders, *other.holders)),
        loops=_unique((*usage.loops, *other.loops)),
        opened_by=_unique((*usage.opened_by, *other.opened_by)),
        read_only=usage.read_only or other.read_only,
        system=usage.system or other.system,
    )


def _loops_over_file(path: str, seen: os.stat_result, eyes: Eyes) -> Iterable[str]:
    """Loop devices over this file: by inode where the loop device may be asked, by path otherwise."""
    for disk in eyes.disks:
        named = disk.backing_file
        if not named:
            continue
        backing = ioctls.loop_backing(str(disk.path)) if eyes.roots.live else None
        if backing is not None:
            over = (backing.device, backing.inode) == (seen.st_dev, seen.st_ino)
        else:
            over = named == path
        if over:
            yield str(disk.path)


def system_reason(numbers: frozenset[str], eyes: Eyes) -> str:
    """Why a family of devices belongs to the system, asked of stat(2) and not only of the mount table."""
    own = eyes.mounts.mounts
    on_it = [m for m in mounts.mounts_of_devices(own, numbers, eyes.roots) if not m.namespace]
    if reason := eyes.system.device_reason([m.point for m in on_it]):
        return reason
    if not eyes.roots.live:
        return ""
    for mount in on_it:
        for overlay in overlays.over(mount, {mount.number}, eyes.mounts):
            if not overlay.namespace and eyes.system.device_reason([overlay.point]):
                return f"the overlay that is the system's {overlay.point} has a directory of it"
    for point in (*eyes.system.mounts, *eyes.system.own):
        try:
            device = os.stat(point).st_dev  # noqa: PTH116
        except OSError:
            continue
        if f"{os.major(device)}:{os.minor(device)}" in numbers:
            return f"{point} lies on it"
    return ""


def zram_over(kin: Family, eyes: Eyes) -> tuple[str, ...]:
    """zram devices that write back to one of the family (Documentation/admin-guide/blockdev/zram.rst)."""
    found = []
    for disk in eyes.disks:
        backing = read_text(disk.folder / "backing_dev")
        if backing.startswith("/") and number_of_path(backing, eyes.roots) in kin.numbers:
            found.append(f"{disk.name} (write-back)")
    return tuple(found)


def _zfs_over(kin: Family, eyes: Eyes) -> tuple[str, ...]:
    """The imported ZFS pools that one of the family belongs to."""
    pools = {eyes.zfs[number] for number in kin.numbers if number in eyes.zfs}
    return tuple(f"the ZFS pool {pool}" for pool in sorted(pools))


def _block_read_only(node: Node) -> str:
    if read_int(node.folder / "ro", 0) == 1 or read_int(node.disk.folder / "ro", 0) == 1:
        if mmc.forced_read_only(node.disk):
            return f"the kernel holds the device read-only (echo 0 > /sys/block/{node.disk.name}/force_ro lifts it)"
        return "the kernel holds the device read-only"
    return ""


def _file_read_only(path: str) -> str:
    try:
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "its file system is mounted read-only"
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        flags = ioctls.file_flags(fd)
    finally:
        os.close(fd)
    if flags & ioctls.FS_IMMUTABLE:
        return "the file is immutable (chattr +i)"
    return "the file is append-only (chattr +a)" if flags & ioctls.FS_APPEND else ""


def _blind_spots(eyes: Eyes, unseen_openers: int) -> tuple[str, ...]:
    notes = []
    if unseen_openers:
        notes.append(f"open files of {unseen_openers} processes could not be looked at without more rights")
    if eyes.mounts.unseen:
        notes.append(f"mounts of {eyes.mounts.unseen} processes could not be looked at without more rights")
    return tuple(notes)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
