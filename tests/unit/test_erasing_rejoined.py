"""A drive that is found at work after a restart, and has ended by the next look, was seen to begin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from expunge_agent.core.erasure import ErasureProgress
from expunge_agent.core.technique import Technique
from expunge_agent.steps import Steps
from expunge_agent.techniques import erasing
from expunge_agent.techniques.hand import Hand, State, Status
from lab import bench as b
from lab.bench import Bench, Book, Crash, Order


class Quick:
    """A hand whose drive ends just after it was looked at for the first time."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._hand = bench, bench.hand()
        self.technique, self.waits, self.timeout = self._hand.technique, False, self._hand.timeout
        self.states: list[State] = []

    def poll(self) -> Status:
        """See Hand."""
        status = self._hand.poll()
        self.states.append(status.state)
        self._bench.clock.pause(1000.0)
        return status

    def prepare(self) -> list[object]:
        """Not to be called."""
        raise AssertionError("it is begun again")

    start = settle = prepare


Carry = Callable[..., None]


@pytest.mark.parametrize("carry", [erasing.rejoin, erasing.carry_through])
def test_what_ended_between_two_looks_was_seen(tmp_path: Path, carry: Carry) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    try:
        order, book = Order(bench), Book()
        whole = ["canaries-placing", "canaries-placed", "erase-starting", "erase-sending", "erase-accepted"]
        book.crash = (whole.index("erase-accepted"), False)
        with pytest.raises(Crash):
            order.carry_out(book)
        assert book.kinds == whole[:-1]
        again = book.reopened()
        again.target(0).plan = order.plan
        so_far: ErasureProgress = again.target(0).erasure
        assert so_far.under_way
        assert not so_far.accepted
        steps = Steps(0, again, _Silent())  # type: ignore[arg-type]
        watch = erasing.Watch(
            stop=threading.Event(), now=lambda: datetime(2026, 1, 1, tzinfo=UTC), clock=bench.clock.now
        )
        quick: Hand = Quick(bench)  # type: ignore[assignment]
        carry(quick, order.plan, so_far, steps, watch)
        assert quick.states == [State.RUNNING, State.DONE]  # type: ignore[attr-defined]
        assert so_far.seen
        assert so_far.ended is not None
        assert so_far.ended.end == "done"
    finally:
        bench.close()


class _Silent:
    def emit(self, *what: object, **how: object) -> None:
        """Nobody reads it."""
