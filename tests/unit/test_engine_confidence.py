"""Sampling by confidence: the number is exact, the places can be found again, and it catches what it should."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import random
import tracemalloc
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine.confidence import MILLION, UNIT, Drawn, drawn, units_needed
from expunge_agent.engine.ranges import whole

SEED = bytes(range(16))


def unseen(units: int, bad: int, count: int) -> Fraction:
    """The exact probability that `count` drawn units miss all `bad` ones."""
    return Fraction(comb(units - bad, count), comb(units, count))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 500_000), st.integers(500_000, 999_999))
def test_the_number_is_the_least_that_supports_the_statement(units: int, bad_ppm: int, sure_ppm: int) -> None:
    bad, risk = min(units * bad_ppm // MILLION + 1, units), Fraction(MILLION - sure_ppm, MILLION)
    count = units_needed(units, bad_ppm, sure_ppm)
    assert unseen(units, bad, count) <= risk
    assert count == 1 or unseen(units, bad, count - 1) > risk


def test_the_figure_of_the_guide() -> None:
    """No more than 0.01 % with 99.9 % confidence: ln(0.001) ÷ ln(0.9999) ≈ 69,074 on an endless medium."""
    assert units_needed(10**10, 100, 999_000) == 69_074
    assert units_needed(2**28, 100, 999_000) < 69_074 < units_needed(2**28, 100, 999_900)


def test_places_are_fixed_by_the_seed_and_fit_the_target() -> None:
    size = 300 * 1024 * 1024 + 123
    places = list(drawn(size, 512, SEED, 1000, 990_000))
    assert places == list(drawn(size, 512, SEED, 1000, 990_000))
    assert places != list(drawn(size, 512, SEED + b"x", 1000, 990_000))
    assert all(one.end <= other.start for one, other in itertools.pairwise(places))
    assert all(place.start % UNIT == 0 and (place.length == UNIT or place.end == size) for place in places)
    assert len(places) == units_needed(-(-size // UNIT), 1000, 990_000)


def test_a_small_target_is_read_whole() -> None:
    assert list(drawn(5 * UNIT + 1, 512, SEED, 100, 999_000)) == whole(5 * UNIT + 1)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_beyond_the_allowed_share_is_nearly_always_caught(seed: int) -> None:
    chance, units, caught = random.Random(seed), 50_000, 0
    for trial in range(100):
        bad = set(chance.sample(range(units), units * 1000 // MILLION + 1))
        places = drawn(units * UNIT, 512, f"seed {seed} {trial}".encode().ljust(16), 1000, 950_000)
        caught += any(place.start // UNIT in bad for place in places)
    assert caught >= 85  # 95 expected; 85 or fewer would be a chance of 1 in 10,000


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.data(), st.binary(min_size=16, max_size=16))
def test_the_places_are_the_first_different_numbers(units: int, data: st.DataObject, seed: bytes) -> None:
    """By the rule as it is worded, number by number."""
    count, chosen, number = data.draw(st.integers(0, units)), set[int](), 0
    while len(chosen) < count:
        message = f"expunge confidence v1 {number}".encode()
        chosen.add(int.from_bytes(hmac.digest(seed, message, hashlib.sha256), "big") % units)
        number += 1
    places = Drawn(units * UNIT, UNIT, count, seed)
    assert [place.start // UNIT for place in places] == sorted(chosen)
    assert list(places) == list(places)
    assert len(places) == count


def test_many_places_need_little_memory() -> None:
    """Four bytes for each of millions; a list of ranges would be some 200."""
    tracemalloc.start()
    try:
        places = drawn(10 << 40, 512, SEED, 100, 999_000)
        count = sum(1 for _ in places)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == units_needed((10 << 40) // UNIT, 100, 999_000) > 60_000
    assert peak < 16 * count
