"""The block layer's questions to an open descriptor (include/uapi/linux/fs.h, loop.h)."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
import sys
from dataclasses import dataclass

BLKROGET = 0x125E
BLKSSZGET = 0x1268
BLKPBSZGET = 0x127B
BLKGETSIZE64 = 0x80081272 if sys.maxsize > 2**32 else 0x80041272
BLKGETDISKSEQ = 0x80081280
LOOP_GET_STATUS64 = 0x4C05
FS_IOC_GETVERSION = 0x80087601 if sys.maxsize > 2**32 else 0x80047601
FS_IOC_GETFLAGS = 0x80086601 if sys.maxsize > 2**32 else 0x80046601
FS_IMMUTABLE = 0x10
FS_APPEND = 0x20
_LOOP_INFO64_BYTES = 232


def size(fd: int) -> int:
    """Bytes of the block device. Raises OSError."""
    return _unsigned(fd, BLKGETSIZE64, "Q")


def logical_sector(fd: int) -> int:
    """Bytes of the smallest unit the device can address. Raises OSError."""
    return _unsigned(fd, BLKSSZGET, "i")


def physical_sector(fd: int) -> int:
    """Bytes of the smallest unit the device can write without reading first. Raises OSError."""
    return _unsigned(fd, BLKPBSZGET, "I")


def is_claimed(path: str) -> bool:
    """Whether the kernel refuses an exclusive open for reading, because a file system or a driver has the device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return error.errno == errno.EBUSY
    os.close(fd)
    return False


def read_only(fd: int) -> bool:
    """Whether the kernel holds the device read-only. Raises OSError."""
    return _unsigned(fd, BLKROGET, "i") != 0


def disk_sequence(fd: int) -> int:
    """The disk's sequence number (Linux 5.15); −1 where the kernel has none."""
    try:
        return _unsigned(fd, BLKGETDISKSEQ, "Q")
    except OSError:
        return -1


def file_flags(fd: int) -> int:
    """The inode's attributes as lsattr shows them; 0 where the file system has none."""
    try:
        return _unsigned(fd, FS_IOC_GETFLAGS, "L")
    except OSError:
        return 0


def generation(fd: int) -> int:
    """The inode's generation, new each time its number is used again; 0 where the file system has none."""
    try:
        return _unsigned(fd, FS_IOC_GETVERSION, "L") & 0xFFFFFFFF
    except OSError:
        return 0


@dataclass(frozen=True)
class Backing:
    """The file behind a loop device, as stat(2) numbers it."""

    device: int
    inode: int


def loop_backing(path: str) -> Backing | None:
    """What the loop device at `path` is attached to; None when to nothing, or when it may not be asked."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        buffer = bytearray(_LOOP_INFO64_BYTES)
        fcntl.ioctl(fd, LOOP_GET_STATUS64, buffer)
    except OSError:
        return None
    finally:
        os.close(fd)
    device, inode = struct.unpack_from("=QQ", buffer)
    return Backing(device=device, inode=inode)


def _unsigned(fd: int, request: int, code: str) -> int:
    buffer = array.array(code, [0])
    fcntl.ioctl(fd, request, buffer)
    return int(buffer[0])
