"""A disk image full of records that would be recognised anywhere, and the search for them."""

from __future__ import annotations

import mmap
from pathlib import Path

MARK = b"CUSTOMER-RECORD"
RECORD = 128
"""Bytes a record."""


def write_image(path: Path, size: int) -> int:
    """Fill `path` with numbered records of fictional customers; how many there are."""
    count = size // RECORD
    with path.open("wb") as handle:
        for first in range(0, count, 8192):
            handle.write(b"".join(_record(number) for number in range(first, min(first + 8192, count))))
        handle.truncate(size)
    return count


def count_records(path: Path) -> int:
    """How often the mark of a record stands in `path`."""
    found = 0
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        at = data.find(MARK)
        while at >= 0:
            found += 1
            at = data.find(MARK, at + len(MARK))
    return found


def _record(number: int) -> bytes:
    text = f";{number:010d};Example Person {number % 997};+00 555 {number % 10_000_000:07d};balance {number * 37 % 99991}"
    return (MARK + text.encode()).ljust(RECORD - 1, b".") + b"\n"
