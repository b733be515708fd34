"""The meter: rates from a moving model, with the clock as an argument."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.engine.meter import SECOND, Meter

MB = 1_000_000


def run(meter: Meter, rates: list[int], now: int = 0) -> int:
    """Go on for one second at each rate, in steps of 0.2 s."""
    for rate in rates:
        for _ in range(5):
            now += SECOND // 5
            meter.update(meter.done + rate // 5, now)
    return now


def test_a_steady_rate_is_known_after_the_first_step() -> None:
    meter = Meter(1000 * MB, 0)
    run(meter, [100 * MB])
    assert abs(meter.rate - 100 * MB) < 1
    assert meter.average == 100 * MB
    assert meter.eta == 9
    assert (meter.slowest, meter.fastest) == (100 * MB, 100 * MB)


def test_one_slow_second_does_not_throw_the_estimate_about() -> None:
    meter = Meter(100_000 * MB, 0)
    now = run(meter, [100 * MB] * 30)
    before = meter.eta
    run(meter, [0], now)
    assert before < meter.eta < before * 1.1
    assert meter.slowest == 0
    assert meter.fastest == 100 * MB


def test_a_lasting_change_is_followed() -> None:
    meter = Meter(100_000 * MB, 0)
    now = run(meter, [200 * MB] * 60)
    run(meter, [100 * MB] * 40, now)
    assert 100 * MB <= meter.rate < 103 * MB


def test_what_was_done_before_counts_for_the_end_not_for_the_rate() -> None:
    meter = Meter(1000 * MB, 5 * SECOND, done=900 * MB)
    meter.update(950 * MB, 6 * SECOND)
    assert meter.average == 50 * MB
    assert meter.eta == 1
    progress = meter.progress(3)
    assert (progress.done, progress.total, progress.errors) == (950 * MB, 1000 * MB, 3)
    assert progress.elapsed_ns == SECOND


def test_nothing_moved_yet() -> None:
    meter = Meter(10, 0)
    assert (meter.rate, meter.average, meter.eta) == (0.0, 0.0, -1)
    meter.update(0, SECOND)
    assert meter.eta == -1


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(-5, 10**10)), max_size=30))
def test_no_course_of_events_gives_a_senseless_number(steps: list[tuple[int, int]]) -> None:
    meter = Meter(10**12, 0)
    now = done = 0
    for bytes_more, time_more in steps:
        now += time_more
        done += bytes_more
        meter.update(done, now)
        assert meter.rate >= 0
        assert meter.eta >= -1
        assert 0 <= meter.slowest <= meter.fastest
