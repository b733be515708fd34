"""The end of a file whose contents are gone: another name, no size, no times, no attributes, no name."""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress

from expunge_agent.devices.below import Below
from expunge_agent.engine.syncing import rename_new, sync_filesystem
from expunge_agent.techniques.files_list import Item

_LETTERS = bytes(b"abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in range(256))
_TRIES = 16
_FEW_FOLDERS = 4


def new_name(path: bytes, secret: bytes, attempt: int) -> str:
    """A name of the same length that tells nothing; the same one again for whoever knows the order's `secret`."""
    name = path.rpartition(b"/")[2]
    return (
        hashlib.shake_256(secret + attempt.to_bytes(1, "big") + path)
        .digest(len(name))
        .translate(_LETTERS)
        .decode()
    )


class Ends:
    """Takes names away. ``removed``: how many; ``folders``: where, as relative paths."""

    def __init__(self, below: Below, secret: bytes) -> None:
        self._below = below
        self._secret = secret
        self.removed = 0
        self.folders: set[str] = set()

    def remove(self, item: Item, fd: int = -1) -> str:
        """Take the file of `item` away under all its names; why one of them stays, or empty.

        `fd`: the file itself, still open, to cut it to nothing first. A name that is gone already is
        one that an earlier run took away.
        """
        if fd >= 0:
            _forget(fd)
        problems = [self._unlink(path, item.inode) for path in (item.path, *item.names)]
        return "; ".join(problem for problem in problems if problem)

    def _unlink(self, path: bytes, inode: int) -> str:
        text = os.fsdecode(path)
        try:
            folder, name = self._below.place(text)
            seen = _inode(folder, name)
            if seen == inode:
                name = self._renamed(folder, name, path)
            else:
                earlier = self._earlier(folder, path, inode)
                if not earlier:
                    return "" if seen is None else "its name leads to another file now, which was left"
                name = earlier
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"its name could not be removed: {os.strerror(error.errno or 0)}"
        self.removed += 1
        self.folders.add(text.rpartition("/")[0])
        return ""

    def _renamed(self, folder: int, name: str, path: bytes) -> str:
        """Rename over; the name it has then."""
        for attempt in range(_TRIES):
            other = new_name(path, self._secret, attempt)
            try:
                rename_new(name, other, folder)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOSYS):
                    return name  # a file system that knows no renaming without replacing
                raise
            return other
        return name  # so short that all names are taken

    def _earlier(self, folder: int, path: bytes, inode: int) -> str:
        """The name that an earlier run gave it before it was killed, or empty."""
        for attempt in range(_TRIES):
            name = new_name(path, self._secret, attempt)
            if _inode(folder, name) == inode:
                return name
        return ""

    def remove_folder(self, path: str) -> bool:
        """Take an empty folder away; False where it is not empty, or may not go."""
        try:
            folder, name = self._below.place(path)
            os.rmdir(self._renamed_folder(folder, name, os.fsencode(path)), dir_fd=folder)
        except OSError:
            return False
        return True

    def _renamed_folder(self, folder: int, name: str, path: bytes) -> str:
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            if os.listdir(below):  # noqa: PTH208 - a descriptor
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        finally:
            os.close(below)
        return self._renamed(folder, name, path)

    def sync(self) -> None:
        """Make it durable that the names are gone. Raises OSError."""
        if len(self.folders) > _FEW_FOLDERS:
            sync_filesystem(self._below.fd)
        else:
            for path in self.folders:
                with suppress(FileNotFoundError):
                    os.fsync(self._below.folder(path))
        self.folders.clear()


def _inode(folder: int, name: str) -> int | None:
    try:
        return os.lstat(name, dir_fd=folder).st_ino
    except FileNotFoundError:
        return None


def _forget(fd: int) -> None:
    """No size, no times, no extended attributes; those that the system keeps to itself stay."""
    os.ftruncate(fd, 0)
    with suppress(OSError):
        for name in os.listxattr(fd):
            if name.startswith(("user.", "trusted.")):
                os.removexattr(fd, name)
    with suppress(OSError):
        os.utime(fd, (0, 0))
