"""What the page cache holds of a file: proof that a read came from the medium."""

from __future__ import annotations

import ctypes
import mmap

_CACHESTAT = 451  # Linux 6.5 and later, the same number on every architecture
_WINDOW = 1 << 30
_MEMORY_FILESYSTEMS = {0x01021994, 0x858458F6, 0x958458F6}  # tmpfs, ramfs, hugetlbfs (statfs(2))
_PROT_READ, _MAP_SHARED = mmap.PROT_READ, mmap.MAP_SHARED

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_longlong,
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]


def in_memory(fd: int) -> bool:
    """Whether the file lies on a file system that has no device below it, so that its cache is the medium."""
    buffer = (ctypes.c_long * 64)()
    if _libc.fstatfs(fd, ctypes.byref(buffer)) != 0:
        return False
    return (int(buffer[0]) & 0xFFFFFFFF) in _MEMORY_FILESYSTEMS


def resident(fd: int, start: int, length: int) -> int | None:
    """Pages of [start, start + length) of an open file or device in the page cache; None if it cannot be told.

    `start` must be a multiple of the page size. cachestat(2) where there is one, else mincore(2).
    """
    pages = _cachestat(fd, start, length)
    return _mincore(fd, start, length) if pages is None else pages


def _cachestat(fd: int, start: int, length: int) -> int | None:
    span = (ctypes.c_uint64 * 2)(start, length)
    answer = (ctypes.c_uint64 * 5)()
    done = _libc.syscall(
        ctypes.c_long(_CACHESTAT),
        ctypes.c_int(fd),
        ctypes.byref(span),
        ctypes.byref(answer),
        ctypes.c_uint(0),
    )
    return int(answer[0]) if done == 0 else None


def _mincore(fd: int, start: int, length: int) -> int | None:
    total = 0
    for at in range(start, start + length, _WINDOW):
        span = min(_WINDOW, start + length - at)
        place = _libc.mmap(None, span, _PROT_READ, _MAP_SHARED, fd, at)
        if place is None or place == ctypes.c_void_p(-1).value:
            return None
        try:
            pages = ctypes.create_string_buffer(-(-span // mmap.PAGESIZE))
            if _libc.mincore(place, span, pages) != 0:
                return None
            # The lowest bit says resident; the kernel leaves the others clear today.
            total += sum(pages.raw.count(value) for value in range(1, 256, 2))
        finally:
            _libc.munmap(place, span)
    return total
