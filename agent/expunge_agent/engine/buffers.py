"""Aligned memory and comparing it without Python's lock."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable

KIB = 1024
MIB = 1024 * KIB
PAGE = mmap.PAGESIZE

_memcmp: Callable[[int, int, int], int] = ctypes.CDLL(None).memcmp  # ctypes calls run without the lock
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]  # type: ignore[attr-defined]


def aligned(length: int) -> memoryview:
    """A writable, zeroed, page-aligned buffer of `length` bytes, as direct I/O wants it."""
    return memoryview(mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def address(view: memoryview) -> int:
    """Where a writable `view` begins in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def same(one: memoryview, other: memoryview) -> bool:
    """Whether two writable views of equal length hold the same bytes."""
    if len(one) != len(other):
        raise ValueError(f"cannot compare {len(one)} with {len(other)} bytes")
    return not one or _memcmp(address(one), address(other), len(one)) == 0
