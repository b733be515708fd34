"""A drive that is found at work after a restart, and has ended by the next look, was seen to begin."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent import erasures
from expunge_agent.commands.port import CommandTimeout
from expunge_agent.core.erasure_progress import ErasureProgress
from expunge_agent.core.outcome import Verdict
from expunge_agent.core.technique import Technique
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.errors import StateError
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.event import EventKind
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques import erasing
from expunge_agent.techniques.hand import Hand, State, Status
from expunge_agent.turns import Turns
from lab import bench as b
from lab.bench import Bench, Book, Crash, Order
from lab.drives.faults import FORGETS


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


class Teller:
    """An event log that keeps what is waited for; `then` is called when there is something."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.said: list[str] = []
        self._then = then

    def emit(self, kind: EventKind, *, title: str = "", **_how: object) -> None:
        """See EventLog."""
        if title.startswith("waiting for a turn"):
            self.said.append(title)
            self._then()


def with_turns(monkeypatch: pytest.MonkeyPatch, turns: Turns, events: Teller) -> None:
    """Have orders for a bench take turns, and tell of it."""
    monkeypatch.setattr(b, "Surroundings", partial(Surroundings, turns=turns))
    monkeypatch.setattr(b, "_Silent", lambda: events)


def nobody(_title: str) -> None:
    """Who does not listen."""


def test_nothing_is_written_before_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    turns, book, seen = Turns(tmp_path / "turns"), Book(), list[list[str]]()
    with ExitStack() as other:
        assert other.enter_context(turns.hold("lab", threading.Event(), nobody))

        def over() -> None:
            seen.append(list(book.kinds))
            other.close()

        events = Teller(over)
        with_turns(monkeypatch, turns, events)
        try:
            verdict = Order(bench).carry_out(book)
        finally:
            bench.close()
    assert events.said == ["waiting for a turn on lab, 1 is erasing"]
    assert seen == [[]]
    assert verdict.outcome is Outcome.SANITIZED


def test_a_drive_at_work_after_a_restart_takes_its_turn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, order, book = under_way(tmp_path)
    turns, kept = Turns(tmp_path / "turns"), list[int]()
    events = Teller(lambda: pytest.fail("it waits"))
    with_turns(monkeypatch, turns, events)
    follow = erasing.rejoin

    def counted(*what: Any) -> None:
        kept.append(len([path for path in (tmp_path / "turns").iterdir() if ".kept." in path.name]))
        follow(*what)

    monkeypatch.setattr(erasing, "rejoin", counted)
    try:
        with turns.hold("lab", threading.Event(), nobody):
            verdict = order.carry_out(book)
    finally:
        bench.close()
    assert (events.said, kept) == ([], [2])
    assert verdict.outcome is Outcome.SANITIZED


def once_another_is_done(monkeypatch: pytest.MonkeyPatch, folder: Path, order: Order, book: Book) -> Verdict:
    """Carry `order` out beside a drive that has the only turn until this one waits for it."""
    turns = Turns(folder / "turns")
    with ExitStack() as other:
        other.enter_context(turns.hold("lab", threading.Event(), nobody))
        events = Teller(other.close)
        with_turns(monkeypatch, turns, events)
        verdict = order.carry_out(book)
    assert events.said == ["waiting for a turn on lab, 1 is erasing"]
    return verdict


def test_a_command_that_is_given_again_after_a_restart_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    order, book = Order(bench), Book()
    book.crash = (3, True)
    with pytest.raises(Crash):
        order.carry_out(book)
    assert book.kinds[-1] == "erase-sending"
    assert not bench.busy
    again = book.reopened()
    verdict = once_another_is_done(monkeypatch, tmp_path, order, again)
    bench.close()
    assert verdict.outcome is Outcome.SANITIZED


