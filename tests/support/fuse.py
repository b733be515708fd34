"""A raw FUSE server in Python: one folder with one file, `disk`, whose every request a `Device` answers.

Speaks linux/fuse.h (protocol 7.31) over /dev/fuse; no library. One thread; an answer may come later,
so that a slow or stuck device does not keep others from asking its size.
"""

from __future__ import annotations

import ctypes
import errno
import heapq
import os
import selectors
import stat
import struct
import time
from collections.abc import Callable
from typing import Protocol

ROOT, DISK = 1, 2  # node numbers
MAX_WRITE = 1 << 20
NAME = b"disk"

LOOKUP, FORGET, GETATTR, SETATTR = 1, 2, 3, 4
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 14, 15, 16, 17, 18, 20
INIT, OPENDIR, READDIR, RELEASEDIR = 26, 27, 28, 29
INTERRUPT, DESTROY, BATCH_FORGET = 36, 38, 42

ASYNC_READ, BIG_WRITES, ASYNC_DIO = 1 << 0, 1 << 5, 1 << 15
WRITEBACK_CACHE, MAX_PAGES = 1 << 16, 1 << 22
FOPEN_DIRECT_IO, FOPEN_PARALLEL_DIRECT_WRITES = 1 << 0, 1 << 6
FATTR_SIZE = 1 << 3

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
_IN = struct.Struct("<IIQQIIIHH")
_OUT = struct.Struct("<IiQ")

libc = ctypes.CDLL(None, use_errno=True)


class Device(Protocol):
    """What stands behind the file. OSError becomes the error the kernel hands on."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> int: ...
    def flush(self) -> None: ...
    def opened(self, flags: int) -> None: ...
    def released(self) -> None: ...

    def delay(self, opcode: int) -> float | None:
        """Seconds until a READ, WRITE or FSYNC that came now is worked on; None: for ever."""


class Server:
    """Mounts on `point` and answers until unmounted or `stop` is set. `direct` and `writeback` as FUSE knows them."""

    def __init__(self, point: str, device: Device, *, direct: bool = True, writeback: bool = False) -> None:
        self._device = device
        self._direct = direct
        self._writeback = writeback
        self._point = point
        self._fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._stuck: list[Callable[[], None]] = []
        self._count = 0
        self._selector = selectors.DefaultSelector()
        self.alive = True
        options = f"fd={self._fd},rootmode=40000,user_id=0,group_id=0,allow_other,max_read={MAX_WRITE}"
        done = libc.mount(
            b"expunge-test", point.encode(), b"fuse", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.encode()
        )
        if done != 0:
            number = ctypes.get_errno()
            os.close(self._fd)
            raise OSError(number, os.strerror(number), "mount")
        # Only now: before it is mounted the descriptor has no queue that epoll could wait for.
        self._selector.register(self._fd, selectors.EVENT_READ)

    def listen(self, fd: int, call: Callable[[], None]) -> None:
        """Have `call` called whenever `fd` is readable."""
        self._selector.register(fd, selectors.EVENT_READ, call)

    def serve(self) -> None:
        """Answer requests until the end."""
        while self.alive:
            wait = max(0.0, self._later[0][0] - time.monotonic()) if self._later else None
            for key, _ in self._selector.select(wait):
                if key.fileobj == self._fd:
                    self._take()
                else:
                    key.data()
            while self._later and self._later[0][0] <= time.monotonic():
                heapq.heappop(self._later)[2]()

    def free(self) -> None:
        """Work on all that was delayed or stuck, now."""
        waiting, self._stuck, later, self._later = self._stuck, [], self._later, []
        for call in [item[2] for item in sorted(later)] + waiting:
            call()

    def _take(self) -> None:
        try:
            request = os.read(self._fd, MAX_WRITE + 8192)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EINTR, errno.ENOENT):
                return
            if error.errno == errno.ENODEV:  # unmounted or aborted
                self.alive = False
                return
            raise
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        body = request[_IN.size :]
        if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
            return

        def answer() -> None:
            self._answer(unique, opcode, node, body)

        delay = self._device.delay(opcode) if opcode in (READ, WRITE, FSYNC) else 0.0
        if delay is None:
            self._stuck.append(answer)
        elif delay > 0:
            self._count += 1
            heapq.heappush(self._later, (time.monotonic() + delay, self._count, answer))
        else:
            answer()

    def _answer(self, unique: int, opcode: int, node: int, body: bytes) -> None:
        number = 0
        try:
            data = self._handle(opcode, node, body)
        except OSError as error:
            number, data = -(error.errno or errno.EIO), b""
        try:
            os.write(self._fd, _OUT.pack(_OUT.size + len(data), number, unique) + data)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # given up by who asked
                raise
            self.alive = self.alive and error.errno != errno.ENODEV

    def _handle(self, opcode: int, node: int, body: bytes) -> bytes:
        """The answer's body. What this server does not know gets ENOSYS, and the kernel asks no more."""
        if opcode == INIT:
            return self._init(body)
        if opcode == LOOKUP:
            if body.rstrip(b"\0") != NAME or node != ROOT:
                raise OSError(errno.ENOENT, "")
            return struct.pack("<QQQQII", DISK, 1, 0, 0, 0, 0) + self._attributes(DISK)
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            if valid & FATTR_SIZE and size != self._device.size:
                raise OSError(errno.EPERM, "")
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode == OPEN:
            self._device.opened(struct.unpack_from("<I", body)[0])
            flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES if self._direct else 0
            return struct.pack("<QII", 1, flags, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self._device.read(offset, max(0, min(size, self._device.size - offset)))
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            return struct.pack("<II", self._device.write(offset, body[40 : 40 + size]), 0)
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 0, 0, 0, 0, 0, 512, 255, 512, 0)
        if opcode == RELEASE:
            self._device.released()
            return b""
        if opcode == FSYNC:
            self._device.flush()
            return b""
        if opcode == OPENDIR:
            return struct.pack("<QII", 0, 0, 0)
        if opcode == READDIR:
            return self._entries(struct.unpack_from("<QQ", body)[1])
        if opcode in (RELEASEDIR, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")

    def _init(self, body: bytes) -> bytes:
        major, _, readahead, offered = struct.unpack_from("<IIII", body)
        flags = ASYNC_READ | BIG_WRITES | ASYNC_DIO | MAX_PAGES
        if self._writeback:
            flags |= WRITEBACK_CACHE
        return struct.pack(
            "<IIIIHHIIHHI28x", major, 31, readahead, flags & offered, 16, 12, MAX_WRITE, 1, 256, 0, 0
        )

    def _attributes(self, node: int) -> bytes:
        size, mode, links = (self._device.size, stat.S_IFREG | 0o600, 1)
        if node == ROOT:
            size, mode, links = (0, stat.S_IFDIR | 0o700, 2)
        return struct.pack(
            "<QQQQQQIIIIIIIIII", node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, links, 0, 0, 0, 4096, 0
        )

    def _entries(self, offset: int) -> bytes:
        entry = struct.pack("<QQII", DISK, 1, len(NAME), stat.S_IFREG >> 12) + NAME
        return entry + bytes(-len(entry) % 8) if offset == 0 else b""
