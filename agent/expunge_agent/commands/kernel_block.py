"""Discarding and zeroing through the block layer (include/uapi/linux/fs.h, block/ioctl.c)."""

from __future__ import annotations

import fcntl
import struct
from enum import IntEnum

from expunge_agent.commands.kernel_errors import command_error


class RangeIoctl(IntEnum):
    """The ioctls that take ``uint64_t range[2]``: start and length in bytes, whole logical sectors."""

    BLKDISCARD = 0x1277
    BLKSECDISCARD = 0x127D
    BLKZEROOUT = 0x127F


def apply(fd: int, ioctl: RangeIoctl, start: int, length: int) -> None:
    """Carry `ioctl` out on `length` bytes from `start` on; returns when the device has ended it.

    `fd` must be open for writing. Raises CommandError (NoPassThrough where the device has no such
    operation); a range that failed may have been done in part.
    """
    try:
        fcntl.ioctl(fd, ioctl, struct.pack("=QQ", start, length))
    except OSError as error:
        raise command_error(error, f"{ioctl.name} of {length} bytes at {start}") from error
