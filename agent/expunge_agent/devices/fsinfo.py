"""What file systems tell of themselves: UUID, free inodes, own reserves, features (Linux uapi headers)."""

from __future__ import annotations

import fcntl
import os
import struct
import uuid
from pathlib import Path

from expunge_agent.devices.nodes import number_of_path
from expunge_agent.devices.roots import LIVE, Roots, names

FS_IOC_GETFSUUID = 0x80111500
EXT4_IOC_GETFSUUID = 0x8008662C
XFS_IOC_FSGEOMETRY_V1 = 0x80705864
XFS_IOC_FSCOUNTS = 0x80205871
XFS_IOC_SET_RESBLKS = 0xC0105872
XFS_IOC_GET_RESBLKS = 0x80105873
BTRFS_IOC_FS_INFO = 0x8400941F
FITRIM = 0xC0185879
_EXT4_SUPERBLOCK = 1024
_EXT4_MAGIC = 0xEF53
_INLINE_DATA = 0x8000
_EA_INODE = 0x400
_BIGALLOC = 0x200
_JOURNAL_MODE, _DATA_JOURNAL = 0x0060, 0x0020


def fs_uuid(fd: int, kind: str, number: str, roots: Roots = LIVE) -> str:
    """The file system's UUID by an open folder of it (−1: none could be opened), else by udev's links; or empty."""
    if fd >= 0:
        for ask in (_plain_uuid, _ASK.get(kind, _plain_uuid)):
            try:
                return str(uuid.UUID(bytes=ask(fd)))
            except (OSError, ValueError):
                continue
    folder = Path("/dev/disk/by-uuid")
    found = [name for name in names(folder) if number_of_path(str(folder / name), roots) == number]
    return found[0] if len(found) == 1 else ""


def _plain_uuid(fd: int) -> bytes:
    answer = fcntl.ioctl(fd, FS_IOC_GETFSUUID, bytes(17))
    return answer[1:17] if answer[0] == 16 else b""


def _ext4_uuid(fd: int) -> bytes:
    buffer = bytearray(24)
    struct.pack_into("=II", buffer, 0, 16, 0)
    fcntl.ioctl(fd, EXT4_IOC_GETFSUUID, buffer)
    return bytes(buffer[8:24])


def _xfs_uuid(fd: int) -> bytes:
    return fcntl.ioctl(fd, XFS_IOC_FSGEOMETRY_V1, bytes(112))[64:80]


def _btrfs_uuid(fd: int) -> bytes:
    return fcntl.ioctl(fd, BTRFS_IOC_FS_INFO, bytes(1024))[16:32]


_ASK = {"ext4": _ext4_uuid, "xfs": _xfs_uuid, "btrfs": _btrfs_uuid}


def inodes_free(fd: int, kind: str) -> int:
    """Inodes that lie ready and are free; −1 where the file system makes them as it needs them. Raises OSError."""
    if kind == "ext4":
        return os.fstatvfs(fd).f_ffree
    if kind == "xfs":
        return int(struct.unpack_from("=Q", fcntl.ioctl(fd, XFS_IOC_FSCOUNTS, bytes(32)), 16)[0])
    return -1


def ext4_features(device: str) -> frozenset[str]:
    """``inline_data``, ``ea_inode``, ``bigalloc`` and ``data=journal``, as the superblock on `device` says. Raises OSError."""
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        block = os.pread(fd, 1024, _EXT4_SUPERBLOCK)
    finally:
        os.close(fd)
    if len(block) < 1024 or struct.unpack_from("<H", block, 0x38)[0] != _EXT4_MAGIC:
        return frozenset()
    incompatible, compatible, defaults = (
        struct.unpack_from("<I", block, at)[0] for at in (0x60, 0x64, 0x100)
    )
    found = {"inline_data"} if incompatible & _INLINE_DATA else set()
    if incompatible & _EA_INODE:
        found.add("ea_inode")
    if compatible & _BIGALLOC:  # of those that only a writer has to know
        found.add("bigalloc")
    if defaults & _JOURNAL_MODE == _DATA_JOURNAL:
        found.add("data=journal")
    return frozenset(found)


def spare(fd: int, kind: str, node: str) -> int:
    """Blocks that the file system keeps for itself, out of reach even for root; 0 where it says of none.

    ext4: reserved_clusters (Documentation/ABI/testing/sysfs-fs-ext4); XFS: xfsctl(3), XFS_IOC_GET_RESBLKS.
    Raises OSError.
    """
    if kind == "ext4" and node:
        return int(_ext4_spare(node).read_text())
    if kind == "xfs":
        return int(struct.unpack_from("=Q", fcntl.ioctl(fd, XFS_IOC_GET_RESBLKS, bytes(16)))[0])
    return 0


def set_spare(fd: int, kind: str, node: str, blocks: int) -> None:
    """Have it keep so many blocks. It holds until the next mount. Raises OSError."""
    if kind == "ext4" and node:
        _ext4_spare(node).write_text(str(blocks))
    elif kind == "xfs":
        fcntl.ioctl(fd, XFS_IOC_SET_RESBLKS, bytearray(struct.pack("=QQ", blocks, 0)))


def trim(fd: int) -> int:
    """Tell the device what is free; bytes it was told of. Raises OSError."""
    buffer = bytearray(struct.pack("=QQQ", 0, 2**64 - 1, 0))
    fcntl.ioctl(fd, FITRIM, buffer)
    return int(struct.unpack_from("=Q", buffer, 8)[0])


def _ext4_spare(node: str) -> Path:
    return Path("/sys/fs/ext4") / node / "reserved_clusters"
