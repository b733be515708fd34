"""Where an open file lies, as layouts and parts."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

from expunge_agent.commands.kernel_fiemap import NOT_ANSWERED
from expunge_agent.commands.kernel_fiemap import extents as _extents
from expunge_agent.core.file_reach import Part
from expunge_agent.core.layout import MOST_EXTENTS, Layout
from expunge_agent.engine.pagecache import in_memory
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import MAX_LISTED_RANGES
from expunge_agent.protocol.receipt_parts import ByteRange
from expunge_agent.protocol.receipt_space import Taken

_FEW = 4  # what most files need
_DOUBTFUL = {
    0x2: "the file system does not tell where a part of the file lies",
    0x8: "a part of the file is stored encoded (compressed)",
    0x80: "a part of the file is stored encrypted by the file system",
    0x200: "a part of the file is stored among the file system's own data",
    0x2000: "a part of the file is shared with other files or snapshots",
}
"""FIEMAP_EXTENT_UNKNOWN, ENCODED, DATA_ENCRYPTED, DATA_INLINE, SHARED."""
NOT_TOLD = "the file system does not tell where the file lies, so an overwrite may go elsewhere"
TOO_MANY = f"the file lies in more than {MOST_EXTENTS} pieces, too many to be followed"


def layout(fd: int) -> Layout:
    """Where the open file lies now, all that was written to it flushed first.

    A file in memory (tmpfs, ramfs) has one place, that of its pages: nothing to follow.
    """
    if in_memory(fd):
        return Layout(extents=[])
    extents: list[tuple[U64, U64]] = []
    doubts: dict[str, None] = {}
    try:
        for _logical, physical, length, flags in _extents(fd):
            doubts.update((words, None) for flag, words in _DOUBTFUL.items() if flags & flag)
            extents.append((U64(physical), U64(length)))
            if len(extents) > MOST_EXTENTS:
                return Layout(extents=[], doubts=[TOO_MANY])
    except OSError as error:
        if error.errno in NOT_ANSWERED:
            return Layout(extents=[], doubts=[NOT_TOLD])
        return Layout(extents=[], doubts=[f"{NOT_TOLD} ({os.strerror(error.errno or 0)})"])
    return Layout(extents=extents, doubts=list(doubts))


def parts(fd: int, most: int = MOST_EXTENTS) -> list[Part] | None:
    """The extents of the open file, flushed first; those beyond `most` are left out but for one more.

    None where the file system does not tell.
    """
    found = []
    try:
        for extent in _extents(fd, _FEW):
            found.append(Part(*extent))
            if len(found) > most:
                break
    except OSError as error:
        if error.errno in NOT_ANSWERED:
            return None
        raise
    return found


def taken_by(fds: Iterable[int]) -> Taken:
    """Where the open files lie, one after the other, neighbours joined. Raises OSError where it is not told."""
    digest, count, total = hashlib.sha256(), 0, 0
    ranges: list[ByteRange] = []
    for fd in fds:
        for start, length in _joined((at, length) for _logical, at, length, _flags in _extents(fd)):
            digest.update(f"{start}+{length}\n".encode())
            count, total = count + 1, total + length
            if len(ranges) < MAX_LISTED_RANGES:
                ranges.append(ByteRange(start=U64(start), length=U64(length)))
    return Taken(bytes=U64(total), count=U64(count), digest=digest.hexdigest(), ranges=ranges)


def _joined(extents: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(first byte, bytes), extents that touch on the device made one: writing to them joins and splits them."""
    start = end = 0
    for physical, length in extents:
        if physical != end and end:
            yield start, end - start
            start = physical
        elif not end:
            start = physical
        end = physical + length
    if end:
        yield start, end - start
