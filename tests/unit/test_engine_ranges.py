"""Plans of ranges: nothing left out, nothing twice, samples by the rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.ranges import Range, pieces, rest, samples, whole

SEED = bytes(range(32))


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(5000, 100_000))
def test_pieces_cover_exactly_and_break_at_multiples(size: int, start: int, chunk: int) -> None:
    at = min(start, size)
    for first, end in pieces(rest(size, start), chunk):
        assert first == at
        assert 0 < end - first <= chunk
        assert end == size or end % chunk == 0
        at = end
    assert at == size


def test_whole_and_rest() -> None:
    assert whole(5) == [Range(0, 5)]
    assert rest(5, 5) == []


@settings(max_examples=30, deadline=None)
@given(st.integers(40_000, 10**9), st.sampled_from([512, 4096]), st.integers(0, 511), st.binary(min_size=16))
def test_samples_follow_nist_800_88_r1_4_7_3(blocks: int, block: int, odd: int, seed: bytes) -> None:
    size = (blocks - 1) * block + (odd or block)
    plan = list(samples(size, block, seed))
    assert plan == list(samples(size, block, seed))
    at = 0
    for item in plan:
        assert item.start >= at
        assert item.start % block == 0
        assert item.end % block == 0 or item.end == size
        at = item.end
    assert plan[0].start == 0
    assert plan[-1].end == size
    borders = [section * blocks // 1000 for section in range(1001)]
    inner = [item for item in plan if item.length > block]
    counted = 0
    for section in range(1000):
        first, last = borders[section] * block, min(borders[section + 1] * block, size)
        while counted < len(inner) and inner[counted].start < first:
            counted += 1
        here = []
        while counted < len(inner) and inner[counted].start < last:
            here.append(inner[counted])
            counted += 1
        assert len(here) == 2
        for item in here:
            assert item.end <= last
            assert (item.length + (block if item.end == size else 0)) * 20 >= last - first
    assert sum(item.length for item in plan) * 10 >= size - 20 * block


def test_another_seed_gives_other_places() -> None:
    size = 10**9
    assert list(samples(size, 512, SEED)) != list(samples(size, 512, SEED[::-1]))


@pytest.mark.parametrize("size", [1, 511, 512, 513, 39_999 * 512])
def test_a_small_target_is_read_whole(size: int) -> None:
    assert list(samples(size, 512, SEED)) == [Range(0, size)]


def test_places_of_a_known_seed_stay_where_they_are() -> None:
    """A receipt's seed must give the same places in every later version."""
    plan = list(samples(1 << 30, 512, SEED))
    assert (plan[0], plan[1], plan[2]) == PLACES


PLACES = (Range(0, 512), Range(405 * 512, 105 * 512), Range(750 * 512, 105 * 512))
