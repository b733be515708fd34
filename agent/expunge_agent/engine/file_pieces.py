"""Writing and reading back many files as one stream: pieces of files, a window of the stream at a time.

The data of all files stand one after the other in the stream, each file from a block border on, so that a keyed
stream needs one key for all of them and any file can be verified by itself.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType

from expunge_agent.engine import pagecache
from expunge_agent.engine.buffers import KIB, MIB, aligned, same
from expunge_agent.engine.ranges import Range
from expunge_agent.engine.sources import Source

WINDOW = 8 * MIB
LONGEST = MIB
"""Bytes of one piece."""
_WORTH_THREADS = 64 * KIB
_THREADS = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of one file: `length` from `offset` on, which get the stream's bytes from `at` on."""

    index: int
    """Which file of the batch."""
    fd: int
    offset: int
    length: int
    at: int


@dataclass
class Checked:
    """Bytes asked for, read, and found wrong; ``wrong`` and ``failed`` by file."""

    expected: int = 0
    read: int = 0
    wrong: dict[int, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    unreadable: int = 0


def cut(ranges: Iterable[tuple[int, int]], index: int, fd: int, at: int) -> Iterator[Piece]:
    """The pieces of one file's data `ranges` (start, end), which begin in the stream at `at`."""
    for first, end in ranges:
        for start in range(first, end, LONGEST):
            length = min(end - start, LONGEST)
            yield Piece(index, fd, start, length, at)
            at += length


def within(pieces: Iterable[Piece], ranges: Iterable[Range], base: int) -> Iterator[Piece]:
    """The parts of `pieces` (ascending in the stream) that lie in `ranges` (ascending, apart), counted from `base`."""
    waiting = iter(ranges)
    one = next(waiting, None)
    for piece in pieces:
        end = piece.at + piece.length
        while one is not None and base + one.start < end:
            first, last = max(base + one.start, piece.at), min(base + one.end, end)
            if first < last:
                yield Piece(piece.index, piece.fd, piece.offset + first - piece.at, last - first, first)
            if base + one.end > end:
                break
            one = next(waiting, None)


def windows(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """`pieces` in groups that lie within `WINDOW` bytes of the stream."""
    group: list[Piece] = []
    for piece in pieces:
        if group and piece.at + piece.length - group[0].at > WINDOW:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


class PieceEngine:
    """Two windows of memory and two threads, for any number of files. Use as a context manager."""

    def __init__(self) -> None:
        self._data, self._found = aligned(WINDOW), aligned(WINDOW)
        self._pool = ThreadPoolExecutor(_THREADS)
        self._lock = threading.Lock()
        self._holds: tuple[Source, int, int] | None = None

    def __enter__(self) -> PieceEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def write(self, group: list[Piece], source: Source, failed: dict[int, str]) -> None:
        """Write one window; files that cannot be written get their reason in `failed` and are left alone."""
        base = self._fill(group, source)

        def put(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                if piece.index in failed:
                    continue
                start = piece.at - base
                try:
                    _write(piece, self._data[start : start + piece.length])
                except OSError as error:
                    failed[piece.index] = f"it could not be written: {os.strerror(error.errno or 0)}"

        self._spread(put, group)

    def check(self, group: list[Piece], source: Source, seen: Checked) -> None:
        """Read one window back and compare it."""
        base = self._fill(group, source)

        def compare(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                start = piece.at - base
                found = self._found[start : start + piece.length]
                try:
                    got = os.preadv(piece.fd, [found], piece.offset)
                except OSError as error:
                    seen.failed[piece.index] = f"it could not be read back: {os.strerror(error.errno or 0)}"
                    continue
                if got != piece.length or not same(found, self._data[start : start + piece.length]):
                    wrong = _differing(found[:got], self._data[start : start + got]) + piece.length - got
                    with self._lock:
                        seen.wrong[piece.index] = seen.wrong.get(piece.index, 0) + wrong

        self._spread(compare, group)
        seen.expected += sum(piece.length for piece in group)
        unreadable = sum(piece.length for piece in group if piece.index in seen.failed)
        seen.unreadable += unreadable
        seen.read += sum(piece.length for piece in group) - unreadable

    def _fill(self, group: list[Piece], source: Source) -> int:
        """Put the window's stream into memory, unless it is there; its first offset."""
        base, length = group[0].at, group[-1].at + group[-1].length - group[0].at
        held = self._holds
        if held is None or held[0] is not source or held[1:] != (base, length):
            half = length // 2 // MIB * MIB if length >= 2 * MIB else 0
            parts = [part for part in ((0, half), (half, length)) if part[1] > part[0]]
            list(
                self._pool.map(
                    lambda part: source.for_worker().fill(self._data[part[0] : part[1]], base + part[0]),
                    parts,
                )
            )
            self._holds = (source, base, length)
        return base

    def _spread(self, work: Callable[[Sequence[Piece]], None], group: list[Piece]) -> None:
        """Threads help with long pieces only: short ones take Python's time, not the medium's."""
        if len(group) > 1 and sum(piece.length for piece in group) // len(group) >= _WORTH_THREADS:
            list(self._pool.map(work, [group[0::2], group[1::2]]))
        else:
            work(group)


def write_direct(fd: int, yes: bool) -> bool:
    """Have reads and writes go past the page cache from now on, or no longer; whether the system took it."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if yes else flags & ~os.O_DIRECT)
    except OSError:
        return False
    return True


def uncached(fd: int, length: int) -> bool:
    """Take a flushed file out of the page cache; whether nothing of it is left there."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return pagecache.resident(fd, 0, length) == 0


def _write(piece: Piece, view: memoryview) -> None:
    done = 0
    while done < len(view):
        try:
            done += os.pwrite(piece.fd, view[done:], piece.offset + done)
        except OSError as error:
            flags = fcntl.fcntl(piece.fd, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & os.O_DIRECT:
                raise
            write_direct(piece.fd, False)


def _differing(one: memoryview, other: memoryview) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
