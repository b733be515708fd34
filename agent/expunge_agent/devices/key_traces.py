"""Where else the key of a LUKS volume may be: copies of its header in folders and files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from expunge_agent.core import luks
from expunge_agent.core.guard import readable
from expunge_agent.core.luks_case import HEADER_COPY
from expunge_agent.protocol.receipt_keys import KeyCopy

MAX_COPIES = 100
"""Copies listed; more are counted."""


def header_copies(
    uuid: str, folders: Iterable[str], but: Iterable[tuple[int, int]] = (), digests: Sequence[str] = ()
) -> list[KeyCopy]:
    """Regular files below `folders` that hold a LUKS header of `uuid`, at the start or where LUKS2 has its second, or one for
    a volume key with one of the `digests` (of before the UUID was changed: cryptsetup luksUUID).

    Links are not followed, other file systems are not entered; what could not be looked at is among the result
    with the fate ``unknown``. `but` are files by (device, inode) that are no copies.
    """
    found: list[KeyCopy] = []
    blind = 0
    seen = set(but)
    for path, status in regular_files(folders):
        if status is None:
            blind += 1
            continue
        if (status.st_dev, status.st_ino) in seen or status.st_size < 512:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            same = _is_copy(path, uuid, digests)
        except OSError:
            blind += 1
            continue
        if same:
            found.append(
                KeyCopy(
                    where=readable(path, 2000),
                    what=HEADER_COPY,
                    fate="remains",
                    detail="With it and one of its passphrases or key files the data can be read.",
                )
            )
    if len(found) > MAX_COPIES:
        more = len(found) - MAX_COPIES
        found[MAX_COPIES:] = [KeyCopy(where=f"{more} more files", what=HEADER_COPY, fate="remains")]
    if blind:
        found.append(
            KeyCopy(
                where=f"{blind} files and folders that could not be read",
                what="perhaps a copy of the header",
                fate="unknown",
            )
        )
    return found


def lookable(folders: Iterable[str]) -> list[str]:
    """Those of `folders` that are there, can be listed, and are what the machine has at that path: a unit with
    PrivateTmp= sees another /tmp than the machine's first process."""
    return [one for one in folders if os.access(one, os.R_OK | os.X_OK) and _is_the_machines(one)]


def _is_the_machines(folder: str) -> bool:
    try:
        ours = os.stat(folder)  # noqa: PTH116
        theirs = os.stat(f"/proc/1/root{folder}")  # noqa: PTH116
    except FileNotFoundError:
        return False
    except OSError:
        return True  # this user may not ask
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _is_copy(path: str, uuid: str, digests: Sequence[str]) -> bool:
    found = uuids_at(path)
    if uuid in found or not found:
        return bool(found)
    try:
        other = luks.parse(read_regular(path, luks.HEAD), os.stat(path).st_size)  # noqa: PTH116
    except luks.NotLuksError:
        return False
    return not set(digests).isdisjoint(other.digests)


def regular_files(folders: Iterable[str]) -> Iterator[tuple[str, os.stat_result | None]]:
    """Every regular file below `folders`; None for what could not be looked at."""
    for folder in folders:
        try:
            device = os.lstat(folder).st_dev
        except OSError:
            yield folder, None
            continue
        queue = [folder]
        while queue:
            here = queue.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda one: one.name)
            except OSError:
                yield here, None
                continue
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    yield entry.path, None
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield entry.path, status
                elif stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    queue.append(entry.path)


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """The first `most` bytes of a regular file, links followed; nothing that others put there makes it wait or read
    without end. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
        return os.pread(fd, most, 0)
    finally:
        os.close(fd)


def uuids_at(path: str) -> set[str]:
    """The UUIDs of all LUKS headers in a file or device, damaged ones too. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return {luks.uuid_of(os.pread(fd, 512, place)) for place in (0, *luks.SECOND_OFFSETS)} - {""}
    finally:
        os.close(fd)
