"""Taking a file system's free space: large files first, then names, at the end the small pieces nobody gave out."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from expunge_agent.core.space_progress import Part
from expunge_agent.engine.buffers import MIB, aligned, same
from expunge_agent.engine.sources import Source
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_space import Rest

PART = 1 << 40
"""Bytes of a filling file: below what ext4 with blocks of 1024 bytes takes (4 TiB)."""
STEP = 1 << 30
SMALLEST = 4096
"""Bytes that filling files are a multiple of; for less than that btrfs quietly leaves direct I/O."""
QUOTA_SLACK = 4 * MIB
"""Bytes of a quota that are left: btrfs counts its trees in it, and writing to the filling files changes them."""
MOST_NAMES = 250_000
"""Symbolic links that are made."""
MOST_FILES = 8_000_000
"""Empty files that are made in one folder; ext4 takes about ten million without ``large_dir``."""
NAMES_SECONDS = 900.0
"""How long empty files are made."""
MOST_REST = 256 * MIB
LINK = 3800
"""Bytes of a symbolic link's target: btrfs keeps it among its trees, and it needs no room for data."""
EXT4_INLINE = 60
"""Bytes that fit into any inode of an ext4 with inline_data."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class Room:
    """How much may still be taken: `reserve` bytes stay for ordinary users; 0: everything goes."""

    fd: int
    reserve: int

    def left(self) -> int | None:
        """Bytes that may be taken; None: whatever the file system gives."""
        if not self.reserve:
            return None
        seen = os.fstatvfs(self.fd)
        return max(0, seen.f_bavail * seen.f_frsize - self.reserve)


def take_space(fd: int, room: Room, stop: threading.Event) -> tuple[list[Part], str]:
    """Files in folder `fd` that together have the free space, nothing written yet; and how it ended.

    ``full``, ``reserve`` or ``quota``; also when `stop` is set. Raises OSError.
    """
    parts: list[Part] = []
    step = STEP
    ended = "reserve"
    while not stop.is_set():
        name = f"fill{len(parts):08x}"
        handle = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            size, step, ended = _grow(handle, room, step, stop)
            os.fsync(handle)
            if size:
                parts.append(Part(name=name, inode=U64(os.fstat(handle).st_ino), size=U64(size)))
            else:
                os.unlink(name, dir_fd=fd)
        finally:
            os.close(handle)
        if size < PART:
            break
    return parts, ended


def _grow(handle: int, room: Room, step: int, stop: threading.Event) -> tuple[int, int, str]:
    """Give the file blocks until it is long enough or there are no more: (bytes, step that still fitted, end)."""
    size, ended = 0, "reserve"
    while size < PART and not stop.is_set():
        left = room.left()
        want = min(step, PART - size, step if left is None else left - left % SMALLEST)
        if want < SMALLEST:
            return size, step, "reserve"
        try:
            os.posix_fallocate(handle, size, want)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            ended = "quota" if error.errno == errno.EDQUOT else "full"
            os.ftruncate(handle, size)  # what of the step it did give
            step = want // 2 - want // 2 % SMALLEST
            if step < SMALLEST:
                return _within_quota(handle, size) if ended == "quota" else size, step, ended
            continue
        size += want
    return size, step, ended


def _within_quota(handle: int, size: int) -> int:
    """The file made shorter by what the file system's own records of its writes may need of the quota."""
    kept = size - QUOTA_SLACK if size > 2 * QUOTA_SLACK else size
    os.ftruncate(handle, kept)
    return kept


def name_of(number: int) -> str:
    """What the small file of this number is called."""
    return f"n{number:08x}"


def make_names(
    fd: int,
    first: int,
    most: int,
    room: Room,
    stop: threading.Event,
    *,
    content: int = 0,
    links: bool = False,
) -> int:
    """Small files numbered from `first`, until there are `most` or no more can be made: how many.

    Each takes an inode and a place in the folder; with `content` random bytes, or as a symbolic link of
    `LINK` random bytes with `links`, a place among the file system's own data. No more than `MOST_FILES` or
    `MOST_NAMES`, and for no longer than `NAMES_SECONDS`. Raises OSError.
    """
    made, most = 0, min(most, MOST_NAMES if links else MOST_FILES)
    until = time.monotonic() + NAMES_SECONDS
    while made < most and not stop.is_set() and time.monotonic() < until:
        if made % 64 == 0 and (left := room.left()) is not None and left < MIB:
            break
        name = name_of(first + made)
        try:
            if links:
                os.symlink(os.urandom(LINK).replace(b"\0", b"\1"), name, dir_fd=fd)
            else:
                _small_file(fd, name, content)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            break
        made += 1
    return made


