"""What of its device a mounted file system calls free, by its own map (linux/fsmap.h, ioctl_getfsmap(2))."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator

from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_LISTED_RANGES
from expunge_agent.protocol.receipt_parts import ByteRange
from expunge_agent.protocol.receipt_space import Left

FS_IOC_GETFSMAP = 0xC0C0583B
_HEAD = struct.Struct("=4I48x")
_RECORD = struct.Struct("=IIQQQQ24x")
_AT_ONCE = 512
_SPECIAL, _LAST = 0x10, 0x20
_OWN_FREE = 1
_MOST = 2**64 - 1


def free_now(fd: int) -> Left:
    """What is free now on the file system that the folder `fd` is of. Raises OSError.

    Its reserve and root's blocks are in it. Listed where the file system has a map (ext4, XFS), else counted.
    """
    os.fsync(fd)
    try:
        total = count = 0
        ranges: list[ByteRange] = []
        for start, length in _free(fd):
            total, count = total + length, count + 1
            if len(ranges) < MAX_LISTED_RANGES:
                ranges.append(ByteRange(start=U64(start), length=U64(length)))
        return Left(by="map", bytes=U64(total), count=U64(count), ranges=ranges)
    except OSError:
        seen = os.fstatvfs(fd)
        return Left(by="count", bytes=U64(seen.f_bfree * seen.f_frsize), count=U64(0), ranges=[])


def _free(fd: int) -> Iterator[tuple[int, int]]:
    """(first byte on the device, bytes) of each free range, ascending."""
    low = (0, 0, 0, 0, 0, 0)
    while True:
        buffer = bytearray(_HEAD.size + (2 + _AT_ONCE) * _RECORD.size)
        _HEAD.pack_into(buffer, 0, 0, 0, _AT_ONCE, 0)
        _RECORD.pack_into(buffer, _HEAD.size, *low)
        _RECORD.pack_into(buffer, _HEAD.size + _RECORD.size, 2**32 - 1, 2**32 - 1, _MOST, _MOST, _MOST, 0)
        fcntl.ioctl(fd, FS_IOC_GETFSMAP, buffer)
        found = _HEAD.unpack_from(buffer)[3]
        for index in range(found):
            low = _RECORD.unpack_from(buffer, _HEAD.size + (2 + index) * _RECORD.size)
            _device, flags, start, owner, _offset, length = low
            if flags & _SPECIAL and owner == _OWN_FREE:
                yield start, length
        if not found or low[1] & _LAST:
            return
