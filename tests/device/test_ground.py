"""Loop devices over files that keep what is overwritten: the receipt says so, and the raw device below shows that it is true."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.space import Space
from expunge_agent.devices.ground import beneath_device
from expunge_agent.devices.space import look_at_space
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.pace import Pace
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceWish, Target
from expunge_agent.protocol.receipt import Reason, Receipt, TargetResult
from expunge_controller.records.consistency import evidence_problems
from support.agents import Bench
from support.trees import named, shred, tree

MIB = 1 << 20
MARK = b"RECORD-OF-A-CUSTOMER-"
SHARED = "of the file system on) shared with "


def checked(receipt: Receipt) -> TargetResult:
    assert evidence_problems(receipt) == []
    (result,) = receipt.targets
    return result


def left(image: Path) -> int:
    os.sync()
    return image.read_bytes().count(MARK)


class Stack:
    """An ext4 with records in a loop device over a file of another file system, which can be copied or snapshotted."""

    def __init__(self, lab, kind: str) -> None:
        self.lab, self.kind = lab, kind
        size = 384 if kind == "xfs" else 320
        self.outer, self.mount = lab.formatted(kind, "-f", size=size * MIB)
        self.disk = self.mount / "disk"
        if kind == "btrfs":
            self.disk.touch()
            subprocess.run(["chattr", "+C", str(self.disk)], check=True)
        with self.disk.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 48 * MIB)
        self.device = lab.loop(self.disk)
        lab.ext4(self.device, "-m", "0")
        self.inner = lab.mount(self.device)
        (self.inner / "records").mkdir()
        data = b"".join(b"%s%08d;" % (MARK, number) for number in range(100_000))
        (self.inner / "records/file").write_bytes(data)
        os.sync()

    def share(self) -> None:
        """Keep what the file holds, as a backup does."""
        os.sync()
        if self.kind == "btrfs":
            snapshot = ["btrfs", "subvolume", "snapshot", str(self.mount), str(self.mount / "snapshot")]
            subprocess.run(snapshot, check=True, capture_output=True)
        else:
            copy = ["cp", "--reflink=always", str(self.disk), str(self.mount / "copy")]
            subprocess.run(copy, check=True)
        os.sync()

    def space(self) -> Target:
        seen = look_at_space(str(self.inner), SystemPaths())
        assert isinstance(seen, Space)
        return Target(identity=seen.identity, hint=str(self.inner), space=SpaceWish(reserve=U64(0)))

    def take_apart(self) -> None:
        self.lab.unmount(self.inner)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_files_over_a_shared_file_are_refused_or_have_that_exception(lab, bench: Bench, kind: str) -> None:
    stack = Stack(lab, kind)
    stack.share()
    before = (stack.inner / "records/file").read_bytes()
    refused = shred(bench, tree(stack.inner / "records"))
    assert refused.outcome is Outcome.REFUSED
    assert refused.refusal is not None
    assert SHARED in refused.refusal.detail
    (alone,) = bench.run(bench.order(stack.inner / "records/file")).targets
    assert alone.outcome is Outcome.REFUSED
    assert alone.refusal is not None
    assert alone.refusal.reason is Reason.NOT_REACHABLE
    assert SHARED in alone.refusal.detail and "--allow-exceptions" in alone.refusal.remedy
    assert (stack.inner / "records/file").read_bytes() == before
    alone = checked(bench.run(bench.order(stack.inner / "records/file", allow_exceptions=True)))
    assert alone.outcome is Outcome.EXCEPTIONS
    assert any(SHARED in one for one in alone.exceptions)
    result = shred(bench, tree(stack.inner / "records"), allow_exceptions=True)
    assert result.outcome is Outcome.EXCEPTIONS
    assert SHARED in named(result, "sanitized-with-exceptions")["file"]
    assert left(stack.outer) > 50_000, "the reason for it"


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_free_space_and_whole_devices_over_a_shared_file_have_that_exception(
    lab, bench: Bench, kind: str
) -> None:
    stack = Stack(lab, kind)
    (stack.inner / "records/file").unlink()
    stack.share()
    space = checked(bench.run(bench.order(targets=[stack.space()])))
    assert (space.outcome, space.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any(SHARED in one and str(stack.disk) in one for one in space.exceptions)
    assert left(stack.outer) > 50_000, "the reason for it"
    stack.take_apart()
    device = checked(bench.run(bench.order(Path(stack.device))))
    assert (device.outcome, device.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any(SHARED in one and str(stack.disk) in one for one in device.exceptions)
    assert left(stack.outer) > 50_000, "the reason for it"


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_a_file_below_that_nothing_shares_is_reached(lab, bench: Bench, kind: str) -> None:
    stack = Stack(lab, kind)
    stack.take_apart()
    device = checked(bench.run(bench.order(Path(stack.device))))
    assert device.outcome is Outcome.SANITIZED
    assert device.exceptions == []
    assert left(stack.outer) == 0


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
@pytest.mark.parametrize("what", ["device", "tree"])
def test_what_is_shared_during_the_run_is_seen_at_its_end(lab, bench: Bench, kind: str, what: str) -> None:
    stack = Stack(lab, kind)
    target = {"targets": [tree(stack.inner / "records")], "policy": "nist-clear"}
    if what == "device":
        stack.take_apart()
    order = bench.order(
        *([Path(stack.device)] if what == "device" else []), **(target if what == "tree" else {})
    )
    thread = after(bench, "pass-started" if what == "device" else "files-listed", stack.share)
    result = checked(bench.run(order, pace=Pace(24 * MIB if what == "device" else 2 * MIB)))
    thread.join()
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any(str(stack.disk) in one for one in result.exceptions)
    if what == "device":
        assert left(stack.outer) > 0, "the reason for it"


def after(bench: Bench, kind: str, act: Callable[[], None]) -> threading.Thread:
    """A thread that acts once a record of this kind is journalled."""
    folder = bench.state.root / "orders"

    def wait() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if any(f'"{kind}"'.encode() in path.read_bytes() for path in folder.glob("*/journal*")):
                act()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_loop_over_a_loop_is_followed(lab, bench: Bench) -> None:
    stack = Stack(lab, "xfs")
    stack.take_apart()
    stack.share()
    over = lab.loop(stack.device)
    result = checked(bench.run(bench.order(Path(over))))
    assert result.outcome is Outcome.EXCEPTIONS
    assert any(SHARED in one for one in result.exceptions)


def test_a_file_that_is_gone_below_is_a_doubt(lab, bench: Bench) -> None:
    """Its extents cannot be asked for any more, so that nothing speaks against a copy of it."""
    image = lab.image(8 * MIB)
    device = lab.loop(image)
    os.unlink(image)
    assert "could not be looked at" in beneath_device(device, Eyes.open()).doubts[0]
    result = checked(bench.run(bench.order(Path(device))))
    assert result.outcome is Outcome.EXCEPTIONS
    assert any("could not be looked at" in one for one in result.exceptions)


def test_another_file_at_the_path_below_is_not_taken_for_it(lab) -> None:
    image, other = lab.image(8 * MIB), lab.image(8 * MIB)
    device = lab.loop(image)
    assert beneath_device(device, Eyes.open()).doubts == []
    assert [file.path for file in beneath_device(device, Eyes.open()).files] == [str(image)]
    lab.mount(other, "--bind", at=image)
    found = beneath_device(device, Eyes.open())
    assert "its path does not lead to it" in found.doubts[0]
    assert found.files == []
