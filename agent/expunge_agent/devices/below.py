"""Reaching what lies below one directory: component by component from its descriptor, never through a link."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import translate
from types import TracebackType

from expunge_agent.devices.seen import Seen, seen_of
from expunge_agent.protocol.identity import TreeIdentity

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = 64
"""Folders held open at a time."""
ELSEWHERE = "another file system or mount begins on the way to it"


@dataclass(frozen=True, slots=True)
class Entry:
    """Something below the directory: its path relative to it. ``error``: why it was not looked at;
    ``seen`` is None then. ``elsewhere``: a folder that belongs to something else, and is not entered."""

    path: str
    seen: os.stat_result | None
    error: str = ""
    elsewhere: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.seen is not None and stat.S_ISREG(self.seen.st_mode)

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return self.seen is not None and stat.S_ISDIR(self.seen.st_mode)


class Below:
    """What lies below the directory behind `fd`, which stays the caller's. Use as a context manager."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        root = seen_of(fd)
        self.device, self._mount = root.device, root.mount
        self._folders: dict[str, int] = {}

    def __enter__(self) -> Below:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()

    def forget(self) -> None:
        """Close the folders held open."""
        for fd in self._folders.values():
            os.close(fd)
        self._folders.clear()

    def folder(self, path: str) -> int:
        """A descriptor of the folder at the relative `path`, valid until many others were asked for.

        Raises OSError where a component is missing or a link.
        """
        if not path:
            return self.fd
        known = self._folders.pop(path, -1)
        if known < 0:
            while len(self._folders) >= _KEPT:
                os.close(self._folders.pop(next(iter(self._folders))))
            known = self._open(path)
        self._folders[path] = known
        return known

    def _open(self, path: str) -> int:
        here = self.fd
        try:
            for part in path.split("/"):
                below = os.open(part, _FOLDER, dir_fd=here)
                if here != self.fd:
                    os.close(here)
                here = below
            if not self.is_near(seen_of(here)):
                raise OSError(errno.EXDEV, ELSEWHERE)
        except BaseException:
            if here != self.fd:
                os.close(here)
            raise
        return here

    @contextmanager
    def fresh(self, path: str) -> Iterator[int]:
        """The folder to which the relative `path` leads now, whatever it led to before. Raises OSError."""
        if not path:
            yield self.fd
            return
        fd = self._open(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def is_near(self, seen: Seen) -> bool:
        """Whether it lies on the directory's file system and was reached through no other mount."""
        return seen.device == self.device and seen.mount == self._mount

    def place(self, path: str) -> tuple[int, str]:
        """(folder, name) of the relative `path`."""
        folder, _, name = path.rpartition("/")
        return self.folder(folder), name

    def look(self, path: str) -> Entry:
        """What stands at the relative `path`; nothing is followed."""
        try:
            folder, name = self.place(path)
            return Entry(path, os.lstat(name, dir_fd=folder))
        except OSError as error:
            return Entry(path, None, reason(error))

    def walk(self, closed: frozenset[str] = frozenset()) -> Iterator[Entry]:
        """Everything below, folders before what is in them; of another file system, or a mount point
        (relative paths in `closed`), the folder only. Within a folder by inode, which is nearly by place."""
        waiting = [""]
        while waiting:
            path = waiting.pop()
            try:
                with os.scandir(self.folder(path)) as found:
                    names = sorted(
                        (one.inode(), one.name, one.is_dir(follow_symlinks=False)) for one in found
                    )
            except OSError as error:
                yield Entry(path, None, reason(error))
                continue
            folders = []
            for _, name, is_folder in names:
                whole = f"{path}/{name}" if path else name
                if whole in closed:  # to ask what is mounted there may wait for a server that is gone
                    yield Entry(whole, None, ELSEWHERE, elsewhere=is_folder)
                    continue
                entry = self.look(whole)
                yield entry
                if entry.is_folder and not self.is_elsewhere(entry):
                    folders.append(entry.path)
            waiting += reversed(folders)

    def is_elsewhere(self, entry: Entry) -> bool:
        """Whether a folder belongs to another file system or subvolume."""
        return entry.seen is not None and entry.seen.st_dev != self.device


def reason(error: OSError) -> str:
    """Why something below could not be reached, in words."""
    if error.errno == errno.EXDEV:
        return ELSEWHERE
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return "a symbolic link, or something else that is not followed, stands there or on the way to it"
    if error.errno == errno.EAGAIN:
        return "another program keeps it from being opened (a lease), perhaps another order"
    return os.strerror(error.errno or 0)


def is_plain(path: str) -> bool:
    """Whether `path` is relative and leads nowhere but down."""
    return bool(path) and not any(part in ("", ".", "..") for part in path.split("/"))


class Narrowing:
    """Which paths below a directory are meant (`protocol.identity.TreeIdentity`)."""

    def __init__(self, identity: TreeIdentity) -> None:
        self.names = list(identity.names)
        self._patterns = [re.compile(translate(one)) for one in identity.include]

    @property
    def everything(self) -> bool:
        """Whether all of the directory is meant."""
        return not self.names and not self._patterns

    def takes(self, path: str) -> bool:
        """Whether a path that a walk found is meant."""
        return not self._patterns or any(one.match(path) for one in self._patterns)
