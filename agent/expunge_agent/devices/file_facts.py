"""What the kernel says of the ground that files stand on, and of each of them, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from expunge_agent.core.file_reach import REMOTE, FileFacts, Part
from expunge_agent.devices import ioctls, mounts
from expunge_agent.devices.ground import ground_of
from expunge_agent.devices.sharing import Sharers
from expunge_agent.devices.usage import Eyes

__all__ = ["Users", "closed_below", "facts_of", "ground_of"]


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
            if not mount.namespace and mount.root != "/" and not _waits(mount):
                _note(used, mount.point, f"it is mounted on {mount.point}")
        for disk in eyes.disks:
            backing = ioctls.loop_backing(str(disk.path)) if disk.backing_file else None
            if backing is not None:
                used[backing.device, backing.inode] = f"it backs the loop device {disk.path}"
        return cls(used)


def _waits(mount: mounts.Mount) -> bool:
    """Whether a look at it may wait for a server or a program; nothing of it is overwritten in any case."""
    return mount.fstype in REMOTE or mount.fstype.startswith("fuse")


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
    sharers: Sharers,
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
        sharing=sharers.of(fd, parts),
        snapshotted=sharers.snapshotted(fd, parts),
    )
