"""Keeping the machine from sleeping while data is destroyed, and seeing whether it could be."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.devices.process import CLEAN_ENVIRONMENT

BOOTED = Path("/run/systemd/system")
"""There where systemd runs the machine (sd_booted(3))."""
PATIENCE = 2.0
"""Seconds that systemd-inhibit has to end once the work is through."""
_INHIBIT = (
    "systemd-inhibit",
    # A closed lid suspends whatever blocks `sleep` alone (LidSwitchIgnoreInhibited of logind.conf(5)).
    "--what=sleep:idle:handle-lid-switch",
    "--who=expunge-agent",
    "--mode=block",
)


class Wakefulness:
    """One lock against sleep for all work of this process that is under way, whoever began it.

    systemd-inhibit(1) holds it for as long as the program runs that it started: `cat` on a pipe that nobody but this
    process has open, so that the lock goes with us however we end. (PR_SET_PDEATHSIG would end it with the
    thread that started it.)
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._works = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._trouble = ""

    @contextmanager
    def hold(self, why: str) -> Iterator[None]:
        """Hold off sleep for as long as this lasts. It waits for no answer; whether it could be had: `trouble`.

        `why` is what `systemd-inhibit --list` shows, unless other work has the lock already.
        """
        with self._mutex:
            self._look()
            if self._child is None:
                self._begin(why)
            self._works += 1
        try:
            yield
        finally:
            with self._mutex:
                self._works -= 1
                if not self._works:
                    self._end()

    def trouble(self) -> str:
        """Why the machine could not, or not all the time, be kept awake for the work under way, or the last of it."""
        with self._mutex:
            self._look()
            return self._trouble

    def _begin(self, why: str) -> None:
        if not self._works:
            self._trouble = ""
        if not BOOTED.is_dir():
            self._trouble = "systemd does not run here"
            return
        try:
            self._child = subprocess.Popen(
                [*_INHIBIT, f"--why={why}", "cat"],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=CLEAN_ENVIRONMENT,
                cwd="/",
                start_new_session=True,  # else Ctrl-C would end it while a drive that cannot be stopped goes on
            )
        except FileNotFoundError:
            self._trouble = "systemd-inhibit is not installed"
        except OSError as error:
            self._trouble = f"systemd-inhibit could not be started ({error.strerror})"

    def _look(self) -> None:
        """Notice a child that ended before the work did."""
        if self._child is not None and self._child.poll() is not None:
            self._trouble = _end_of(self._child)
            self._child = None

    def _end(self) -> None:
        self._look()
        child, self._child = self._child, None
        if child is None or child.stdin is None:
            return
        child.stdin.close()
        try:
            failed = child.wait(PATIENCE) != 0  # the work was shorter than the refusal took
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            failed = True
        ended = _end_of(child)
        if failed:
            self._trouble = ended


def _end_of(child: subprocess.Popen[bytes]) -> str:
    """How a child that is gone ended, and what it said; its pipes are closed."""
    said = b""
    if child.stderr is not None:
        os.set_blocking(child.stderr.fileno(), False)  # what it started may still have it open
        said = child.stderr.read(4096) or b""
        child.stderr.close()
    if child.stdin is not None:
        child.stdin.close()
    code = child.returncode
    how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
    words = " ".join(said.decode("utf-8", "replace").split())[:300]
    return f"systemd-inhibit ended {how}: {words}".rstrip(": ")


MACHINE = Wakefulness()
awake = MACHINE.hold
trouble = MACHINE.trouble
