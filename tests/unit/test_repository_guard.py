"""The guard of tests/conftest.py fires for every way of starting a process."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import pty
import subprocess
from collections.abc import Callable

import pytest


def spawn_in_asyncio() -> None:
    async def start() -> None:
        await asyncio.create_subprocess_exec("true")

    asyncio.run(start())


WAYS: dict[str, Callable[[], object]] = {
    "subprocess": lambda: subprocess.run(["true"], check=False),
    "asyncio": spawn_in_asyncio,
    "popen": lambda: os.popen("true"),
    "system": lambda: os.system("true"),
    "fork": os.fork,
    "forkpty": os.forkpty,
    "spawn": lambda: os.spawnv(os.P_WAIT, "/bin/true", ["true"]),
    "posix_spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "pty": lambda: pty.spawn(["true"]),
    "multiprocessing": lambda: multiprocessing.get_context("fork").Process(target=print).start(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_unit_test_cannot_start_a_process(way: str, process_guard) -> None:
    with pytest.raises(AssertionError, match="must not start a process"):
        WAYS[way]()
    assert process_guard.seen
    process_guard.seen.clear()


def test_a_swallowed_attempt_is_remembered(process_guard) -> None:
    with contextlib.suppress(AssertionError):
        os.system("true")
    assert len(process_guard.seen) == 1
    process_guard.seen.clear()
