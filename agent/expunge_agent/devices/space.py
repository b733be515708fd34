"""Looking at a mounted file system whose free space is to be filled: nothing is written, nothing followed."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.medium import Kind, MediumType
from expunge_agent.core.space import FOLDER_PREFIX, Space
from expunge_agent.devices import describe, fsinfo, host
from expunge_agent.devices.mounts import Mount, all_mounts, mount_holding
from expunge_agent.devices.nodes import Node, by_number, number_of_path, resolve
from expunge_agent.devices.paths import Walked, walk
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import LIVE, Roots, names
from expunge_agent.protocol.identity import SpaceIdentity
from expunge_agent.protocol.receipt import Reason, Refusal

PREFIX = "free-space:"


def look_at_space(
    path: str, system: SystemPaths, own_folder: str = "", roots: Roots = LIVE
) -> Space | Refusal:
    """The file system mounted at `path`; a Refusal where there is no folder of one.

    `own_folder`: the name of the order's own hidden folder, which is no leftover of another one.
    """
    walked = walk(path)
    if walked.symlinks:
        return Space(path=walked.path, identity=_nobody(walked.path), symlinks=walked.symlinks)
    if walked.kind is not Kind.DIRECTORY:
        return _no_folder(walked)
    mounts = all_mounts(roots).mounts
    mount = mount_holding(mounts, walked.path, roots)
    if mount is None:
        return Refusal(
            reason=Reason.TARGET_NOT_FOUND,
            detail=f"It cannot be told which file system {walked.path} is of.",
            remedy="Name a mount point that this process can see.",
        )
    if mount.point != walked.path:
        return Space(path=walked.path, identity=_nobody(walked.path, mount), belongs_to=mount.point)
    nodes = _nodes(mount, roots)
    same = [one for one in mounts if _shares(one, mount, nodes, roots)]
    return _seen(walked.path, mount, nodes, same, system, own_folder, roots)


def _seen(
    path: str,
    mount: Mount,
    nodes: list[Node],
    same: list[Mount],
    system: SystemPaths,
    own_folder: str,
    roots: Roots,
) -> Space:
    fd = _opened(path)
    try:
        sizes = os.fstatvfs(fd) if fd >= 0 else os.statvfs(path)
        number = nodes[0].number if len(nodes) == 1 else mount.number
        free_inodes, unknown = _asked_inodes(fd, mount.fstype)
        unit = sizes.f_frsize
        return Space(
            path=path,
            identity=SpaceIdentity(
                path=path,
                device=number,
                filesystem=mount.fstype,
                uuid=fsinfo.fs_uuid(fd, mount.fstype, number, roots),
                host=host.machine_id(roots),
            ),
            type=_type(nodes),
            options=mount.options,
            points=tuple(sorted({one.title for one in same})),
            read_only=bool(sizes.f_flag & os.ST_RDONLY),
            writable=fd >= 0 and os.access(path, os.W_OK | os.X_OK),
            size=sizes.f_blocks * unit,
            free=sizes.f_bfree * unit,
            available=sizes.f_bavail * unit,
            block=unit,
            inodes_free=free_inodes,
            holds_state=_holds(path, same, system.own, roots),
            leftovers=tuple(_leftovers(fd, path, own_folder)),
            features=_features(mount, nodes),
            node=nodes[0].name if len(nodes) == 1 else "",
            notes=(*(note for node in nodes for note in describe.medium(node).notes), *unknown),
        )
    finally:
        if fd >= 0:
            os.close(fd)


def _nodes(mount: Mount, roots: Roots) -> list[Node]:
    """The block devices under it: one, or the members of a btrfs."""
    if mount.fstype == "btrfs":
        for uuid in names(roots.sys / "fs/btrfs"):
            folder = roots.sys / "fs/btrfs" / uuid / "devices"
            members = [node for name in names(folder) if (node := resolve(roots, folder / name)) is not None]
            if number_of_path(mount.source, roots) in {node.number for node in members}:
                return members
    node = by_number(mount.number, roots)
    return [node] if node is not None else []


def _shares(other: Mount, mount: Mount, nodes: list[Node], roots: Roots) -> bool:
    """Whether `other` is a mount of the same file system (bound elsewhere, another subvolume)."""
    if other.number == mount.number:
        return True
    numbers = {node.number for node in nodes}
    return other.fstype == mount.fstype == "btrfs" and number_of_path(other.source, roots) in numbers


def _holds(path: str, same: list[Mount], own: tuple[str, ...], roots: Roots) -> bool:
    """Whether one of the folders `own` lies on it. Where it cannot be told, it does."""
    mounts = all_mounts(roots).mounts
    ids = {one.mount_id for one in same}
    for folder in own:
        if not Path(folder).is_dir():
            continue
        holding = mount_holding(mounts, folder, roots)
        if holding is None or holding.mount_id in ids:
            return True
    return False


def _type(nodes: list[Node]) -> MediumType:
    kinds = {describe.medium(node).type for node in nodes}
    return kinds.pop() if len(kinds) == 1 else MediumType.UNKNOWN


def _features(mount: Mount, nodes: list[Node]) -> frozenset[str]:
    options = set(mount.options.split(","))
    found: set[str] = {name for name in ("data=journal", "discard", "discard=async") if name in options}
    if any(option.startswith("rtdev=") for option in options):
        found.add("realtime")
    if mount.fstype == "ext4" and len(nodes) == 1:
        try:
            found |= fsinfo.ext4_features(str(nodes[0].path))
        except OSError:
            found.add("unread")
    if any(option.startswith("data=") and option != "data=journal" for option in options):
        found.discard("data=journal")  # the mount overrides what the superblock would have
    return frozenset("discard" if name.startswith("discard") else name for name in found)


def _asked_inodes(fd: int, kind: str) -> tuple[int, list[str]]:
    try:
        return (fsinfo.inodes_free(fd, kind), []) if fd >= 0 else (-1, [])
    except OSError as error:
        return -1, [f"its free inodes could not be counted ({error.strerror})"]


def _leftovers(fd: int, path: str, own_folder: str) -> list[str]:
    if fd < 0:
        return []
    return [
        f"{path.rstrip('/')}/{name}"
        for name in sorted(os.listdir(fd))
        if name.startswith(FOLDER_PREFIX) and name != own_folder
    ]


def _opened(path: str) -> int:
    """A descriptor of the folder, −1 where this user may not read it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1


