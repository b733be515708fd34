"""Sampling with a stated confidence: how many units to read, and which. Pure.

The target is divided into units. If more than the allowed number of them did not hold what was
written, n units drawn without repetition would all look right with a probability of at most
1 − confidence; so n right ones support the statement "no more than that, with that confidence".
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import math
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice

from expunge_agent.engine.ranges import Range, whole

UNIT = 4096
"""Bytes of a unit, where the block is not larger."""
MILLION = 1_000_000
MOST = 4_000_000
"""Units drawn at the most: beyond, the whole target is read, which proves more."""
ROUNDING = 1e-8
"""Relative error that the product in floating point stays below; closer calls are made in integers."""


def units_needed(units: int, max_bad_ppm: int, confidence_ppm: int) -> int:
    """The least n for which n right units of `units` support the statement (`units` if none fewer do).

    Exact, from the hypergeometric distribution: with b = ⌊units · max_bad ÷ 10⁶⌋ + 1 bad units, the
    probability that none of n is among them is the product over i < n of
    (units − b − i) ÷ (units − i); n is the first for which it is at most 1 − confidence.
    """
    bad = units * max_bad_ppm // MILLION + 1
    risk = (MILLION - confidence_ppm) / MILLION
    unseen, count = 1.0, 0
    while count < units and count <= MOST:
        if abs(unseen - risk) < risk * ROUNDING:
            enough = math.perm(units - bad, count) * MILLION <= (MILLION - confidence_ppm) * math.perm(
                units, count
            )
        else:
            enough = unseen < risk
        if enough:
            return count
        unseen *= max(0, units - bad - count) / (units - count)
        count += 1
    return units


def drawn(size: int, block: int, seed: bytes, max_bad_ppm: int, confidence_ppm: int) -> Iterable[Range]:
    """The units to read of a target of `size` bytes, ascending, without overlap; can be iterated again.

    Units are `UNIT` bytes (or one `block`, if that is more). The numbers
    HMAC-SHA256(seed, "expunge confidence v1 k") (big-endian) mod units for k = 0, 1, 2 … are taken,
    repetitions left out, until there are enough: anyone with the seed finds the same places.
    """
    unit = max(UNIT, block)
    units = -(-size // unit)
    count = units_needed(units, max_bad_ppm, confidence_ppm)
    if count * 4 > units * 3:
        return whole(size)  # nearly everything is asked for; reading in order is quicker
    return Drawn(size, unit, count, seed)


class Drawn:
    """`count` units drawn by `seed`, as `drawn` says; four bytes of memory for each."""

    def __init__(self, size: int, unit: int, count: int, seed: bytes) -> None:
        self._size, self._unit, self._count = size, unit, count
        units = -(-size // unit)
        self._width = -(-units // _GROUPS)
        if self._width >> 32:
            raise ValueError(f"{size} bytes are more than can be sampled")
        self._groups = [array("I") for _ in range(_GROUPS)]
        numbers = _numbers(seed, units)
        for number in islice(numbers, count):
            self._groups[number // self._width].append(number % self._width)
        self._groups = [array("I", sorted(set(group))) for group in self._groups]
        missing = count - sum(map(len, self._groups))
        while missing:
            missing -= self._insert(next(numbers))

    def _insert(self, number: int) -> bool:
        """Take one more unit; False if it was taken before."""
        group, place = self._groups[number // self._width], number % self._width
        at = bisect_left(group, place)
        if at < len(group) and group[at] == place:
            return False
        group.insert(at, place)
        return True

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Range]:
        for index, group in enumerate(self._groups):
            for place in group:
                start = (index * self._width + place) * self._unit
                yield Range(start, min(start + self._unit, self._size) - start)


_GROUPS = 1024  # parts of the target whose units are sorted by themselves


def _numbers(seed: bytes, units: int) -> Iterator[int]:
    for number in itertools.count():
        message = f"expunge confidence v1 {number}".encode()
        yield int.from_bytes(hmac.digest(seed, message, hashlib.sha256), "big") % units
