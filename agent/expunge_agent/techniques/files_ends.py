"""The end of a file whose contents are gone: another name, no size, no times, no attributes, no name.

A name goes only if it leads, at that moment and from the directory down, to the file that was listed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress

from expunge_agent.devices.below import Below, reason
from expunge_agent.devices.seen import Seen, mark_at, mark_of, seen_at, seen_of
from expunge_agent.engine.syncing import rename_new, sync_filesystem
from expunge_agent.techniques.files_attributes import own_attributes
from expunge_agent.techniques.files_list import Item

_LETTERS = bytes(b"abcdefghijklmnopqrstuvwxyz234567"[byte % 32] for byte in range(256))
_TRIES = 16
_FEW_FOLDERS = 4
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ANOTHER = "its name leads to another file now, which was left"
ELSEWHERE = (
    "it was renamed or got another name meanwhile: it is empty, and still has {} names that were not listed"
)


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

        `fd`: the file itself, still open, to cut it to nothing first. Without it only what is empty goes, as
        an earlier run left it. A name that is gone already is one that an earlier run took away.
        """
        if fd >= 0:
            _forget(fd)
        found = (self._unlink(path, item, fd) for path in (item.path, *item.names))
        problems = [problem for problem in found if problem]
        if fd >= 0 and not problems and (names := os.fstat(fd).st_nlink):
            problems = [ELSEWHERE.format(names)]
        return "; ".join(problems)

    def _unlink(self, path: bytes, item: Item, fd: int) -> str:
        text = os.fsdecode(path)
        where, _, name = text.rpartition("/")
        try:
            with self._below.fresh(where) as folder:
                there = seen_at(folder, name)
                if there is not None and self._is(item, there, folder, name, fd):
                    name = self._renamed(folder, name, path, item.inode)
                elif not (name := self._earlier(folder, path, item, fd)):
                    return "" if there is None else ANOTHER
                if not name:
                    return ANOTHER
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"its name could not be removed: {reason(error)}"
        self.removed += 1
        self.folders.add(where)
        return ""

    def _is(self, item: Item, there: Seen, folder: int, name: str, fd: int, *, moved: bool = False) -> bool:
        """Whether what is `there` is the thing that was listed; `moved`: under the name that we gave it."""
        if there.inode != item.inode or not self._below.is_near(there):
            return False
        if item.other:
            return mark_at(there) == item.mark or (moved and not there.birth)
        if not stat.S_ISREG(there.mode):
            return False
        if fd >= 0:
            return True  # while it is open its number is its own
        return not there.size and _mark_under(folder, name) == (item.inode, item.mark)

    def _renamed(self, folder: int, name: str, path: bytes, inode: int) -> str:
        """Rename over; the name it has then. Empty where that name was another thing's by then, which keeps it."""
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
            if os.lstat(other, dir_fd=folder).st_ino == inode:
                return other
            rename_new(other, name, folder)
            return ""
        return name  # so short that all names are taken

    def _earlier(self, folder: int, path: bytes, item: Item, fd: int) -> str:
        """The name that an earlier run gave it before it was killed, or empty."""
        for attempt in range(_TRIES):
            name = new_name(path, self._secret, attempt)
            there = seen_at(folder, name)
            if there is not None and self._is(item, there, folder, name, fd, moved=True):
                return name
        return ""

    def remove_folder(self, item: Item) -> bool:
        """Take a listed folder away, if it is empty; False where it is not, is another one, or may not go."""
        where, _, name = os.fsdecode(item.path).rpartition("/")
        try:
            with self._below.fresh(where) as folder:
                there = seen_at(folder, name)
                if there is None or not self._is(item, there, folder, name, -1):
                    name = self._earlier(folder, item.path, item, -1)
                elif _is_empty(folder, name):
                    name = self._renamed(folder, name, item.path, item.inode)
                else:
                    return False
                if not name:
                    return False
                os.rmdir(name, dir_fd=folder)
        except OSError:
            return False
        return True

    def sync(self) -> None:
        """Make it durable that the names are gone. Raises OSError."""
        if len(self.folders) > _FEW_FOLDERS:
            sync_filesystem(self._below.fd)
        else:
            for path in self.folders:
                with suppress(FileNotFoundError), self._below.fresh(path) as folder:
                    os.fsync(folder)
        self.folders.clear()


def _mark_under(folder: int, name: str) -> tuple[int, str]:
    fd = os.open(name, _LOOK, dir_fd=folder)
    try:
        seen = seen_of(fd)
        return seen.inode, mark_of(fd, seen)
    finally:
        os.close(fd)


def _is_empty(folder: int, name: str) -> bool:
    fd = os.open(name, _FOLDER, dir_fd=folder)
    try:
        return not os.listdir(fd)  # noqa: PTH208 - a descriptor
    finally:
        os.close(fd)


def _forget(fd: int) -> None:
    """No size, no times, no extended attributes; those that the system keeps to itself stay."""
    os.ftruncate(fd, 0)
    with suppress(OSError):
        for name in own_attributes(fd):
            os.removexattr(fd, name)
    with suppress(OSError):
        os.utime(fd, (0, 0))