def held_by_another(path: Path) -> int:
    """A lock on the drive at `path`, so that no order joins it again; a descriptor."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_drive_that_could_not_be_joined_again_is_counted_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, order, book = under_way(tmp_path)
    turns, fd = Turns(tmp_path / "turns"), held_by_another(bench.image)
    events = Teller(lambda: pytest.fail("it waits"))
    with_turns(monkeypatch, turns, events)
    try:
        assert bench.busy
        with turns.hold("lab", threading.Event(), nobody):
            verdict = order.carry_out(book)
    finally:
        os.close(fd)
        bench.close()
    assert events.said == []
    assert verdict.outcome is Outcome.SANITIZED


def test_a_drive_that_took_the_command_and_does_not_answer_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, order, book = under_way(tmp_path)
    turns, fd, hand, asked = Turns(tmp_path / "turns"), held_by_another(bench.image), bench.hand, list[int]()
    events = Teller(lambda: pytest.fail("it waits"))
    with_turns(monkeypatch, turns, events)

    def silent_once() -> Hand:
        asked.append(1)
        if len(asked) == 1:
            raise CommandTimeout("no answer")
        return hand()

    monkeypatch.setattr(bench, "hand", silent_once)
    try:
        with turns.hold("lab", threading.Event(), nobody):
            verdict = order.carry_out(book)
    finally:
        os.close(fd)
        bench.close()
    assert len(asked) > 1
    assert verdict.outcome is Outcome.SANITIZED


def test_a_drive_that_took_the_command_and_forgot_it_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME, FORGETS)
    order, book = Order(bench), Book()
    book.crash = (4, True)
    with pytest.raises(Crash):
        order.carry_out(book)
    assert book.kinds[-1] == "erase-accepted"
    bench.power_cut()
    assert not bench.busy
    again = book.reopened()
    verdict = once_another_is_done(monkeypatch, tmp_path, order, again)
    bench.close()
    assert again.kinds.count("erase-starting") == 2
    assert verdict.outcome is Outcome.SANITIZED


def test_a_stop_while_it_waits_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    turns, book, stop = Turns(tmp_path / "turns"), Book(), b.Stop(bench.clock)
    events = Teller(stop.set)
    with_turns(monkeypatch, turns, events)
    try:
        with turns.hold("lab", threading.Event(), nobody):
            verdict = Order(bench).carry_out(book, stop)
    finally:
        bench.close()
    assert len(events.said) == 1
    assert book.kinds == []
    assert verdict.outcome is Outcome.INTERRUPTED


def test_without_a_folder_for_turns_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, book = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME), Book()
    (tmp_path / "turns").write_text("no folder")
    with_turns(monkeypatch, Turns(tmp_path / "turns"), Teller(lambda: None))
    try:
        with pytest.raises(StateError, match="turns"):
            Order(bench).carry_out(book)
    finally:
        bench.close()
    assert book.kinds == []


# The machine is kept awake


def watched_sleep(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the machine is kept awake for at the moment."""
    held: list[str] = []

    @contextmanager
    def hold(why: str) -> Iterator[None]:
        held.append(why)
        try:
            yield
        finally:
            held.remove(why)

    monkeypatch.setattr(b, "_awake", hold)
    return held


def test_the_machine_is_kept_awake_from_the_canaries_to_the_last_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, held = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME), watched_sleep(monkeypatch)
    book, seen = Book(), list[tuple[str, list[str]]]()
    record = book.record

    def noted(kind: str, **data: object) -> None:
        seen.append((kind, list(held)))
        record(kind, **data)

    monkeypatch.setattr(book, "record", noted)
    try:
        Order(bench).carry_out(book)
    finally:
        bench.close()
    assert {"canaries-placing", "erase-accepted", "erase-checked"} <= {kind for kind, _ in seen}
    assert all(why == ["nvme-sanitize-block is under way"] for _, why in seen)
    assert held == []


def test_the_machine_is_kept_awake_for_a_drive_that_is_joined_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, order, book = under_way(tmp_path)
    held, seen, follow = watched_sleep(monkeypatch), list[list[str]](), erasing.rejoin

    def noted(*what: Any) -> None:
        seen.append(list(held))
        follow(*what)

    monkeypatch.setattr(erasing, "rejoin", noted)
    try:
        order.carry_out(book)
    finally:
        bench.close()
    assert seen == [["nvme-sanitize-block is under way"]]
    assert held == []


def test_an_exception_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, held = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME), watched_sleep(monkeypatch)
    book = Book()
    book.crash = (3, True)
    try:
        with pytest.raises(Crash):
            Order(bench).carry_out(book)
    finally:
        bench.close()
    assert held == []
