"""Keeping the machine awake: what systemd-inhibit is asked, what comes of it, and that it ends with us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from expunge_agent.devices import awake
from expunge_agent.devices.awake import Wakefulness
from expunge_agent.devices.process import CLEAN_ENVIRONMENT
from expunge_agent.journal import Journal
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.identity import Target
from support.agents import Bench, target_of
from support.trees import tree

HOLDS = """#!/bin/sh
# Like systemd-inhibit(1): runs the program after the options, and ends with it.
for one; do printf '%s\\n' "$one"; done > "$0.args"
while [ "${1#--}" != "$1" ]; do shift; done
echo $$ >> "$0.pids"
"$@"
"""
REFUSED = "#!/bin/sh\necho 'Failed to inhibit: Access denied' >&2\nexit 1\n"
LATE = "#!/bin/sh\nsleep 0.3\necho 'Failed to connect to bus' >&2\nexit 1\n"
DEAF = "#!/bin/sh\necho $$ > $0.pids\ntrap '' TERM\nsleep 60\n"
AGENT = """
import sys, threading
from pathlib import Path
from expunge_agent.devices import awake
from expunge_agent.devices.process import CLEAN_ENVIRONMENT
awake.BOOTED = Path("/")
CLEAN_ENVIRONMENT["PATH"] = sys.argv[1] + ":" + CLEAN_ENVIRONMENT["PATH"]
with awake.awake("a test is under way"):
    print("at work", flush=True)
    threading.Event().wait(60)
