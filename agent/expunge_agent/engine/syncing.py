"""Calls of Linux that Python has no name for: flush a whole file system, rename without replacing."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal

_libc = ctypes.CDLL(None, use_errno=True)
_NOREPLACE = 1
_F_SETSIG = 10


def sync_filesystem(fd: int) -> None:
    """Bring everything of the file system that `fd` lies on to the medium (syncfs(2)).

    Raises OSError where anything could not be written since the descriptor was opened (Linux 5.8).
    """
    if _libc.syncfs(fd) != 0:
        _fail()


def rename_new(old: str, new: str, folder: int) -> None:
    """Rename within `folder`, only if nothing has the new name (renameat2(2)). Raises OSError."""
    if _libc.renameat2(folder, os.fsencode(old), folder, os.fsencode(new), _NOREPLACE) != 0:
        _fail()


def hold_alone(fd: int) -> bool:
    """Take a write lease (fcntl(2), F_SETLEASE): False when somebody else has the file open or mapped.

    It lasts until the descriptor is closed; who opens the file meanwhile waits. True also where leases are
    not to be had (other file systems, other owners): then nothing was learnt.
    """
    try:
        fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)  # of all signals one that nobody dies of
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def lease_of(fd: int) -> int:
    """The lease that is left (F_WRLCK, F_RDLCK, F_UNLCK): while somebody waits to open the file already that which
    he will leave."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GETLEASE)
    except OSError:
        return fcntl.F_UNLCK


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
