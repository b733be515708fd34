"""Whose turn it is to erase, and the kernel asked to look at a drive again."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent import turns as turns_module
from expunge_agent.cli import running
from expunge_agent.commands.port import CommandTimeout
from expunge_agent.devices import rescan as rescanning
from expunge_agent.devices.lanes import NVM_SUBSYSTEM
from expunge_agent.devices.nodes import all_disks
from expunge_agent.devices.rescan import rescan
from expunge_agent.devices.roots import Roots
from expunge_agent.errors import StateError
from expunge_agent.techniques.patient import Asker
from expunge_agent.turns import Turn, Turns, waits_for
from lab.drives.clock import VirtualClock
from support.recorded import lay_out


def silent(_title: str) -> None:
    """Nobody who listens."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "LOOK", 0.01)


class Crowd:
    """Threads that take turns; what was the most at once, in all and on one lane."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._lock = turns, threading.Lock()
        self._now: list[str] = []
        self.most, self.most_on_a_lane, self.done = 0, 0, 0

    def work(self, lane: str) -> None:
        with self._turns.hold(lane, threading.Event(), silent) as mine:
            assert mine
            with self._lock:
                self._now.append(lane)
                self.most = max(self.most, len(self._now))
                self.most_on_a_lane = max(self.most_on_a_lane, *map(self._now.count, self._now))
            time.sleep(0.05)
            with self._lock:
                self._now.remove(lane)
                self.done += 1

    def run(self, lanes: list[str]) -> None:
        threads = [threading.Thread(target=self.work, args=(lane,), daemon=True) for lane in lanes]
        for one in threads:
            one.start()
        end = time.monotonic() + 30
        for one in threads:
            one.join(max(0.0, end - time.monotonic()))


def left(folder: Path) -> list[str]:
    """Files of turns that are still there."""
    return sorted({path.name for path in folder.iterdir()} - {"lock"})


@pytest.mark.parametrize("per_lane", [1, 2])
def test_so_many_on_each_lane(tmp_path: Path, per_lane: int) -> None:
    crowd = Crowd(Turns(tmp_path, per_lane=per_lane))
    crowd.run(["a", "b", "c"] * 6)
    assert crowd.done == 18
    assert crowd.most_on_a_lane == per_lane
    assert per_lane < crowd.most <= 3 * per_lane
    assert left(tmp_path) == []


def test_no_limit_on_a_lane(tmp_path: Path) -> None:
    crowd = Crowd(Turns(tmp_path, per_lane=0))
    crowd.run(["a"] * 8)
    assert (crowd.done, crowd.most_on_a_lane > 1) == (8, True)


def test_of_an_nvm_subsystem_one_namespace_at_a_time(tmp_path: Path) -> None:
    """Whatever is allowed: the other one's sanitize would be refused."""
    crowd = Crowd(Turns(tmp_path, per_lane=0))
    crowd.run([f"{NVM_SUBSYSTEM}nqn.2026-01.example:{name}" for name in "ab"] * 4)
    assert (crowd.done, crowd.most_on_a_lane, crowd.most) == (8, 1, 2)


def test_no_more_than_the_power_supply_bears(tmp_path: Path) -> None:
    crowd = Crowd(Turns(tmp_path, 2))
    crowd.run([str(lane) for lane in range(12)])
    assert crowd.done == 12
    assert crowd.most == 2


def test_a_stop_ends_the_wait_and_takes_nothing(tmp_path: Path) -> None:
    turns, stop = Turns(tmp_path, 1), threading.Event()
    with turns.hold("a", threading.Event(), silent) as first:
        threading.Timer(0.05, stop.set).start()
        with turns.hold("b", stop, silent) as second:
            assert (first, second) == (True, False)
        assert len(left(tmp_path)) == 1, "who was stopped is in nobody's way"
    with turns.hold("b", threading.Event(), silent) as third:
        assert third


def test_a_stop_also_ends_the_wait_for_a_look(tmp_path: Path) -> None:
    stop = threading.Event()
    with (tmp_path / "lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        threading.Timer(0.05, stop.set).start()
        with Turns(tmp_path).hold("a", stop, silent) as mine:
            assert not mine


def test_the_turn_is_given_back_when_the_work_breaks(tmp_path: Path) -> None:
    turns = Turns(tmp_path, 1)
    with pytest.raises(ValueError, match="broken"), turns.hold("a", threading.Event(), silent):
        raise ValueError("broken")
    assert left(tmp_path) == []
    with ExitStack() as stack:
        assert stack.enter_context(turns.hold("a", threading.Event(), silent))


def test_a_drive_at_work_is_counted_and_waits_for_nobody(tmp_path: Path) -> None:
    turns, stop, said = Turns(tmp_path, 1), threading.Event(), list[str]()
    with (
        turns.hold("a", threading.Event(), silent),
        turns.hold("a", threading.Event(), said.append, at_work=True) as second,
    ):
        assert (second, said) == (True, [])
        threading.Timer(0.05, stop.set).start()
        with turns.hold("a", stop, said.append) as third:
            assert (third, said) == (False, ["waiting for a turn on a, 2 are erasing"])


def test_a_turn_of_which_nothing_but_the_name_is_left_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / Turn(7, True, "a").name).touch()
    (tmp_path / "notes").touch()
    with Turns(tmp_path, 1).hold("a", threading.Event(), silent) as mine:
        assert mine
        assert left(tmp_path) == [Turn(1, True, "a").name, "notes"]


