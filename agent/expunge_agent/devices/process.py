"""The one place that starts programs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge_agent.errors import NotFoundError, PermissionProblemError

CLEAN_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Result:
    """What a tool did. ``returncode`` is negative for a signal; an exit code is no proof of success."""

    args: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes
    duration_ms: int
    timed_out: bool


def run_tool(args: Sequence[str], timeout: float, *, stdin: bytes = b"", fds: Sequence[int] = ()) -> Result:
    """Run `args` (no shell, clean environment, own session) for at most `timeout` seconds; `fds` are inherited.

    On a timeout the tool and all its children are killed and ``timed_out`` is set; what it printed
    until then is kept. Raises NotFoundError when there is no such program, PermissionProblemError
    when it may not be started.
    """
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            list(args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=CLEAN_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            pass_fds=tuple(fds),
        )
    except OSError as error:
        raise _not_started(args, error) from error
    timed_out = False
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Result(
        args=tuple(args),
        returncode=process.returncode,
        stdout=stdout,
        stderr=stderr,
        duration_ms=int((time.monotonic() - started) * 1000),
        timed_out=timed_out,
    )


def spawn_detached(args: Sequence[str], env: Mapping[str, str], log_path: Path) -> int:
    """Start `args` so that it outlives this process; its process id.

    It gets a session of its own (no hang-up, no Ctrl-C from this terminal), ``/`` as its folder,
    nothing on stdin, and appends stdout and stderr to `log_path` (created 0600). `env` is its whole
    environment. Raises NotFoundError or PermissionProblemError when it cannot be started.
    """
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        process = subprocess.Popen(
            list(args),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(env),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(args, error) from error
    finally:
        os.close(log)
    # Reaped here while we live, so that it is never a zombie that looks like a running order;
    # afterwards init does it.
    threading.Thread(target=process.wait, name=f"reap-{process.pid}", daemon=True).start()
    return process.pid


def _not_started(args: Sequence[str], error: OSError) -> NotFoundError | PermissionProblemError:
    if isinstance(error, PermissionError):
        return PermissionProblemError(f"{args[0]} may not be started ({error.strerror}).", "Check its mode.")
    return NotFoundError(
        f"{args[0]} could not be started ({error.strerror}).", "Install the package it is in."
    )
