"""Plans of ranges: whole, rest after a resume, samples. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

SECTIONS = 1000
PER_SECTION = 2
SHARE = 20  # a sample is at least 1/20 = 5 % of its subsection


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes [start, start + length)."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """The offset after the last byte."""
        return self.start + self.length


def whole(size: int) -> list[Range]:
    """Everything of a target of `size` bytes."""
    return rest(size, 0)


def rest(size: int, start: int) -> list[Range]:
    """What is left from `start` to `size`: one range, or none."""
    return [Range(start, size - start)] if start < size else []


def pieces(
    ranges: Iterable[Range], chunk: int, reach: Callable[[int], int] = int
) -> Iterator[tuple[int, int]]:
    """`ranges` cut into (start, end) at multiples of `chunk`, so that pieces of any plan are aligned alike.

    `reach(chunk)`, a multiple of it, is asked before each how long it may be.
    """
    for item in ranges:
        start = item.start
        while start < item.end:
            end = min(item.end, start // chunk * chunk + reach(chunk))
            yield start, end
            start = end


def samples(
    size: int, block: int, seed: bytes, *, sections: int = SECTIONS, per_section: int = PER_SECTION
) -> Iterator[Range]:
    """The places of a sampled verification by NIST SP 800-88 r1 §4.7.3, ascending, without overlap.

    The target is divided into `sections` equal subsections; in each, `per_section` non-overlapping
    samples of at least 5 % of it are placed pseudorandomly; the first and the last block are read
    besides. All borders are multiples of `block` (bytes), except the end of the target. A target
    too small for that (fewer than 40 blocks in a subsection with the defaults) is read whole.

    Anyone can regenerate the places: subsection *i* of *n* blocks begins at block i·blocks ÷ sections
    (rounded down); with samples of s = ⌈n ÷ 20⌉ blocks, free = n − per_section·s, the numbers
    HMAC-SHA256(seed, "expunge sample v1 i k") (big-endian) mod (free + 1) for k = 0 … are sorted, and
    the k-th sample begins at the k-th number + k·s. `seed` is 16 bytes or more, fresh for each run.
    """
    blocks = -(-size // block)
    if blocks < sections * SHARE * per_section:
        yield from whole(size)
        return
    yielded = 0
    for start, end in _sample_blocks(blocks, seed, sections, per_section):
        if yielded == 0 and start > 0:
            yield Range(0, block)
        yielded = end
        yield Range(start * block, min(end * block, size) - start * block)
    if yielded < blocks:
        yield Range((blocks - 1) * block, size - (blocks - 1) * block)


def _sample_blocks(blocks: int, seed: bytes, sections: int, per_section: int) -> Iterator[tuple[int, int]]:
    """The samples proper, in blocks."""
    for section in range(sections):
        first = section * blocks // sections
        length = (section + 1) * blocks // sections - first
        sample = -(-length // SHARE)
        free = length - per_section * sample
        numbers = sorted(_number(seed, section, index) % (free + 1) for index in range(per_section))
        for index, number in enumerate(numbers):
            start = first + number + index * sample
            yield start, start + sample


def _number(seed: bytes, section: int, index: int) -> int:
    """A 256-bit number nobody could have foreseen without the seed."""
    message = f"expunge sample v1 {section} {index}".encode()
    return int.from_bytes(hmac.digest(seed, message, hashlib.sha256), "big")


def spots(
    start: int, end: int, block: int, seed: bytes, *, count: int = 4, length: int = 64 * 1024
) -> list[Range]:
    """At most `count` pseudorandom places of `length` bytes in [start, end), ascending, without overlap.

    `start` is taken up and `end` down to a multiple of `block`; where there is no room for all, the
    whole range is one place, or none.
    """
    first, last = -(-start // block) * block, end - end % block
    if last - first <= count * length:
        return [Range(first, last - first)] if last > first else []
    share = (last - first) // count // block * block
    room = (share - length) // block + 1
    return [
        Range(first + index * share + _number(seed, -1, index) % room * block, length)
        for index in range(count)
    ]
