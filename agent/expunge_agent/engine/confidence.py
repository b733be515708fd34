"""Sampling with a stated confidence: how many units to read, and which. Pure.

The target is divided into units. If more than the allowed number of them did not hold what was
written, n units drawn without repetition would all look right with a probability of at most
1 − confidence; so n right ones support the statement "no more than that, with that confidence".
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterator

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


def drawn(size: int, block: int, seed: bytes, max_bad_ppm: int, confidence_ppm: int) -> Iterator[Range]:
    """The units to read of a target of `size` bytes, ascending, without overlap.

    Units are `UNIT` bytes (or one `block`, if that is more). The numbers
    HMAC-SHA256(seed, "expunge confidence v1 k") (big-endian) mod units for k = 0, 1, 2 … are taken,
    repetitions left out, until there are enough: anyone with the seed finds the same places.
    """
    unit = max(UNIT, block)
    units = -(-size // unit)
    count = units_needed(units, max_bad_ppm, confidence_ppm)
    if count * 4 > units * 3:
        yield from whole(size)  # nearly everything is asked for; reading in order is quicker
        return
    chosen: set[int] = set()
    number = 0
    while len(chosen) < count:
        message = f"expunge confidence v1 {number}".encode()
        chosen.add(int.from_bytes(hmac.digest(seed, message, hashlib.sha256), "big") % units)
        number += 1
    for at in sorted(chosen):
        yield Range(at * unit, min((at + 1) * unit, size) - at * unit)
