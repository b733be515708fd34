"""Rules for all tests: unit tests start no process; device tests need root and loop devices, or say so."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# How long an example takes is the machine's matter.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

pytest_plugins = ["support.fixtures"]

HERE = Path(__file__).parent
for variable in ("CI", "BUILD_NUMBER"):
    # With these pytest explains a difference in full: for two images of a disk that takes hours.
    os.environ.pop(variable, None)
LOOP_CTL_GET_FREE = 0x4C82  # linux/loop.h
STARTS_A_PROCESS = frozenset(
    {
        "subprocess.Popen",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "pty.spawn",
    }
)


class ProcessGuard:
    """Forbids starting processes while a unit test runs.

    An audit hook sees every way Python has, also through names imported earlier. What was tried is
    kept, so that a test fails even where the code under test swallows the error.
    """

    def __init__(self) -> None:
        self.active = False
        self.seen: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if self.active and event in STARTS_A_PROCESS:
            self.seen.append(f"{event} {args!r}")
            raise AssertionError(f"a unit test must not start a process: {event} {args!r}")


GUARD = ProcessGuard()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Hold the guard over a unit test with all its fixtures."""
    GUARD.active = item.path.is_relative_to(HERE / "unit")
    try:
        return (yield)
    finally:
        GUARD.active = False


@pytest.fixture(autouse=True)
def process_guard() -> Iterator[ProcessGuard]:
    """Fails a unit test that tried to start a process, even if the attempt was swallowed."""
    GUARD.seen.clear()
    yield GUARD
    if GUARD.seen:
        pytest.fail(f"a unit test must not start a process: {GUARD.seen}")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests in tests/device are marked, and skipped where they cannot run."""
    if item.path.is_relative_to(HERE / "device"):
        item.add_marker(pytest.mark.device)
        if reason := _no_loop_devices():
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With -n: all tests in tests/device go to one worker, one after another, and so do those of each file in
    tests/lab, which share a virtual machine; every other test by itself.

    (xdist 3.8's own groups have no effect with pytest 9.2, which ignores the ids that it changes.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            if "tests/lab/" in nodeid:
                return nodeid.partition("::")[0]
            return "device" if "tests/device/" in nodeid else nodeid

    return Together(config, log)


@cache
def _no_loop_devices() -> str:
    """Why device tests cannot run here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root (loop devices)"
    if shutil.which("losetup") is None:
        return "needs losetup (package util-linux or mount)"
    try:
        control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
        try:
            number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        finally:
            os.close(control)
    except OSError as error:
        return f"needs loop devices (/dev/loop-control: {error.strerror})"
    if not Path(f"/dev/loop{number}").exists():
        return f"needs loop devices (/dev/loop{number} is missing)"
    return ""
