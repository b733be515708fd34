"""A drive that is found at work after a restart, and has ended by the next look, was seen to begin."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from expunge_agent import erasures
from expunge_agent.core.erasure_progress import ErasureProgress
from expunge_agent.core.technique import Technique
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
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


def under_way(tmp_path: Path) -> tuple[Bench, Order, Book]:
    """An order whose agent ended when its drive was at work."""
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    order, book = Order(bench), Book()
    book.crash = (4, True)
    with pytest.raises(Crash):
        order.carry_out(book)
    assert book.kinds[-1] == "erase-accepted"
    again = book.reopened()
    again.target(0).plan = order.plan
    return bench, order, again


@pytest.mark.parametrize("field", ["serial", "wwn", "model"])
def test_another_drive_at_work_at_the_same_place_is_not_followed(tmp_path: Path, field: str) -> None:
    bench, order, book = under_way(tmp_path)
    ordered = replace(b.IDENTITY, **{field: "ANOTHER"})
    stop = b.Stop(bench.clock)
    try:
        with order._instead_of_the_machine(stop):
            around = Surroundings(profiles={}, stop=stop)
            steps = Steps(0, book, b._Silent())  # type: ignore[arg-type]
            erasures.rejoin(order.plan.path, ordered, book.target(0), steps, around)
        assert "erase-seen" not in book.kinds
        assert "erase-ended" not in book.kinds
    finally:
        bench.close()


def test_a_command_is_not_begun_when_what_it_takes_with_it_has_changed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    order, book, stop = Order(bench), Book(), b.Stop(bench.clock)
    book.target(0).plan = order.plan

    def recheck() -> None:
        raise TargetRefused(Refusal(reason=Reason.OTHER_NAMESPACES, detail="another one is mounted by now"))

    try:
        with order._instead_of_the_machine(stop), pytest.raises(TargetRefused):
            erasures.erase(
                b._Opened(order.plan.path, bench.size),  # type: ignore[arg-type]
                lambda one: bench.target(one.size),  # type: ignore[arg-type, return-value]
                recheck,
                book.target(0),
                Steps(0, book, b._Silent()),  # type: ignore[arg-type]
                Surroundings(profiles={}, stop=stop),
            )
        assert book.kinds == ["canaries-placing", "canaries-placed"]
        assert book.target(0).touched
        assert not bench.busy
    finally:
        bench.close()
