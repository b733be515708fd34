"""What the kernel says of the ground that files stand on, and of each of them, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from expunge_agent.core.file_reach import COPY_ON_WRITE, FS_NOCOW, FileFacts, Ground, Part
from expunge_agent.devices import ioctls, mounts
from expunge_agent.devices.nodes import Node, by_number, number_of_path, resolve
from expunge_agent.devices.roots import names, read_bytes, read_int, read_text
from expunge_agent.devices.usage import Eyes

_DEEP = 8
_BENEATH = {
    "-tpool": "the volume is thin: changed data goes to new places while a snapshot holds the old one",
    "-real": "the volume has a snapshot, which keeps what is changed",
    "-cow": "the volume is a snapshot: changes are kept apart from what they replace",
    "-vpool": "the volume is deduplicated or compressed (VDO): changed data goes to new places",
}
"""By the end of the device-mapper UUID that LVM gives a layer (lib/activate/dev_manager.c)."""


def ground_of(path: str, eyes: Eyes) -> Ground:
    """What files below the directory at `path` stand on."""
    mount = mounts.mount_holding(eyes.mounts.mounts, path, eyes.roots)
    if mount is None:
        return Ground(filesystem="unknown")
    node = _device(mount, eyes)
    queue = node.disk.folder / "queue" if node else None
    options = frozenset((*mount.options.split(","), *_ext4_options(mount, node, eyes)))
    return Ground(
        filesystem=mount.fstype,
        options=options,
        block=os.statvfs(path).f_frsize or 4096,
        swap=bool(mounts.swaps(eyes.roots)),
        flash=queue is not None and read_int(queue / "rotational") == 0,
        discards=any(one.split("=")[0] == "discard" for one in options),
        virtual=node is not None and bool(node.disk.backing_file or names(node.disk.folder / "slaves")),
        beneath=tuple(dict.fromkeys(_beneath(node, eyes))) if node else (),
    )


def _device(mount: mounts.Mount, eyes: Eyes) -> Node | None:
    number = mount.number
    if number.startswith("0:"):
        number = number_of_path(mount.source, eyes.roots) if mount.source.startswith("/") else ""
    return by_number(number, eyes.roots) if number else None


def _ext4_options(mount: mounts.Mount, node: Node | None, eyes: Eyes) -> list[str]:
    """mountinfo leaves out what is a default of this file system (tune2fs -o); this file does not."""
    if not mount.fstype.startswith("ext") or node is None:
        return []
    return read_bytes(eyes.roots.proc / "fs" / mount.fstype / node.folder.name / "options").decode().split()


def _beneath(node: Node, eyes: Eyes, depth: int = 0) -> Iterator[str]:
    """What keeps old data under the device."""
    if depth > _DEEP:
        yield "what lies under the device is too deep to follow"
        return
    disk = node.disk
    if backing := disk.backing_file:
        yield from _under_loop(backing, eyes, depth)
    for name in names(disk.folder / "slaves"):
        below = resolve(eyes.roots, disk.folder / "slaves" / name)
        if below is None:
            continue
        told = read_text(below.folder / "dm/uuid")
        yield from (words for end, words in _BENEATH.items() if told.endswith(end))
        yield from _beneath(below, eyes, depth + 1)


def _under_loop(backing: str, eyes: Eyes, depth: int) -> Iterator[str]:
    mount = mounts.mount_holding(eyes.mounts.mounts, backing, eyes.roots)
    if mount is None:
        return
    if mount.fstype in COPY_ON_WRITE and not _is_nocow(backing):
        yield f"the loop device lies in a file on {mount.fstype}, which writes changes to new places"
    under = _device(mount, eyes)
    if under is not None:
        yield from _beneath(under, eyes, depth + 1)


def _is_nocow(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return bool(ioctls.file_flags(fd) & FS_NOCOW)
    finally:
        os.close(fd)


def closed_below(path: str, eyes: Eyes) -> frozenset[str]:
    """The mount points below the directory at `path`, relative to it."""
    start = path.rstrip("/") + "/"
    return frozenset(
        mount.point.removeprefix(start) for mount in eyes.mounts.mounts if mount.point.startswith(start)
    )


@dataclass(frozen=True)
class Users:
    """Files that the kernel itself uses, by (st_dev, st_ino): swap, loop devices, mounts."""

    used: Mapping[tuple[int, int], str]

    @classmethod
    def now(cls, eyes: Eyes) -> Users:
        """Look at all of them once."""
        used: dict[tuple[int, int], str] = {}
        for path in mounts.swaps(eyes.roots):
            _note(used, path, "it is used as swap")
        for mount in eyes.mounts.mounts:
            if not mount.namespace and mount.root != "/":
                _note(used, mount.point, f"it is mounted on {mount.point}")
        for disk in eyes.disks:
            backing = ioctls.loop_backing(str(disk.path)) if disk.backing_file else None
            if backing is not None:
                used[backing.device, backing.inode] = f"it backs the loop device {disk.path}"
        return cls(used)


def _note(used: dict[tuple[int, int], str], path: str, words: str) -> None:
    try:
        seen = os.lstat(path)
    except (OSError, ValueError):
        return
    used[seen.st_dev, seen.st_ino] = words


def facts_of(
    fd: int,
    seen: os.stat_result,
    parts: list[Part] | None,
    names_here: int,
    system: str,
    users: Users,
    eyes: Eyes,
) -> FileFacts:
    """What is to be known of the regular file behind `fd`; where it lies was asked before."""
    return FileFacts(
        size=seen.st_size,
        parts=parts,
        flags=ioctls.file_flags(fd),
        links=seen.st_nlink,
        names=names_here,
        opened_by=eyes.open_now.of_file(seen).processes,
        used=users.used.get((seen.st_dev, seen.st_ino), ""),
        system=system,
    )
