"""A hidden folder on somebody else's file system: made once, recognised again, and removed with all that is ours in it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress

from expunge_agent.core.space_progress import Folder
from expunge_agent.protocol.canonical import U64

FS_IOC_GETFLAGS, FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_NOCOW = 0x00800000
OWN_NAME = re.compile(r"(fill|rest|n)[0-9a-f]{8}\Z")
"""Names of files that are made in it; what has another name was put there by somebody else."""
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotOurs(Exception):  # noqa: N818 - it says what was found
    """What stands at the folder's name is not what was made there; it is left alone."""


class OwnFolder:
    """An open hidden folder. ``fd`` is its descriptor, ``top`` that of the folder it stands in."""

    def __init__(self, folder: Folder, top: int, fd: int) -> None:
        self.folder, self.top, self.fd = folder, top, fd

    @classmethod
    def make(cls, folder: Folder) -> OwnFolder:
        """Make it, for this user alone, without copying on write where the file system knows that. Raises OSError."""
        top = os.open(folder.path, _OPEN)
        try:
            os.mkdir(folder.name, 0o700, dir_fd=top)
            fd = os.open(folder.name, _OPEN, dir_fd=top)
        except BaseException:
            os.close(top)
            raise
        _keep_in_place(fd)
        os.fsync(top)
        seen = os.fstat(fd)
        known = Folder(path=folder.path, name=folder.name, device=U64(seen.st_dev), inode=U64(seen.st_ino))
        return cls(known, top, fd)

    @classmethod
    def find(cls, folder: Folder) -> OwnFolder | None:
        """It, if it is still there; None where nothing has its name. Raises NotOurs, OSError.

        Ours is a real folder of this user, for nobody else, with the inode that was journalled; where it
        did not come to journalling that, one in which nothing is.
        """
        try:
            top = os.open(folder.path, _OPEN)
        except FileNotFoundError:
            return None
        try:
            fd = os.open(folder.name, _OPEN, dir_fd=top)
        except FileNotFoundError:
            os.close(top)
            return None
        except OSError as error:
            os.close(top)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise NotOurs(f"{folder.path}/{folder.name} is no folder") from error
            raise
        found = cls(folder, top, fd)
        if why := found._foreign():
            found.close()
            raise NotOurs(f"{folder.path}/{folder.name} {why}")
        return found

    def _foreign(self) -> str:
        seen = os.fstat(self.fd)
        if seen.st_uid != os.geteuid() or stat.S_IMODE(seen.st_mode) != 0o700:
            return "belongs to somebody else"
        if self.folder.inode and seen.st_ino != self.folder.inode:
            return "is not the folder that was made"
        names = self._names()
        if not self.folder.inode and names:
            return "was never ours to fill"
        strange = [name for name in names if not OWN_NAME.fullmatch(name)]
        return f"holds what was not made here ({strange[0]!r})" if strange else ""

    def _names(self) -> list[str]:
        """What is in it now. By a descriptor of its own: btrfs lists to an older one only what was there when it was opened."""
        fd = os.open(".", _OPEN, dir_fd=self.fd)
        try:
            return os.listdir(fd)  # noqa: PTH208 - of a descriptor
        finally:
            os.close(fd)

    def in_place(self) -> bool:
        """Whether it still stands where it was made. Raises OSError."""
        try:
            seen = os.stat(self.folder.name, dir_fd=self.top, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(seen, os.fstat(self.fd))

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Take away the files whose names are `unwanted`. Raises OSError."""
        for name in self._names():
            if unwanted(name):
                os.unlink(name, dir_fd=self.fd)

    def remove(self) -> None:
        """Take away all files in it, then itself, durable on return. Raises OSError."""
        for name in self._names():
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.fd)
        with suppress(FileNotFoundError):
            os.rmdir(self.folder.name, dir_fd=self.top)
        os.fsync(self.top)
        sync_file_system(self.top)

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        for fd in (self.fd, self.top):
            if fd >= 0:
                os.close(fd)
        self.fd = self.top = -1


def sync_file_system(fd: int) -> None:
    """Bring all of the file system that `fd` is of to its device (syncfs(2)). Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _keep_in_place(fd: int) -> None:
    """FS_NOCOW_FL: btrfs then writes files made in it in place, and compresses none of them."""
    with suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(fd, FS_IOC_GETFLAGS, bytes(8))[:4], "little")
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, (flags | _NOCOW).to_bytes(8, "little"))
