"""Asking the kernel where an open file lies (include/uapi/linux/fiemap.h, Documentation/filesystems/fiemap.rst)."""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Iterator

FS_IOC_FIEMAP = 0xC020660B
NOT_ANSWERED = (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS)
"""Errors of a file system that has no answer to this, as against one that could not give it now."""
_FLAG_SYNC = 1
_HEAD = struct.Struct("=QQIIII")
_EXTENT = struct.Struct("=QQQ16xI12x")
_AT_ONCE = 256
_LAST = 0x1


def extents(fd: int, at_once: int = _AT_ONCE) -> Iterator[tuple[int, int, int, int]]:
    """(offset in the file, first byte on the device, bytes, flags) of each extent, in the file's order.

    What was written to the file is flushed first. Raises OSError.
    """
    start, whole = 0, 2**64 - 1
    while True:
        buffer = bytearray(_HEAD.size + at_once * _EXTENT.size)
        _HEAD.pack_into(buffer, 0, start, whole - start, _FLAG_SYNC, 0, at_once, 0)
        fcntl.ioctl(fd, FS_IOC_FIEMAP, buffer)
        found = _HEAD.unpack_from(buffer)[3]
        for index in range(found):
            logical, physical, length, flags = _EXTENT.unpack_from(buffer, _HEAD.size + index * _EXTENT.size)
            yield logical, physical, length, flags
            start = logical + length
            if flags & _LAST:
                return
        if not found:
            return
        at_once = _AT_ONCE