"""

Install = Callable[[str], Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a systemd-inhibit on the PATH, on a machine that seems to be run by systemd."""
    monkeypatch.setattr(awake, "BOOTED", tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setitem(CLEAN_ENVIRONMENT, "PATH", f"{folder}:{CLEAN_ENVIRONMENT['PATH']}")

    def put(script: str) -> Path:
        program = folder / "systemd-inhibit"
        program.write_text(script)
        program.chmod(0o755)
        return program

    return put


def beside(program: Path, what: str) -> Path:
    return program.with_name(f"{program.name}.{what}")


def pids(program: Path) -> list[int]:
    """The processes that were started as `program`."""
    wait_for(lambda: beside(program, "pids").exists() and beside(program, "pids").read_text().endswith("\n"))
    return [int(line) for line in beside(program, "pids").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in text.split()]


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def test_it_asks_for_a_block_of_sleep_idleness_and_the_lid(install: Install) -> None:
    program, machine = install(HOLDS), Wakefulness()
    with machine.hold("a drive erases itself"):
        (pid,) = pids(program)
        assert alive(pid)
        assert machine.trouble() == ""
    assert not alive(pid)
    assert machine.trouble() == ""
    assert beside(program, "args").read_text().splitlines() == [
        "--what=sleep:idle:handle-lid-switch",
        "--who=expunge-agent",
        "--mode=block",
        "--why=a drive erases itself",
        "cat",
    ]


def test_one_lock_for_all_work_until_the_last_ends(install: Install) -> None:
    program, machine = install(HOLDS), Wakefulness()
    ends = [threading.Event() for _ in range(5)]

    def work(end: threading.Event) -> None:
        with machine.hold("work"):
            end.wait(20)

    threads = [threading.Thread(target=work, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    (pid,) = pids(program)
    for thread, end in zip(threads, ends, strict=True):
        assert alive(pid), "also after the thread ended that began it"
        end.set()
        thread.join(20)
    assert not alive(pid)
    with machine.hold("work again"):
        wait_for(lambda: len(pids(program)) == 2)


def test_it_ends_with_work_that_breaks(install: Install) -> None:
    program, machine = install(HOLDS), Wakefulness()
    with pytest.raises(ValueError, match="broken"), machine.hold("work"):
        (pid,) = pids(program)
        raise ValueError("broken")
    assert not alive(pid)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (REFUSED, "systemd-inhibit ended with exit code 1: Failed to inhibit: Access denied"),
        (LATE, "systemd-inhibit ended with exit code 1: Failed to connect to bus"),
        ("#!/bin/sh\nkill -KILL $$\n", "systemd-inhibit ended by signal 9"),
        ("#!/bin/sh\nexit 0\n", "systemd-inhibit ended with exit code 0"),
    ],
    ids=["refused", "late", "killed", "gone"],
)
def test_a_lock_that_is_not_held_is_noticed_meanwhile(install: Install, script: str, says: str) -> None:
    install(script)
    machine = Wakefulness()
    with machine.hold("work"):
        wait_for(lambda: machine.trouble() != "")
        assert machine.trouble() == says
    assert machine.trouble() == says


def test_a_refusal_that_comes_after_the_work_is_noticed_at_its_end(install: Install) -> None:
    install(LATE)
    machine, began = Wakefulness(), time.monotonic()
    with machine.hold("work"):
        assert machine.trouble() == ""
        assert time.monotonic() - began < 0.25, "nobody waits for the answer"
    assert machine.trouble().endswith("Failed to connect to bus")


def test_it_is_tried_again_for_the_next_work(install: Install) -> None:
    install(REFUSED)
    machine = Wakefulness()
    with machine.hold("first"):
        wait_for(lambda: machine.trouble() != "")
        program = install(HOLDS)
        with machine.hold("second"):
            pids(program)
            assert machine.trouble(), "for the first work it was not held all the time"
    with machine.hold("third"):
        assert machine.trouble() == ""


def test_one_that_does_not_end_is_killed(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake, "PATIENCE", 0.2)
    program, machine, began = install(DEAF), Wakefulness(), time.monotonic()
    with machine.hold("work"):
        (pid,) = pids(program)
        below = children(pid)
    assert time.monotonic() - began < 10
    assert not alive(pid)
    wait_for(lambda: not any(alive(one) for one in below))
    assert machine.trouble() == "systemd-inhibit ended by signal 9"


def test_without_the_program_or_systemd_it_is_told(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Wakefulness()
    monkeypatch.setitem(CLEAN_ENVIRONMENT, "PATH", str(awake.BOOTED / "bin"))
    with machine.hold("work"):
        assert machine.trouble() == "systemd-inhibit is not installed"
    install("neither a script nor a program")
    with machine.hold("work"):
        assert machine.trouble() == "systemd-inhibit could not be started (Exec format error)"
    monkeypatch.setattr(awake, "BOOTED", awake.BOOTED / "none")
    with machine.hold("work"):
        assert machine.trouble() == "systemd does not run here"


def test_the_real_one_is_understood_where_there_is_no_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/usr/bin/systemd-inhibit").exists():
        pytest.skip("systemd-inhibit is not installed")
    monkeypatch.setattr(awake, "BOOTED", tmp_path)
    monkeypatch.setitem(CLEAN_ENVIRONMENT, "DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/none")
    machine = Wakefulness()
    with machine.hold("a test"):
        wait_for(lambda: machine.trouble() != "")
    assert machine.trouble().startswith("systemd-inhibit ended with exit code 1: Failed to ")


@pytest.fixture
def agent(install: Install) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process of its own that keeps the machine awake."""
    program = install(HOLDS)
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, str(program.parent)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process, program
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_does_not_outlive_a_killed_agent(
    agent: tuple[subprocess.Popen[str], Path], number: signal.Signals
) -> None:
    process, program = agent
    (pid,) = pids(program)
    wait_for(lambda: len(children(pid)) == 1)
    (cat,) = children(pid)
    assert os.getpgid(pid) != os.getpgid(process.pid), "Ctrl-C is not for it"
    os.kill(process.pid, number)
    process.wait(20)
    wait_for(lambda: not alive(pid) and not alive(cat))


# Orders


def titles(bench: Bench) -> list[str]:
    """What the event log of the only order shows."""
    (log,) = (bench.state.root / "orders").glob("*/events.jsonl")
    return [str(json.loads(line)["title"]) for line in log.read_text().splitlines()]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench.make(tmp_path / "state")


@pytest.fixture
def targets(tmp_path: Path) -> dict[str, Target]:
    """A file that stands for a medium, and a directory."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "inside").write_bytes(b"secret" * 10_000)
    (tmp_path / "image").write_bytes(b"secret" * 100_000)
    return {"file": target_of(tmp_path / "image"), "tree": tree(folder)}


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_an_overwrite_holds_it_and_gives_it_back(
    install: Install, bench: Bench, targets: dict[str, Target], kind: str
) -> None:
    program = install(HOLDS)
    checkpoints = list[bool]()
    append = Journal.append

    def watched(self: Journal, record: str, at: str, data: dict[str, object]) -> object:
        if record in ("checkpoint", "files-written", "verify-finished"):
            checkpoints.append(all(alive(pid) for pid in pids(program)))
        return append(self, record, at, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", watched)
        receipt = bench.run(bench.order(policy="nist-clear", targets=[targets[kind]]))
    assert receipt.outcome in (Outcome.SANITIZED, Outcome.EXCEPTIONS)
    assert checkpoints and all(checkpoints)
    (pid,) = pids(program)
    assert not alive(pid)
    assert not [title for title in titles(bench) if "sleep" in title]


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_that_it_could_not_be_had_is_in_the_event_log_once(
    install: Install, bench: Bench, targets: dict[str, Target], kind: str
) -> None:
    install(REFUSED)
    receipt = bench.run(bench.order(policy="nist-clear", targets=[targets[kind]]))
    assert receipt.outcome in (Outcome.SANITIZED, Outcome.EXCEPTIONS), "it is no reason to stop"
    assert [title for title in titles(bench) if "sleep" in title] == [
        "the machine could not be kept from sleeping: systemd-inhibit ended with exit code 1: "
        "Failed to inhibit: Access denied"
    ]


def test_a_lock_that_is_lost_is_told_while_the_work_goes_on(
    install: Install, bench: Bench, targets: dict[str, Target]
) -> None:
    program = install(HOLDS)
    append = Journal.append

    def lost(self: Journal, record: str, at: str, data: dict[str, object]) -> object:
        if record == "pass-started":
            for pid in pids(program):
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda pid=pid: not alive(pid))  # type: ignore[misc]
        return append(self, record, at, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "append", lost)
        bench.run(bench.order(policy="nist-clear", targets=[targets["file"]]))
    told = titles(bench)
    (number,) = (place for place, title in enumerate(told) if "sleep" in title)
    assert told[number].endswith("systemd-inhibit ended by signal 9")
    assert any("pass" in title for title in told[number + 1 :]), "before the work was through"
