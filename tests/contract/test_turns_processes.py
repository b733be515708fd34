"""Runs of the agent that share a state folder take turns, also when one is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from expunge_agent.cli import program
from expunge_agent.errors import PermissionProblemError
from expunge_agent.turns import Turns

RUN = """
import sys, threading
from pathlib import Path
from expunge_agent.turns import Turns
folder, most, per_lane, lane = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with Turns(folder, most, per_lane).hold(lane, threading.Event(), lambda title: print(title, flush=True)):
    print("erasing", flush=True)
    sys.stdin.readline()
"""

Run = subprocess.Popen[str]
Begin = Callable[..., Run]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts a process that takes a turn, tells of it, and gives it back for a line."""
    started: list[Run] = []

    def one(lane: str, most: int = 0, per_lane: int = 1) -> Run:
        args = [sys.executable, "-c", RUN, str(tmp_path / "turns"), str(most), str(per_lane), lane]
        started.append(
            subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        return started[-1]

    yield one
    for run in started:
        run.kill()
        run.communicate()


def says(run: Run) -> str:
    """The next line of a process; empty once it ended, as it does when it says nothing for long."""
    assert run.stdout is not None
    too_long = threading.Timer(20, run.kill)
    too_long.start()
    try:
        return run.stdout.readline().strip()
    finally:
        too_long.cancel()


def ends(run: Run) -> None:
    assert run.stdin is not None
    run.stdin.write("\n")
    run.stdin.flush()
    assert run.wait(20) == 0


def test_a_second_run_waits_for_the_first(begin: Begin, tmp_path: Path) -> None:
    first = begin("0000:00:1f.2")
    assert says(first) == "erasing"
    second, elsewhere = begin("0000:00:1f.2"), begin("0000:03:00.0")
    assert says(second) == "waiting for a turn on 0000:00:1f.2, 1 is erasing"
    assert says(elsewhere) == "erasing"
    ends(first)
    assert says(second) == "erasing"
    ends(second)
    ends(elsewhere)
    assert [path.name for path in (tmp_path / "turns").iterdir()] == ["lock"]


@pytest.mark.parametrize("limit", [{"per_lane": 1}, {"most": 1, "per_lane": 0}])
def test_a_killed_run_gives_its_turn_back(begin: Begin, limit: dict[str, int]) -> None:
    first = begin("a", **limit)
    assert says(first) == "erasing"
    second = begin("a", **limit)
    assert says(second).startswith("waiting for a turn")
    os.kill(first.pid, signal.SIGKILL)
    first.wait(20)
    assert says(second) == "erasing"


def test_a_killed_run_that_waited_holds_nobody_up(begin: Begin) -> None:
    first = begin("a")
    assert says(first) == "erasing"
    second = begin("a")
    assert says(second) == "waiting for a turn on a, 1 is erasing"
    third = begin("a")
    assert says(third) == "waiting for a turn on a, 1 is erasing, 1 before it"
    os.kill(second.pid, signal.SIGKILL)
    second.wait(20)
    assert says(third) == "waiting for a turn on a, 1 is erasing"
    ends(first)
    assert says(third) == "erasing"


def test_who_came_first_goes_first(begin: Begin) -> None:
    first = begin("a")
    assert says(first) == "erasing"
    waiting = []
    for _ in range(3):
        waiting.append(begin("a"))
        assert says(waiting[-1]).startswith("waiting")
    ends(first)
    for number, run in enumerate(waiting):
        while (said := says(run)).startswith("waiting"):
            pass
        assert said == "erasing"
        assert all(later.poll() is None for later in waiting[number:])
        ends(run)


def test_each_run_obeys_its_own_limit(begin: Begin) -> None:
    first = begin("a", most=1)
    assert says(first) == "erasing"
    generous = begin("b", most=2)
    assert says(generous) == "erasing"
    strict = begin("c", most=1)
    assert says(strict) == "waiting for a turn, 2 are erasing"
    ends(first)
    assert says(strict) == "waiting for a turn, 1 is erasing"
    ends(generous)
    assert says(strict) == "erasing"


CROWD = """
import os, random, sys, threading, time
from pathlib import Path
from expunge_agent import turns
turns.LOOK = 0.01
folder, log = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
for number in range(15):
    lane = random.choice("abc")
    with turns.Turns(folder, 3, 2).hold(lane, threading.Event(), lambda title: None):
        os.write(log, f"+{lane}\\n".encode())
        time.sleep(random.uniform(0, 0.02))
        os.write(log, f"-{lane}\\n".encode())
"""


def test_many_runs_at_once_never_pass_a_limit(tmp_path: Path) -> None:
    args = [sys.executable, "-c", CROWD, str(tmp_path / "turns"), str(tmp_path / "log")]
    runs = [subprocess.Popen(args, stderr=subprocess.PIPE) for _ in range(6)]
    ends = [(run.communicate(timeout=120)[1], run.returncode) for run in runs]
    assert ends == [(b"", 0)] * 6
    now, most, most_on_a_lane = list[str](), 0, 0
    for line in (tmp_path / "log").read_text().splitlines():
        now.append(line[1]) if line[0] == "+" else now.remove(line[1])
        most = max(most, len(now))
        most_on_a_lane = max(most_on_a_lane, *map(now.count, "abc"))
    assert (now, most, most_on_a_lane) == ([], 3, 2), "and the limits are made use of"


def test_a_folder_of_somebody_else_is_told_of(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else for it")
    folder = tmp_path / "turns"
    folder.mkdir(mode=0o700)
    for above in [tmp_path, *tmp_path.parents[:2]]:
        above.chmod(above.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with (
            pytest.raises(PermissionProblemError, match="may not use") as told,
            Turns(folder).hold("a", threading.Event(), lambda _title: None),
        ):
            pytest.fail("nothing may begin")
    finally:
        os.seteuid(0)
    assert "root" in told.value.remedy


@pytest.mark.parametrize("verb", ["run", "wipe"])
def test_the_limits_are_options_and_shown(verb: str) -> None:
    shown = CliRunner().invoke(program, [verb, "--help"], env={"COLUMNS": "200"}).output
    assert re.search(r"--erasing INTEGER RANGE", shown)
    assert re.search(r"--erasing-per-controller INTEGER RANGE[\s\S]{0,200}default: 1;", shown)
