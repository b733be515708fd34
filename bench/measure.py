"""Run whole processes and measure them: wall time, CPU from wait4(2), peak memory from VmHWM.

A command may be run in a mount namespace of its own in which /dev holds nothing but the usual
character devices and the block devices named, so that no tool can reach another drive.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Command = Sequence[str]

TIMEOUT = 3600.0
GRACE = 5.0
"""Seconds between asking a tool to end and killing it."""
_FIRST_LOOK, _LOOK_EVERY = 0.002, 0.05
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_NOSUID = 0x20000, 0x4000, 0x40000, 0x2
_CHARACTER_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_libc = ctypes.CDLL(None, use_errno=True)


class ToolFailedError(Exception):
    """A tool could not be started, failed, or took too long: its figures are worth nothing."""


@dataclass(frozen=True)
class Run:
    """One measured run: seconds, CPU seconds (user + system), peak bytes, and what was printed.

    ``peak`` is the sum of the peak resident memory of all processes of the command. CPU that the
    kernel spends in its own threads (the loop driver's workers) belongs to no process.
    ``inside`` is the time that the tool itself says its work took, without start and end.
    """

    seconds: float
    cpu: float
    peak: int
    output: str = ""
    inside: float | None = None

    def then(self, other: Run) -> Run:
        """This run and `other` after it, as one."""
        both = self.inside is not None and other.inside is not None
        return Run(
            self.seconds + other.seconds,
            self.cpu + other.cpu,
            max(self.peak, other.peak),
            self.output + other.output,
            (self.inside or 0.0) + (other.inside or 0.0) if both else None,
        )


def run(commands: Sequence[Command], log: Path, jail: Sequence[Path] = (), good: Sequence[int] = (0,)) -> Run:
    """Start all `commands` at once, wait for all; their output goes to `log`. Raises ToolFailedError.

    With a `jail` (block devices) each gets a private /dev that holds only those; needs root. `good`: exit codes of success.
    """
    enter = _jailed(jail) if jail else None
    began = time.perf_counter()
    group = _Group()
    try:
        with log.open("wb") as sink:
            for command in commands:
                group.start(command, sink.fileno(), enter)
        cpu, codes = group.wait(began + TIMEOUT)
        seconds = time.perf_counter() - began
    finally:
        group.end()
    output = log.read_text(errors="replace")
    for command, code in zip(commands, codes, strict=True):
        if code not in good:
            last = " / ".join(output.strip().splitlines()[-3:])
            raise ToolFailedError(f"{Path(command[0]).name} ended with {code}: {last[-400:]}")
    return Run(seconds, cpu, group.peak, output)


class _Group:
    """Processes started together."""

    def __init__(self) -> None:
        self._alive: dict[int, tuple[int, int]] = {}  # pidfd: (place, pid)
        self._peaks: dict[int, int] = {}
        self._count = 0

    @property
    def peak(self) -> int:
        """Bytes: the sum of all processes' peaks."""
        return sum(self._peaks.values())

    def start(self, command: Command, sink: int, enter: Callable[[], None] | None) -> None:
        """One more process, in a session of its own so that all it starts can be ended with it."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("EXPUNGE_", "PYTHON"))}
        try:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**environment, "LC_ALL": "C"},
                start_new_session=True,
                preexec_fn=enter,  # noqa: PLW1509 - there are no threads here
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ToolFailedError(f"{command[0]} could not be started: {error}") from error
        self._alive[os.pidfd_open(process.pid)] = (self._count, process.pid)
        self._count += 1
        process.returncode = 0  # reaped by wait4 below, for its resource usage

    def wait(self, until: float) -> tuple[float, list[int]]:
        """CPU seconds of all, and their exit codes in the order of starting."""
        cpu, codes, pause = 0.0, [0] * self._count, _FIRST_LOOK
        poll = select.poll()
        for pidfd in self._alive:
            poll.register(pidfd, select.POLLIN)
        while self._alive:
            self._look()
            for pidfd, _ in poll.poll(pause * 1000):
                place, pid = self._alive[pidfd]
                _, status, usage = os.wait4(pid, 0)
                poll.unregister(pidfd)
                os.close(pidfd)
                del self._alive[pidfd]
                codes[place] = os.waitstatus_to_exitcode(status)
                cpu += usage.ru_utime + usage.ru_stime
            pause = min(2 * pause, _LOOK_EVERY)
            if time.perf_counter() > until:
                raise ToolFailedError(f"took longer than {TIMEOUT:.0f} s")
        return cpu, codes

    def end(self) -> None:
        """End what is still there (after Ctrl-C or a failure): politely, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for _, pid in self._alive.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, number)
            until = time.monotonic() + GRACE
            while self._alive and time.monotonic() < until:
                for pidfd, (_, pid) in list(self._alive.items()):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        os.close(pidfd)
                        del self._alive[pidfd]
                time.sleep(0.02)

    def _look(self) -> None:
        """Note every process's peak so far. ru_maxrss would not do: it counts the starter's memory too."""
        todo = [pid for _, pid in self._alive.values()]
        while todo:
            pid = todo.pop()
            with contextlib.suppress(OSError, ValueError):
                text = Path(f"/proc/{pid}/status").read_text()
                found = next((line for line in text.splitlines() if line.startswith("VmHWM:")), "")
                if found:
                    self._peaks[pid] = max(self._peaks.get(pid, 0), int(found.split()[1]) * 1024)
                for task in Path(f"/proc/{pid}/task").iterdir():
                    todo += map(int, (task / "children").read_text().split())


def _jailed(devices: Sequence[Path]) -> Callable[[], None]:
    """What a child does before its program starts; any failure in it keeps the program from starting."""
    nodes = [(path, path.stat().st_rdev) for path in devices]

    def enter() -> None:
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        _check(_libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
        _check(_libc.mount(b"tmpfs", b"/dev", b"tmpfs", _MS_NOSUID, b"mode=755,size=64m"), "mount /dev")
        for name, number in _CHARACTER_DEVICES.items():
            os.mknod(f"/dev/{name}", 0o020666, os.makedev(*number))
        for path, device in nodes:
            os.mknod(path, 0o060600, device)

    return enter


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)