def _nobody(path: str, mount: Mount | None = None) -> SpaceIdentity:
    """Who stands there, as far as it matters for refusing it."""
    return SpaceIdentity(
        path=path,
        device=mount.number if mount else "-",
        filesystem=mount.fstype if mount else "-",
        uuid="",
    )


def _no_folder(walked: Walked) -> Refusal:
    missing = walked.kind in (Kind.MISSING, Kind.HIDDEN)
    seen = walked.seen is not None and stat.S_ISBLK(walked.seen.st_mode)
    return Refusal(
        reason=Reason.TARGET_NOT_FOUND if missing else Reason.WRONG_KIND,
        detail=f"There is nothing at {walked.path}." if missing else f"{walked.path} is not a folder.",
        remedy="Name the mount point of the file system whose free space is meant."
        + (" To wipe the whole device, name it without free-space:." if seen else ""),
    )


@contextmanager
def claimed(space: Space) -> Iterator[None]:
    """Lock every mount point of the file system that this process sees. Raises TargetRefused where one is locked.

    So two processes do not fill one file system, by whatever mount points or subvolumes they know it.
    """
    with ExitStack() as stack:
        inodes: set[tuple[int, int]] = set()
        for point in {space.path, *space.points}:
            if (fd := _opened(point)) < 0:
                continue
            stack.callback(os.close, fd)
            seen = os.fstat(fd)
            if (seen.st_dev, seen.st_ino) in inodes:
                continue
            inodes.add((seen.st_dev, seen.st_ino))
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise TargetRefused(
                    Refusal(
                        reason=Reason.IN_USE,
                        detail=f"Another process already fills the file system of {space.path}.",
                        remedy="Wait for it to end.",
                    )
                ) from error
        yield
