"""Work with keys in a process of its own that lives only for it: no core dump, memory locked where that is allowed.

What is held there ends with the process; Python copies bytes about, so overwriting them in a process that lives
on would leave copies. All of this is best effort (docs/keys.md): whoever is root can still read the memory.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from expunge_agent import errors
from expunge_agent.devices.process import CLEAN_ENVIRONMENT

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_MCL_ALL = 1 | 2 | 4
"""MCL_CURRENT, MCL_FUTURE and MCL_ONFAULT (mlock(2)): what is touched from now on stays out of swap."""
_FAILED = 3


@dataclass(frozen=True)
class Protection:
    """What was in force in the child; ``not_locked`` says why its memory may have been swapped, or is empty."""

    no_core: bool
    not_dumpable: bool
    not_locked: str


@dataclass(frozen=True)
class Done:
    """What the function gave back, and under which protection it ran."""

    output: bytes
    protection: Protection


def run_private(
    function: Callable[[bytes], bytes], data: bytes, timeout: float, fds: Sequence[int] = ()
) -> Done:
    """Run `function` (of a module's top level) on `data` in a new process, for at most `timeout` seconds.

    `fds` are inherited under the same numbers. Data and output go through pipes only, never into an argument
    or the environment. An `ExpungeError` of the function is raised here again; anything else it raises, a
    crash, or no answer in time is a `StateError` without the details, which could hold a key.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    args = [sys.executable, "-I", "-m", "expunge_agent.devices.private_child", name]
    with subprocess.Popen(
        args,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=CLEAN_ENVIRONMENT,
        cwd="/",
        pass_fds=tuple(fds),
    ) as child:
        try:
            out, _ = child.communicate(data, timeout)
        except BaseException as error:
            child.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise errors.StateError(
                    f"Work with a key did not end within {timeout:g} seconds.", "Try again; nothing was kept."
                ) from None
            raise
    head, _, output = out.partition(b"\n")
    if child.returncode == _FAILED:
        told = json.loads(head)
        raise getattr(errors, told["kind"])(told["message"], told["remedy"])
    if child.returncode:
        raise errors.StateError(
            f"Work with a key broke off (exit {child.returncode}).", "Look for the cause in the system's log."
        )
    return Done(output, Protection(**json.loads(head)))


def protect() -> Protection:
    """Turn off core dumps and reading by other processes of this user, lock memory, die with the parent."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    dumpable = keep_out_of_dumps()
    return Protection(
        no_core=resource.getrlimit(resource.RLIMIT_CORE)[0] == 0,
        not_dumpable=dumpable,
        not_locked=_lock(libc),
    )


def keep_out_of_dumps() -> bool:
    """No core dumps of this process from now on, and other processes of this user cannot read it; whether the
    second could be had. For a process that takes a passphrase in."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0


def lock_memory() -> str:
    """Lock all memory of this process where it may be done; why not, or empty."""
    return _lock(ctypes.CDLL(None, use_errno=True))


def swap_risk() -> str:
    """Why memory of this process may come to lie in swap, or empty: it is locked, or there is no swap."""
    with Path("/proc/swaps").open(encoding="ascii", errors="replace") as swaps:
        if len(swaps.readlines()) < 2:
            return ""
    with Path("/proc/self/status").open(encoding="ascii", errors="replace") as status:
        locked = next((line.split()[1] for line in status if line.startswith("VmLck:")), "0")
    return "" if locked != "0" else "the machine swaps, and memory with keys in it could not be locked"


def _lock(libc: ctypes.CDLL) -> str:
    """Lock all memory where no limit would make a later allocation fail; why not, or empty."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.geteuid() and soft != resource.RLIM_INFINITY:
        return f"this user may lock {soft} bytes only"
    if libc.mlockall(_MCL_ALL):
        return os.strerror(ctypes.get_errno())
    return ""


def _child(name: str) -> int:
    protection = protect()  # before the first byte of a key comes in
    answer = os.dup(1)
    os.dup2(
        os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1
    )  # libraries of tokens may print what they like
    code, said = _answered(name, protection)
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(said)
    return code


def _answered(name: str, protection: Protection) -> tuple[int, bytes]:
    """Exit code and answer of the function called `name`, on what comes in."""
    module, _, function = name.partition(":")
    work: Callable[[bytes], bytes] = getattr(importlib.import_module(module), function)
    try:
        output = work(sys.stdin.buffer.read())
    except errors.ExpungeError as error:
        told = {"kind": type(error).__name__, "message": error.message, "remedy": error.remedy}
        return _FAILED, json.dumps(told).encode() + b"\n"
    return 0, json.dumps(asdict(protection)).encode() + b"\n" + output


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1]))