def _small_file(fd: int, name: str, content: int) -> None:
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
    try:
        if content:
            os.write(handle, os.urandom(content))
    finally:
        os.close(handle)


@dataclass
class Pieces:
    """Small files written as a whole, each at once: (name, bytes) in `found`, which follow each other."""

    fd: int
    block: int
    found: list[tuple[str, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(length for _name, length in self.found)

    def take(self, source: Source, base: int, stop: threading.Event) -> None:
        """Take and write what is left, in ever smaller pieces. The first byte is byte `base` of `source`."""
        buffer = aligned(MIB)
        step = MIB
        while step >= self.block and self.size < MOST_REST and not stop.is_set():
            source.fill(buffer[:step], base + self.size)
            got, made = self._write_new(buffer[:step])
            if got:
                self.found.append((self._name(), got))
            if not made and not got:
                self._append(source, base, buffer, stop)
                return
            if got < step:
                step //= 2

    def _name(self) -> str:
        return f"rest{len(self.found):08x}"

    def _write_new(self, view: memoryview) -> tuple[int, bool]:
        """(bytes written to a new file, whether it could be made); an empty one is taken away again."""
        name = self._name()
        try:
            handle = os.open(
                name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT | os.O_CLOEXEC, 0o600, dir_fd=self.fd
            )
        except OSError as error:
            if error.errno in _FULL:
                return 0, False
            raise
        try:
            put = _put(handle, view, 0, self.block)
        finally:
            os.close(handle)
        if not put:
            os.unlink(name, dir_fd=self.fd)
        return put, True

    def _append(self, source: Source, base: int, buffer: memoryview, stop: threading.Event) -> None:
        """No further file can be made: let the last one grow."""
        if not self.found:
            return
        name, length = self.found.pop()
        handle = os.open(name, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC, dir_fd=self.fd)
        step = MIB
        try:
            while step >= self.block and self.size + length < MOST_REST and not stop.is_set():
                source.fill(buffer[:step], base + self.size + length)
                put = _put(handle, buffer[:step], length, self.block)
                length += put
                if put < step:
                    step //= 2
        finally:
            self.found.append((name, length))
            os.close(handle)

    def flush(self) -> None:
        """Bring all of it to the medium. Raises OSError."""
        for name, _length in self.found:
            handle = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def write_again(self, source: Source, base: int) -> None:
        """Write a further pass over all of it, in place. Raises OSError."""
        self._each(
            lambda handle, view, at, place: self._again(handle, view, at, source, base + place), os.O_RDWR
        )

    def _again(self, handle: int, view: memoryview, at: int, source: Source, place: int) -> int:
        source.fill(view, place)
        if _put(handle, view, at, self.block) != len(view):
            raise OSError(errno.ENOSPC, "a piece that had its place lost it")
        return 0

    def as_written(self, source: Source, base: int) -> int:
        """Bytes that are read back as `source` has them. Raises OSError."""

        def compare(handle: int, view: memoryview, at: int, place: int) -> int:
            due = aligned(len(view))
            source.fill(due, base + place)
            return len(view) if os.preadv(handle, [view], at) == len(view) and same(view, due) else 0

        return self._each(compare, os.O_RDONLY)

    def _each(self, work: Callable[[int, memoryview, int, int], int], flags: int) -> int:
        """The sum of `work` (handle, buffer, offset in the file, offset among all pieces) over all pieces."""
        buffer = aligned(MIB)
        total = place = 0
        for name, length in self.found:
            handle = os.open(name, flags | os.O_DIRECT | os.O_CLOEXEC, dir_fd=self.fd)
            try:
                for at in range(0, length, MIB):
                    view = buffer[: min(MIB, length - at)]
                    total += work(handle, view, at, place)
                    place += len(view)
            finally:
                os.close(handle)
        return total


def take_rest(
    fd: int, block: int, sources: Sequence[Source], base: int, verify: bool, stop: threading.Event
) -> Rest:
    """Take what is left in small pieces, write every pass over them, read the last one back.

    `base`: bytes of the keyed streams that were used before. Raises OSError.
    """
    pieces = Pieces(fd, block)
    pieces.take(sources[0], base, stop)
    pieces.flush()
    for source in sources[1:]:
        pieces.write_again(source, base)
        pieces.flush()
    size = pieces.size
    verified = pieces.as_written(sources[-1], base) if verify else 0
    return Rest(
        bytes=U64(size), pieces=len(pieces.found), checked=U64(size if verify else 0), verified=U64(verified)
    )


def _put(handle: int, view: memoryview, offset: int, block: int) -> int:
    """Bytes written, whole blocks; fewer than asked where there is no room."""
    put = 0
    try:
        put = os.pwrite(handle, view, offset)
    except OSError as error:
        if error.errno not in _FULL:
            raise
    return put - put % block
