"""Having a mounted file system bring its own records to their places, before it takes those places back.

What it gave its folders and inodes while it was filled, and takes back before the records were written there, keeps the
bytes that lay there before: the journal alone ever saw the new ones.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from contextlib import suppress
from pathlib import Path

from expunge_agent.devices.roots import LIVE, Roots, read_bytes

EXT4_IOC_CHECKPOINT = 0x4004662B
XFS_IOC_FREE_EOFBLOCKS = 0x8080583A
_VERSION, _WAIT = 1, 1
_XFS_ROUND = Path("sys/fs/xfs/xfssyncd_centisecs")
_XFS_USUAL = 3000
_ROUNDS = 2
"""The first may have begun before the last change."""


def settle(fd: int, kind: str, stop: threading.Event, roots: Roots = LIVE) -> None:
    """Return when the records of the file system that folder `fd` is of have been written in place, or `stop` is set.

    ext4: its journal is emptied (Documentation/filesystems/ext4/journal.rst, EXT4_IOC_CHECKPOINT, Linux 5.14).
    XFS has no such call but freezing it, which would outlast a killed process: this waits until its background work came by
    twice (fs.xfs.xfssyncd_centisecs, usually 30 s). Raises OSError.
    """
    os.fsync(fd)
    if kind == "ext4":
        fcntl.ioctl(fd, EXT4_IOC_CHECKPOINT, struct.pack("=I", 0))
    elif kind == "xfs":
        stop.wait(_ROUNDS * seconds_between_rounds(roots) + 0.5)


def free_prepared(fd: int, kind: str) -> None:
    """Have XFS give back blocks that it holds ready for files, on the file system that `fd` is of, which was flushed.

    Where a file was shared it holds ready places for copies of the neighbourhood of what was written to it, for minutes
    after it is shared no more, and writes go there (xfsctl: XFS_IOC_FREE_EOFBLOCKS, of both kinds). Where it does not do
    so, such a file is seen to have moved afterwards.
    """
    if kind == "xfs":
        with suppress(OSError):
            fcntl.ioctl(fd, XFS_IOC_FREE_EOFBLOCKS, struct.pack("=II120x", _VERSION, _WAIT))


def seconds_between_rounds(roots: Roots = LIVE) -> float:
    """How often XFS writes what changed in place, in seconds (Documentation/admin-guide/xfs.rst)."""
    try:
        return int(read_bytes(roots.proc / _XFS_ROUND)) / 100
    except ValueError:
        return _XFS_USUAL / 100
