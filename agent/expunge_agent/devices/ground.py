"""What files, file systems and devices stand on, in any depth: what of it keeps data that is overwritten above."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from expunge_agent.commands.kernel_fiemap import NOT_ANSWERED, extents
from expunge_agent.core.beneath import BackingFile, Beneath, holding
from expunge_agent.core.file_reach import (
    FS_APPEND,
    FS_IMMUTABLE,
    IN_PLACE,
    REMOTE,
    FileFacts,
    Ground,
    Part,
    own,
    reach,
)
from expunge_agent.core.guard import readable
from expunge_agent.core.layout import MOST_EXTENTS
from expunge_agent.core.volume import doubts, forbidden
from expunge_agent.devices import fsinfo, ioctls, mounts
from expunge_agent.devices.nodes import Node, by_number, number_of_path
from expunge_agent.devices.roots import names, read_bytes, read_int
from expunge_agent.devices.sharing import Sharers
from expunge_agent.devices.usage import Eyes
from expunge_agent.devices.volumes import slaves, volume_of
from expunge_agent.protocol.canonical import U64

_DEEP = 16


def ground_of(path: str, eyes: Eyes) -> Ground:
    """What the file at `path`, or files below the directory there, stand on."""
    look = _Look(eyes)
    return look.ground(path, 0, tuple(look.under_path(path).doubts))


def beneath_path(path: str, eyes: Eyes) -> Beneath:
    """What keeps old data under the file system that holds `path`."""
    return _Look(eyes).under_path(path)


def beneath_device(path: str, eyes: Eyes) -> Beneath:
    """What keeps old data under the block device at `path`."""
    node = by_number(number_of_path(path, eyes.roots), eyes.roots)
    if node is None:
        return Beneath(doubts=[f"what lies under {readable(path)} could not be looked at"])
    look = _Look(eyes)
    look.under(node, 0)
    return look.found()


def devices_of(mount: mounts.Mount, eyes: Eyes) -> list[Node]:
    """The block devices under a mounted file system: members of a btrfs, journals and logs of their own too."""
    numbers = [] if mount.number.startswith("0:") else [mount.number]
    numbers += [number for path in mount.sources() if (number := number_of_path(path, eyes.roots))]
    for members in mounts.btrfs_members(eyes.roots).values():
        if members & set(numbers):
            numbers += sorted(members)
    found = (by_number(number, eyes.roots) for number in dict.fromkeys(numbers))
    return [node for node in found if node is not None]


@dataclass
class _Look:
    """One look at everything below; each device and each file is looked at once."""

    eyes: Eyes
    _doubts: dict[str, None] = field(default_factory=dict)
    _files: dict[tuple[str, int], BackingFile] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def found(self) -> Beneath:
        return Beneath(doubts=[one[:4000] for one in self._doubts], files=list(self._files.values()))

    def under_path(self, path: str) -> Beneath:
        mount = mounts.mount_holding(self.eyes.mounts.mounts, path, self.eyes.roots)
        if mount is not None:
            self._under_mount(mount, 0)
        return self.found()

    def ground(self, path: str, depth: int, beneath: Iterable[str] = ()) -> Ground:
        """What the file system at `path` is like; what lies under it is `beneath`, or not said."""
        eyes = self.eyes
        mount = mounts.mount_holding(eyes.mounts.mounts, path, eyes.roots)
        if mount is None:
            return Ground(filesystem="unknown")
        nodes = devices_of(mount, eyes)
        queues = [node.disk.folder / "queue" for node in nodes]
        options = frozenset((*mount.options.split(","), *_ext4_options(mount, nodes, eyes)))
        return Ground(
            filesystem=mount.fstype,
            options=options,
            block=os.statvfs(path).f_frsize or 4096,
            swap=bool(mounts.swaps(eyes.roots)),
            flash=any(read_int(queue / "rotational") == 0 for queue in queues),
            discards=any(one.split("=")[0] == "discard" for one in options),
            virtual=any(node.disk.backing_file or names(node.disk.folder / "slaves") for node in nodes),
            beneath=tuple(beneath),
        )

    def under(self, node: Node, depth: int) -> None:
        """The device at `node` and all below it."""
        if not self._enter(node.number, depth):
            return
        volume = volume_of(node, ask=True)
        if volume is not None:
            if kept := forbidden(volume):
                self._doubt(f"{node.path} does not replace what is overwritten on it: {kept.why}")
            for doubt in doubts(volume):
                self._doubt(doubt)
        self._backing(node, depth)

    def _backing(self, node: Node, depth: int) -> None:
        """Loop devices among all that `node` is built on; the volumes between were judged from above."""
        disk = node.disk
        if disk.backing_file:
            self._under_loop(disk, depth)
        for one in slaves(disk):
            if self._enter(one.number, depth + 1):
                self._backing(one, depth + 1)

    def _enter(self, number: str, depth: int) -> bool:
        if depth > _DEEP:
            self._doubt("what lies under the device is too deep to follow")
            return False
        new = number not in self._seen
        self._seen.add(number)
        return new

    def _under_mount(self, mount: mounts.Mount, depth: int) -> None:
        nodes = devices_of(mount, self.eyes)
        if not nodes and (mount.fstype in IN_PLACE or mount.fstype == "btrfs"):
            self._doubt(f"which device the {mount.fstype} on {readable(mount.point)} lies on is not told")
        for node in nodes:
            self.under(node, depth)

    def _under_loop(self, disk: Node, depth: int) -> None:
        """The file or device that `disk` loops over, if the path that the kernel names still leads to it."""
        backing, asked = disk.backing_file, ioctls.loop_backing(str(disk.path))
        try:
            seen = os.stat(backing)  # noqa: PTH116 - may hold surrogates and newlines
        except (OSError, ValueError):
            seen = None
        if asked is None or seen is None or (seen.st_dev, seen.st_ino) != (asked.device, asked.inode):
            self._unseen(disk, "its path does not lead to it")
        elif number := number_of_path(backing, self.eyes.roots):
            node = by_number(number, self.eyes.roots)
            if node is not None:
                self.under(node, depth + 1)
        else:
            try:
                self._file(disk, backing, (seen.st_dev, seen.st_ino), depth)
            except OSError as error:
                self._unseen(disk, os.strerror(error.errno or 0))

    def _unseen(self, disk: Node, why: str) -> None:
        backing = readable(disk.backing_file, 1000)
        self._doubt(
            f"what {disk.path} lies in ({backing}) could not be looked at, and may keep old data: {why}"
        )

    def _file(self, disk: Node, backing: str, wanted: tuple[int, int], depth: int) -> None:
        """The file under a loop device: judged as a file that is overwritten, and what lies under it. Raises OSError."""
        mount = mounts.mount_holding(self.eyes.mounts.mounts, backing, self.eyes.roots)
        if mount is None:
            self._unseen(disk, "it cannot be told which file system it is on")
            return
        self._under_mount(mount, depth + 1)
        ground = self.ground(backing, depth + 1)
        if ground.filesystem in REMOTE or ground.filesystem.startswith("fuse"):
            # It has no answer; and to open it may wait for its server, and empties the loop device's cache.
            size = os.stat(backing).st_size  # noqa: PTH116 - may hold surrogates and newlines
            self._judge(disk, ground, FileFacts(size=size, parts=None))
            return
        fd = os.open(backing, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            seen = os.fstat(fd)
            if (seen.st_dev, seen.st_ino) != wanted:
                self._unseen(disk, "its path does not lead to it")
                return
            parts = None if ground.memory else _parts(fd, seen.st_size)
            flags = ioctls.file_flags(fd) & ~(FS_IMMUTABLE | FS_APPEND)
            sharers = Sharers(ground.filesystem)
            who, copied = sharers.of(fd, parts), sharers.snapshotted(fd, parts)
        finally:
            os.close(fd)
        facts = FileFacts(size=seen.st_size, parts=parts, flags=flags, sharing=who, snapshotted=copied)
        whole = self._judge(disk, ground, facts)
        if whole and parts is not None:
            shown = readable(backing, 1000)
            device = f"{os.major(seen.st_dev)}:{os.minor(seen.st_dev)}"
            kept = BackingFile(device=device, inode=U64(seen.st_ino), path=shown, extents=holding(parts))
            self._files[kept.key] = kept

    def _judge(self, disk: Node, ground: Ground, facts: FileFacts) -> bool:
        """Whether what is overwritten on the loop device is overwritten in its file; else why not is noted."""
        shown = readable(disk.backing_file, 1000)
        why = reach(ground, facts).why
        for words in why:
            self._doubt(f"{disk.path} lies in the file {shown} on {ground.filesystem}, and of that: {words}")
        return not why

    def _doubt(self, words: str) -> None:
        self._doubts[words] = None


def _parts(fd: int, size: int) -> list[Part] | None:
    """Where the file lies; None where its file system has no answer. Raises OSError."""
    try:
        found = [Part(*one) for one in islice(extents(fd), MOST_EXTENTS + 1)]
    except OSError as error:
        if error.errno in NOT_ANSWERED:
            return None
        raise
    return own(found, size)


def _ext4_options(mount: mounts.Mount, nodes: list[Node], eyes: Eyes) -> list[str]:
    """mountinfo leaves out what is a default of this file system (tune2fs -o); this file does not. Besides ``ea_inode``,
    a feature of the file system that decides where extended attributes go, also where that could not be read."""
    if not mount.fstype.startswith("ext") or not nodes:
        return []
    options = read_bytes(eyes.roots.proc / "fs" / mount.fstype / nodes[0].folder.name / "options")
    try:
        apart = "ea_inode" in fsinfo.ext4_features(str(nodes[0].path))
    except OSError:
        apart = True
    return [*options.decode().split(), *(["ea_inode"] if apart else [])]
