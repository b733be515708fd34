"""Which file something is: more than its inode number, which a file system gives again (statx(2)).

An inode has a time of birth and, on ext4, XFS and btrfs, a generation: both are new when the number is used again.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import NamedTuple

from expunge_agent.devices import ioctls

_libc = ctypes.CDLL(None, use_errno=True)
_EMPTY_PATH, _NO_FOLLOW, _NO_AUTOMOUNT = 0x1000, 0x100, 0x800
_AS_KNOWN = 0x4000
_HERE = -100
_BASIC, _BIRTH, _MOUNT = 0x7FF, 0x800, 0x1000
_HEAD = struct.Struct("=I 24x H 2x QQ 16x 16x qI4x qI4x 16x IIIIQ")


class Seen(NamedTuple):
    """``birth`` and ``mount`` are 0 where the file system or the kernel does not tell. Times in nanoseconds."""

    device: int
    inode: int
    mode: int
    size: int
    birth: int
    change: int
    mount: int
    node: int
    """Of a device node: which device, as st_rdev."""

    @property
    def kind(self) -> int:
        """The type bits of its mode."""
        return stat.S_IFMT(self.mode)


def seen_at(folder: int, name: str) -> Seen | None:
    """What stands under `name` in the open folder, not followed; None where nothing does. Raises OSError."""
    try:
        return _statx(folder, os.fsencode(name), _NO_FOLLOW | _NO_AUTOMOUNT)
    except FileNotFoundError:
        return None


def seen_of(fd: int) -> Seen:
    """What is open. Raises OSError."""
    return _statx(fd, b"", _EMPTY_PATH)


def seen_as_known(path: str) -> Seen:
    """What `path` leads to, followed, as far as the kernel knows it without asking the file system's server or program,
    which may be gone (AT_STATX_DONT_SYNC). Raises OSError."""
    return _statx(_HERE, os.fsencode(path), _NO_AUTOMOUNT | _AS_KNOWN)


def mark_of(fd: int, seen: Seen) -> str:
    """What tells the open regular file, which is `seen`, from every other one that had or will have its number."""
    return _mark(seen, ioctls.generation(fd))


def mark_at(seen: Seen) -> str:
    """The same of what cannot be opened, or is a folder: without a time of birth that of its last change."""
    return _mark(seen, 0) if seen.birth else f"{seen.kind:o}c{seen.change:x}"


def _mark(seen: Seen, generation: int) -> str:
    return f"{seen.kind:o}b{seen.birth:x}g{generation:x}"


def _statx(fd: int, path: bytes, flags: int) -> Seen:
    found = ctypes.create_string_buffer(256)
    if _libc.statx(fd, path, flags, _BASIC | _BIRTH | _MOUNT, found) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    mask, mode, inode, size, birth, birth_ns, change, change_ns, *numbers, mount = _HEAD.unpack_from(found)
    node_major, node_minor, major, minor = numbers
    return Seen(
        device=os.makedev(major, minor),
        inode=inode,
        mode=mode,
        size=size,
        birth=birth * 10**9 + birth_ns if mask & _BIRTH else 0,
        change=change * 10**9 + change_ns,
        mount=mount if mask & _MOUNT else 0,
        node=os.makedev(node_major, node_minor),
    )
