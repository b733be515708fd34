"""What runs beside `expunge serve`: it goes on after errors and defects, rests as told, and stops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
import structlog

from expunge_agent.errors import StateError
from expunge_controller.rounds import Rounds
from support.controllers import eventually

LONG = 3600.0


class Counted(Rounds):
    """Takes rounds and counts them; each ends as `end` says."""

    def __init__(self, end: Callable[[], float], lines: StringIO, pause: float) -> None:
        log = structlog.wrap_logger(structlog.PrintLogger(lines))
        super().__init__("counted", log, every=0.005, pause=pause, done="counted", doing="counting")
        self.end = end
        self.taken = 0
        self.reached = threading.Event()

    def round(self) -> float:
        """See `Rounds`."""
        self.taken += 1
        try:
            return self.end()
        finally:
            if self.taken == 3:
                self.reached.set()


@contextmanager
def running(end: Callable[[], float], lines: StringIO, pause: float = 0.0) -> Iterator[Counted]:
    at_work = Counted(end, lines, pause)
    at_work.start()
    try:
        yield at_work
    finally:
        at_work.stop()


def unlucky() -> float:
    raise StateError("The log is not there.", "Look for it.")


def defective() -> float:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("end", "said"),
    [(unlucky, "the log cannot be counted"), (defective, "a defect ended this round of counting")],
)
def test_it_goes_on_after_what_went_wrong_and_says_so(end: Callable[[], float], said: str) -> None:
    lines = StringIO()
    with running(end, lines) as at_work:
        assert at_work.reached.wait(20)
    assert lines.getvalue().count(said) >= 2


def test_rounds_follow_each_other_until_it_is_stopped() -> None:
    with running(lambda: 0.0, StringIO()) as at_work:
        assert at_work.reached.wait(20)
    assert not [one for one in threading.enumerate() if one.name == "counted"]


@pytest.mark.parametrize(("end", "pause"), [(unlucky, LONG), (defective, LONG), (lambda: LONG, 0.0)])
def test_it_rests_as_long_as_told(end: Callable[[], float], pause: float) -> None:
    with running(end, StringIO(), pause) as at_work:
        assert eventually(lambda: at_work.taken)
        assert not at_work.reached.wait(0.2)
    assert at_work.taken == 1