def test_each_obeys_its_own_limit_against_all(tmp_path: Path) -> None:
    one, three = Turns(tmp_path, 1), Turns(tmp_path, 3)
    with (
        one.hold("a", threading.Event(), silent) as first,
        three.hold("b", threading.Event(), silent) as second,
        three.hold("c", threading.Event(), silent) as third,
    ):
        assert first and second and third
        said, brief = list[str](), threading.Event()
        threading.Timer(0.05, brief.set).start()
        with one.hold("d", brief, said.append) as fourth:
            assert (fourth, said) == (False, ["waiting for a turn, 3 are erasing"])


def test_a_folder_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "none" / "turns", tmp_path / "file"):
        with (
            pytest.raises(StateError, match=str(folder)),
            Turns(folder).hold("a", threading.Event(), silent),
        ):
            pytest.fail("nothing may begin")


# How a run is told


@pytest.mark.parametrize(
    ("words", "environment", "limits"),
    [
        ([], {}, (0, 1)),
        (["--erasing", "4", "--erasing-per-controller", "3"], {}, (4, 3)),
        ([], {"EXPUNGE_ERASING": "4", "EXPUNGE_ERASING_PER_CONTROLLER": "0"}, (4, 0)),
        (["--erasing-per-controller", "2"], {"EXPUNGE_ERASING_PER_CONTROLLER": "5"}, (0, 2)),
    ],
)
def test_a_run_takes_its_limits_and_the_folder_of_its_state(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environment: dict[str, str],
    limits: tuple[int, int],
) -> None:
    made: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(running, "Turns", lambda *how: made.append(how))

    @click.command()
    @running.run_options
    def verb(**how: object) -> int:
        running.surroundings(tmp_path, {}, how)
        return 0

    result = CliRunner().invoke(verb, words, env=environment, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert made == [(tmp_path / "turns", *limits)]


# The rule


@pytest.mark.parametrize(
    ("others", "most", "per_lane", "says"),
    [
        ([], 0, 1, ""),
        ([Turn(1, True, "b")], 0, 1, ""),
        ([Turn(1, True, "a")], 0, 1, "waiting for a turn on a, 1 is erasing"),
        ([Turn(1, True, "a")], 0, 2, ""),
        ([Turn(1, True, "a"), Turn(2, True, "a")], 0, 2, "waiting for a turn on a, 2 are erasing"),
        ([Turn(1, True, "a"), Turn(2, True, "a")], 0, 0, ""),
        ([Turn(1, True, "b"), Turn(2, True, "c")], 2, 1, "waiting for a turn, 2 are erasing"),
        ([Turn(1, True, "b"), Turn(2, True, "c")], 3, 1, ""),
        # Who came earlier goes first,
        ([Turn(5, False, "a")], 0, 1, "waiting for a turn on a, 0 are erasing, 1 before it"),
        ([Turn(1, True, "b"), Turn(5, False, "c")], 2, 1, "waiting for a turn, 1 is erasing, 1 before it"),
        # not who came later,
        ([Turn(8, False, "a")], 1, 1, ""),
        # nor who has to wait in any case.
        ([Turn(1, True, "b"), Turn(5, False, "b")], 2, 1, ""),
    ],
)
def test_whose_turn_it_is(others: list[Turn], most: int, per_lane: int, says: str) -> None:
    assert waits_for(Turn(7, False, "a"), others, most, per_lane) == says


@given(
    st.lists(st.sampled_from(["0000:00:1f.2", "virtual", "", "a/b", "ä"]), min_size=1, max_size=12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_all_get_their_turn_and_no_limit_is_passed(
    lanes: list[str], most: int, per_lane: int, random: Random
) -> None:
    turns = [Turn(number, False, lane) for number, lane in enumerate(lanes)]
    done = 0
    while turns:
        may = [
            one
            for one in turns
            if not one.kept and not waits_for(one, [it for it in turns if it != one], most, per_lane)
        ]
        kept = [one for one in turns if one.kept]
        assert may or kept, "somebody can always go on"
        if kept and (not may or random.random() < 0.5):
            turns.remove(random.choice(kept))
            done += 1
        else:
            one = random.choice(may)
            turns[turns.index(one)] = Turn(one.number, True, one.lane)
        kept = [one for one in turns if one.kept]
        assert not most or len(kept) <= most
        on = [one.lane for one in kept]
        assert not per_lane or all(on.count(lane) <= per_lane for lane in on)
    assert done == len(lanes)


# The kernel's view of a drive that had no capacity while it was at work


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path)


def pointed_at(roots: Roots, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of disk `name`; any path of this test has its number."""
    node = next(one for one in all_disks(roots) if one.name == name)
    major, minor = node.number.split(":")
    seen = os.stat_result(
        (0o60660, 1, 1, 1, 0, 0, 0, 0, 0, 0), {"st_rdev": os.makedev(int(major), int(minor))}
    )
    as_if = SimpleNamespace(stat=lambda path: seen, major=os.major, minor=os.minor)
    monkeypatch.setattr(rescanning, "os", as_if)
    return node.folder


@pytest.mark.parametrize(("name", "trigger"), [("sda", "rescan"), ("nvme0n1", "rescan_controller")])
def test_a_rescan_is_asked_for_where_there_is_no_size(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, name: str, trigger: str
) -> None:
    folder = pointed_at(roots, name, monkeypatch)
    (folder / "device" / trigger).write_text("")
    size = int((folder / "size").read_text()) * 512
    assert rescan("/dev/any", roots) == size > 0
    assert (folder / "device" / trigger).read_text() == "", "a size stays what it is"
    (folder / "size").write_text("0\n")
    monkeypatch.setattr(rescanning, "_PATIENCE", 0.0)
    assert rescan("/dev/any", roots) == 0
    assert (folder / "device" / trigger).read_text() == "1"


def test_it_waits_until_there_is_a_size(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pointed_at(roots, "sda", monkeypatch)
    (folder / "size").write_text("0\n")
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            (folder / "size").write_text("8\n")

    monkeypatch.setattr(rescanning, "time", SimpleNamespace(sleep=nap, monotonic=time.monotonic))
    assert rescan("/dev/any", roots) == 4096
    assert len(naps) == 3


def test_it_does_not_wait_for_ever(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pointed_at(roots, "sda", monkeypatch)
    (folder / "size").write_text("0\n")
    clock = VirtualClock()
    monkeypatch.setattr(rescanning, "time", SimpleNamespace(sleep=clock.pause, monotonic=clock.now))
    assert rescan("/dev/any", roots) == 0
    assert 9 < clock.now() < 11


def test_a_path_that_is_gone_has_no_size(roots: Roots, tmp_path: Path) -> None:
    assert rescan(str(tmp_path / "none"), roots) == 0


def test_nothing_is_sent_in_the_name_of_a_question_that_was_given_up() -> None:
    asker, go, sent = Asker(0.1), threading.Event(), []

    def chain() -> None:
        asker.still_awaited()
        sent.append("first")
        go.wait(5)
        asker.still_awaited()
        sent.append("second")

    with pytest.raises(CommandTimeout):
        asker.ask(chain)
    assert asker.stuck
    with pytest.raises(CommandTimeout, match="earlier"):
        asker.ask(lambda: 1)
    go.set()
    assert asker.ask(lambda: 2, 5.0) == 2
    assert sent == ["first"]


def test_all_questions_are_asked_in_one_thread_which_ends_with_the_asker() -> None:
    with Asker(5.0) as asker:
        (thread,) = {asker.ask(threading.current_thread) for _ in range(100)}
        assert thread is not threading.current_thread()
        with pytest.raises(ZeroDivisionError):
            asker.ask(lambda: 1 // 0)
        assert asker.ask(lambda: "after a trouble") == "after a trouble"
        assert not asker.stuck
    thread.join(5)
    assert not thread.is_alive()


def test_a_thread_that_is_stuck_ends_once_it_is_let_go() -> None:
    go, held = threading.Event(), []

    def chain() -> None:
        held.append(threading.current_thread())
        go.wait(30)

    with Asker(0.1) as asker, pytest.raises(CommandTimeout):
        asker.ask(chain)
    assert asker.stuck
    go.set()
    held[0].join(5)
    assert not held[0].is_alive()
    assert not asker.stuck


def test_a_chain_that_still_runs_when_its_asker_is_left_sends_nothing_more() -> None:
    sent, held = list[int](), list[BaseException]()
    midway, go, ended = threading.Event(), threading.Event(), threading.Event()

    def chain() -> None:
        try:
            for at in range(100):
                asker.still_awaited()
                sent.append(at)
                if at == 2:
                    midway.set()
                    go.wait(30)
        except CommandTimeout as error:
            held.append(error)
            raise
        finally:
            ended.set()

    def asked_beside() -> None:
        with suppress(CommandTimeout):
            asker.ask(chain, 30.0)

    with Asker(30.0) as asker:
        beside = threading.Thread(target=asked_beside, daemon=True)
        beside.start()
        assert midway.wait(5)
    go.set()
    assert ended.wait(5)
    beside.join(5)
    assert sent == [0, 1, 2]
    assert "given up" in str(held[0])


def test_who_is_interrupted_while_asking_has_given_the_question_up() -> None:
    sent, go, ended = list[int](), threading.Event(), threading.Event()
    asking, before = threading.get_ident(), signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def chain() -> None:
        try:
            for at in range(100):
                asker.still_awaited()
                sent.append(at)
                if at == 2:
                    signal.pthread_kill(asking, signal.SIGUSR1)
                    go.wait(30)
        finally:
            ended.set()

    try:
        with pytest.raises(KeyboardInterrupt), Asker(30.0) as asker:
            asker.ask(chain)
    finally:
        signal.signal(signal.SIGUSR1, before)
    go.set()
    assert ended.wait(5)
    assert sent == [0, 1, 2]
