"""A disk that lies or fails as told, over a real file; run as a program it serves itself by FUSE.

    python fuse_disk.py POINT BACKING SIZE {"direct": true}

prints "ready", then takes one JSON object a line on its input: faults to set (see `Faults`; null takes
one away), or {"do": "free"} to let go what is stuck, or {"do": "count"}. Each is answered by a line.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

SECTOR = 512
CELL = 4096

if __package__:
    from support.fuse import FSYNC, READ, WRITE, Server
else:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from support.fuse import FSYNC, READ, WRITE, Server


@dataclass
class Faults:
    """What is wrong with the disk. Offsets and lengths in bytes; errors by name ("EIO")."""

    bad_reads: list[list[Any]] = field(default_factory=list)
    """[start, end, error, times]: fails where it touches [start, end); `times` null: always."""
    bad_writes: list[list[Any]] = field(default_factory=list)
    lost_at_flush: list[list[Any]] = field(default_factory=list)
    """The same, but the write is acknowledged; data is dropped and the next flush fails."""
    full_from: int | None = None
    """ENOSPC for writes that reach this offset."""
    vanish_after: int | None = None
    """After so many more bytes read or written everything fails with `vanish_error`."""
    vanish_error: str = "ENODEV"
    shrunk_to: int | None = None
    short: int | None = None
    """At most so many bytes of a write are taken."""
    refuse_direct: bool = False
    """It cannot be opened with O_DIRECT."""
    stall_after: int | None = None
    """After so many more bytes the next request is not answered for `stall_seconds` (null: for ever)."""
    stall_seconds: float | None = None
    stall_flush: bool = False
    """Only flushes stall."""
    slow: float = 0.0
    """Seconds that each read and write takes."""
    drop_every: int | None = None
    """Every k-th write is acknowledged and forgotten; 1: all."""
    wrap_at: int | None = None
    """The real capacity: addresses go modulo this."""
    keeps_first: int | None = None
    """The real capacity: writes beyond are acknowledged and forgotten, and read as zeros."""
    stuck: list[list[int]] = field(default_factory=list)
    """[byte in sector, mask, 0 or 1]: these bits of each sector always read so."""
    distinct: int | None = None
    """It deduplicates: so many distinct 4 KiB blocks are kept; other blocks read as zeros from then on."""
    distinct_keeps_old: bool = False
    """… or as what was there before."""
    cache: int | None = None
    """It keeps the newest so many bytes of writes in memory alone; they are gone at the last close."""


class Disk:
    """The device that `support.fuse.Server` asks."""

    def __init__(self, backing: str, size: int) -> None:
        self.faults = Faults()
        self.requests = 0
        self._size = size
        self._fd = os.open(backing, os.O_RDWR | os.O_CLOEXEC)
        self._moved = 0
        self._writes = 0
        self._lost: str | None = None
        self._blocks: set[bytes] = set()
        self._cached: dict[int, bytes] = {}
        self._handles = 0
        self._vanished = False

    def change(self, changes: dict[str, Any]) -> None:
        """Set faults anew; counters of bytes start again."""
        known = {one.name: one for one in fields(Faults)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(name)
            setattr(self.faults, name, getattr(Faults(), name) if value is None else value)
        self._moved, self._vanished = 0, False

    @property
    def size(self) -> int:
        """Bytes it says it has."""
        return self._size if self.faults.shrunk_to is None else self.faults.shrunk_to

    def delay(self, opcode: int) -> float | None:
        """See `support.fuse.Device`."""
        faults = self.faults
        if opcode == FSYNC or faults.stall_flush:
            stalls = faults.stall_flush and opcode == FSYNC
        else:
            stalls = faults.stall_after is not None and self._moved >= faults.stall_after
        if stalls:
            return faults.stall_seconds
        return faults.slow if opcode in (READ, WRITE) else 0.0

    def opened(self, flags: int) -> None:
        """One more handle."""
        if self.faults.refuse_direct and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "")
        self._handles += 1

    def released(self) -> None:
        """With the last handle goes what was only cached."""
        self._handles -= 1
        if self._handles == 0:
            self._cached.clear()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes as the disk would have them seen."""
        self._begin(length)
        _fail(self.faults.bad_reads, offset, offset + length)
        data = bytearray(self._load(offset, length))
        for start, block in self._cached.items():
            at = start - offset
            if -CELL < at < length:
                first, last = max(0, at), min(length, at + CELL)
                data[first:last] = block[first - at : last - at]
        for place, mask, value in self.faults.stuck:
            for at in range((place - offset) % SECTOR, length, SECTOR):
                data[at] = data[at] | mask if value else data[at] & ~mask
        return bytes(data)

    def write(self, offset: int, data: bytes) -> int:
        """Take the bytes, or say so; how many."""
        data = data[: self.faults.short or len(data)]
        self._begin(len(data))
        faults, end = self.faults, offset + len(data)
        if faults.full_from is not None and end > faults.full_from:
            raise OSError(errno.ENOSPC, "")
        _fail(faults.bad_writes, offset, end)
        self._writes += 1
        if faults.drop_every and self._writes % faults.drop_every == 0:
            return len(data)
        if faults.cache is not None:
            self._cache(offset, data)
        elif faults.distinct is not None:
            self._deduplicate(offset, data)
        else:
            self._store(offset, data)
        return len(data)

    def flush(self) -> None:
        """What was lost on the way is told here, once."""
        self._begin(0)
        lost, self._lost = self._lost, None
        if lost:
            raise OSError(getattr(errno, lost), "")
        os.fsync(self._fd)

    def _begin(self, length: int) -> None:
        self.requests += 1
        limit = self.faults.vanish_after
        self._moved += length
        if self._vanished or (limit is not None and self._moved > limit):
            self._vanished = True
            raise OSError(getattr(errno, self.faults.vanish_error), "")

    def _load(self, offset: int, length: int) -> bytes:
        parts = []
        for at, size in self._places(offset, length):
            part = os.pread(self._fd, size, at) if at >= 0 else bytes(size)
            parts.append(part + bytes(size - len(part)))
        return b"".join(parts)

    def _store(self, offset: int, data: bytes) -> None:
        done = 0
        for at, size in self._places(offset, len(data)):
            if at >= 0:
                self._store_kept(offset + done, at, data[done : done + size])
            done += size

    def _store_kept(self, offset: int, at: int, data: bytes) -> None:
        """Write all but the sectors that are lost before the next flush."""
        lost = [one for one in self.faults.lost_at_flush if one[0] < offset + len(data) and offset < one[1]]
        kept = bytearray(data)
        for one in lost:
            if one[3] is not None and one[3] <= 0:
                continue
            if one[3] is not None:
                one[3] -= 1
            first, last = max(one[0], offset) - offset, min(one[1], offset + len(data)) - offset
            kept[first:last] = os.pread(self._fd, last - first, at + first)
            self._lost = one[2]
        os.pwrite(self._fd, kept, at)

    def _places(self, offset: int, length: int) -> list[tuple[int, int]]:
        """Where [offset, offset + length) really is: (place, size) in order, place −1 for nowhere."""
        faults, end, out = self.faults, offset + length, []
        while offset < end:
            if faults.wrap_at:
                size = min(end - offset, faults.wrap_at - offset % faults.wrap_at)
                out.append((offset % faults.wrap_at, size))
            elif faults.keeps_first is not None and offset < faults.keeps_first:
                size = min(end, faults.keeps_first) - offset
                out.append((offset, size))
            else:
                size = end - offset
                out.append((offset if faults.keeps_first is None else -1, size))
            offset += size
        return out

    def _deduplicate(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), CELL):
            block = data[at : at + CELL]
            if block in self._blocks or len(self._blocks) < (self.faults.distinct or 0):
                self._blocks.add(block)
                self._store(offset + at, block)
            elif not self.faults.distinct_keeps_old:
                self._store(offset + at, bytes(len(block)))

    def _cache(self, offset: int, data: bytes) -> None:
        for at in range(0, len(data), CELL):
            self._cached.pop(offset + at, None)
            self._cached[offset + at] = data[at : at + CELL]
        while len(self._cached) * CELL > (self.faults.cache or 0):
            del self._cached[next(iter(self._cached))]


def _fail(plan: list[list[Any]], start: int, end: int) -> None:
    """Raise what `plan` has for [start, end), and count it."""
    for one in plan:
        first, last, name, times = one
        if first < end and start < last and times != 0:
            if times is not None:
                one[3] -= 1
            raise OSError(getattr(errno, name), "")


def main() -> None:
    """Serve until the input ends."""
    point, backing, size, options = sys.argv[1:]
    disk = Disk(backing, int(size))
    server = Server(point, disk, **json.loads(options))
    pending = bytearray()

    def command() -> None:
        got = os.read(0, 1 << 20)
        if not got:
            server.alive = False
            return
        pending.extend(got)
        while b"\n" in pending:
            line, _, rest = bytes(pending).partition(b"\n")
            pending[:] = rest
            changes = json.loads(line)
            action = changes.pop("do", None)
            disk.change(changes)
            if action == "free":
                server.free()
            print(disk.requests, flush=True)

    server.listen(0, command)
    print("ready", flush=True)
    server.serve()


if __name__ == "__main__":
    main()
