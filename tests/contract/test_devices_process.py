"""Starting programs: captured and limited in time, or detached and outliving their starter."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from expunge_agent.devices.process import run_tool, spawn_detached
from expunge_agent.errors import NotFoundError, PermissionProblemError


def test_output_status_and_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    result = run_tool(["sh", "-c", "env; echo bad >&2; cat; exit 3"], 10, stdin=b"given")
    assert result.returncode == 3
    assert b"LC_ALL=C" in result.stdout
    assert b"SECRET" not in result.stdout
    assert result.stdout.endswith(b"given")
    assert result.stderr == b"bad\n"
    assert not result.timed_out


def test_nothing_is_expanded_by_a_shell() -> None:
    assert run_tool(["echo", "$HOME; *"], 10).stdout == b"$HOME; *\n"


def test_a_tool_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    started = time.monotonic()
    result = run_tool(["sh", "-c", f"sleep 60 & echo $! > {mark}; echo so far; wait"], 0.5)
    assert time.monotonic() - started < 10
    assert result.timed_out
    assert result.returncode == -signal.SIGKILL
    assert result.stdout == b"so far\n"
    child = int(mark.read_text())
    wait_for(lambda: not alive(child))


def test_a_missing_or_forbidden_program_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as missing:
        run_tool(["no-such-program"], 1)
    assert missing.value.remedy
    (tmp_path / "plain").write_text("x")
    with pytest.raises(PermissionProblemError):
        run_tool([str(tmp_path / "plain")], 1)
    with pytest.raises(NotFoundError):
        spawn_detached(["no-such-program"], {}, tmp_path / "log")


def test_a_detached_process_outlives_its_starter(tmp_path: Path) -> None:
    log, done = tmp_path / "log", tmp_path / "done"
    script = (
        "import sys; from pathlib import Path; from expunge_agent.devices.process import spawn_detached;"
        "print(spawn_detached(['/bin/sh','-c',sys.argv[1]], {'PATH':'/usr/bin:/bin','MARK':'here'}, Path(sys.argv[2])))"
    )
    inner = f"echo begun $MARK; sleep 1; touch {done}"
    started = run_tool([sys.executable, "-c", script, inner, str(log)], 30)
    assert started.returncode == 0, started.stderr
    pid = int(started.stdout)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    wait_for(done.exists)
    assert log.read_text() == "begun here\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_detached_process_leaves_no_zombie(tmp_path: Path) -> None:
    pid = spawn_detached(["true"], {"PATH": "/usr/bin:/bin"}, tmp_path / "log")
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
