"""Whose turn it is to erase, and the kernel asked to look at a drive again."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from expunge_agent.commands.port import CommandTimeout
from expunge_agent.devices import rescan as rescanning
from expunge_agent.devices.nodes import all_disks
from expunge_agent.devices.rescan import rescan
from expunge_agent.devices.roots import Roots
from expunge_agent.techniques.patient import Asker
from expunge_agent.turns import Turns
from lab.drives.clock import VirtualClock
from support.recorded import lay_out


class Crowd:
    """Threads that take turns; what was the most at once, in all and on one lane."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._lock = turns, threading.Lock()
        self._now: list[str] = []
        self.most, self.most_on_a_lane, self.done = 0, 0, 0

    def work(self, lane: str) -> None:
        with self._turns.hold(lane, threading.Event()) as mine:
            assert mine
            with self._lock:
                self._now.append(lane)
                self.most = max(self.most, len(self._now))
                self.most_on_a_lane = max(self.most_on_a_lane, *map(self._now.count, self._now))
            time.sleep(0.005)
            with self._lock:
                self._now.remove(lane)
                self.done += 1

    def run(self, lanes: list[str]) -> None:
        threads = [threading.Thread(target=self.work, args=(lane,)) for lane in lanes]
        for one in threads:
            one.start()
        for one in threads:
            one.join(30)


def test_one_on_each_lane() -> None:
    crowd = Crowd(Turns())
    crowd.run(["a", "b", "c"] * 6)
    assert crowd.done == 18
    assert crowd.most_on_a_lane == 1
    assert 1 < crowd.most <= 3


def test_no_more_than_the_power_supply_bears() -> None:
    crowd = Crowd(Turns(2))
    crowd.run([str(lane) for lane in range(12)])
    assert crowd.done == 12
    assert crowd.most == 2


def test_a_stop_ends_the_wait_and_takes_nothing() -> None:
    turns, stop = Turns(1), threading.Event()
    with turns.hold("a", threading.Event()) as first:
        threading.Timer(0.05, stop.set).start()
        with turns.hold("b", stop) as second:
            assert (first, second) == (True, False)
    with turns.hold("b", threading.Event()) as third:
        assert third


def test_the_turn_is_given_back_when_the_work_breaks() -> None:
    turns = Turns(1)
    with pytest.raises(ValueError, match="broken"), turns.hold("a", threading.Event()):
        raise ValueError("broken")
    with ExitStack() as stack:
        assert stack.enter_context(turns.hold("a", threading.Event()))


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
