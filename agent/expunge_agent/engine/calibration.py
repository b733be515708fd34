"""Which chunk and how many stripes suit this target: tried on the first part of a pass, which is written anyway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from expunge_agent.engine.buffers import KIB, MIB
from expunge_agent.engine.tuning import Tuning

SEGMENT = 64 * MIB
"""Bytes written with each candidate."""
WORTH_IT = 4096 * MIB
"""Bytes left from which on the trial pays."""
CLEARLY = 1.05
"""How much quicker than the default another candidate has to be."""
_OTHERS = ((512 * KIB, 4), (2 * MIB, 4), (MIB, 2), (MIB, 8))


def candidates(tuning: Tuning) -> list[Tuning]:
    """The tunings to try, the present one first."""
    return [tuning, *(replace(tuning, chunk=chunk, stripes=stripes) for chunk, stripes in _OTHERS)]


def segment(start: int) -> int:
    """Where the trial segment that begins at `start` ends: at a multiple of `SEGMENT`, half of one on at least."""
    return ((start + SEGMENT // 2) // SEGMENT + 1) * SEGMENT


def best(rates: Sequence[tuple[Tuning, float]]) -> Tuning:
    """The quickest of (tuning, bytes per second); the first one unless another is clearly quicker."""
    first, first_rate = rates[0]
    tuning, rate = max(rates, key=lambda one: one[1])
    return tuning if rate > first_rate * CLEARLY else first
