"""What stands on a loop device is taken down in order, and nothing else; killed anywhere, it is told truthfully."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.core.deactivation import Step, StepKind
from expunge_agent.devices.deactivate import is_there, take_down
from expunge_agent.devices.nodes import by_number, number_of_path
from expunge_agent.devices.roots import LIVE
from expunge_agent.devices.standing import standing_on
from expunge_agent.devices.usage import Eyes
from expunge_agent.journal import Journal
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.receipt import Reason, Receipt
from support.agents import Bench, Crash

MIB = 1 << 20
LOOP_CHANGE_FD = 0x4C06


def backing_of(device: str) -> str:
    file = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
    return file.read_text().strip() if file.exists() else ""


def agent(tmp_path: Path, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "expunge_agent", "--state", str(tmp_path / "cli-state"), *args],
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        cwd=cwd,
    )


def wiped(tmp_path: Path, code: int, *args: str) -> dict[str, Any]:
    """The only target of the receipt of `expunge-agent wipe`."""
    done = agent(tmp_path, "wipe", *args, "--profile", "nist-clear", "--yes", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    (target,) = json.loads(done.stdout.splitlines()[-1])["receipt"]["predicate"]["targets"]
    return dict(target)


def steps(receipt: Receipt) -> list[tuple[str, str]]:
    return [(one.what, one.ended) for one in receipt.targets[0].deactivated]


class Stack:
    """A disk with two partitions: a file system that holds an image that is a disk again, and swap."""

    def __init__(self, lab: Any) -> None:
        self.disk = lab.loop(size=48 * MIB)
        self.first = lab.partition(self.disk, 1, MIB, 32 * MIB)
        self.second = lab.partition(self.disk, 2, 34 * MIB, 8 * MIB)
        self.outer = lab.mount(lab.ext4(self.first))
        image = self.outer / "image"
        image.write_bytes(bytes(8 * MIB))
        self.loop = lab.loop(image)
        self.inner = lab.mount(lab.ext4(self.loop), at=_made(self.outer / "inner"))
        self.swap = lab.swap(self.second)


def _made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def made(lab: Any) -> Stack:
    return Stack(_Forgiving(lab))


class _Forgiving:
    """The laboratory, whose clean-up finds swap taken off already by the program under test."""

    def __init__(self, lab: Any) -> None:
        self._lab = lab

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lab, name)

    def swap(self, target: str) -> str:
        for command in (["mkswap", target], ["swapon", target]):
            subprocess.run(command, check=True, capture_output=True)
        self._lab._stack.callback(subprocess.run, ["swapoff", target], check=False, capture_output=True)
        return target


def test_the_whole_stack_is_shown_and_then_taken_down(made: Stack, tmp_path: Path) -> None:
    refused = agent(tmp_path, "wipe", made.disk, "--profile", "nist-clear", "--yes")
    assert refused.returncode == 3
    shown = agent(tmp_path, "wipe", made.disk, "--profile", "nist-clear", "--deactivate", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert [line.strip() for line in shown.stdout.splitlines() if line.startswith("  ") and ". " in line] == [
        f"1. unmount {made.inner}",
        f"2. detach the loop device {made.loop}",
        f"3. unmount {made.outer}",
        f"4. stop swapping to {made.swap}",
    ]
    assert os.path.ismount(made.inner), "a dry run takes nothing down"
    planned = agent(tmp_path, "plan", made.disk, "--deactivate", "--json")
    assert planned.returncode == 0, planned.stdout
    (one,) = json.loads(planned.stdout)["plans"]
    assert [step["what"] for step in one["deactivation"]] == ["unmount", "detach-loop", "unmount", "swapoff"]
    target = wiped(tmp_path, 0, made.disk, "--deactivate")
    assert target["outcome"] == "sanitized"
    assert [(step["what"], step["ended"]) for step in target["deactivated"]] == [
        (what, "done") for what in ("unmount", "detach-loop", "unmount", "swapoff")
    ]
    assert not os.path.ismount(made.outer)
    assert made.swap not in Path("/proc/swaps").read_text()


def test_only_what_stands_on_the_target_goes(made: Stack, tmp_path: Path) -> None:
    target = wiped(tmp_path, 0, made.second, "--deactivate")
    assert [step["what"] for step in target["deactivated"]] == ["swapoff"]
    assert target["members"][0]["path"] == made.disk
    assert any("outside" in line for line in target["not_covered"])
    assert os.path.ismount(made.inner)


def test_without_the_option_an_order_takes_nothing_down(made: Stack, bench: Bench) -> None:
    receipt = bench.run(bench.order(Path(made.second), policy="nist-clear"))
    assert (receipt.outcome, steps(receipt)) == (Outcome.REFUSED, [])
    assert made.swap in Path("/proc/swaps").read_text()


def test_who_stands_in_a_file_system_is_named(made: Stack, lab: Any, tmp_path: Path, bench: Bench) -> None:
    helper = lab.helper(
        "import os, sys; os.chdir(sys.argv[1]); print('in', flush=True); sys.stdin.read()", str(made.inner)
    )
    done = agent(tmp_path, "wipe", made.disk, "--profile", "nist-clear", "--deactivate", "--yes")
    assert done.returncode == 3
    assert f"process {helper.pid} " in done.stderr
    receipt = bench.run(bench.order(Path(made.disk), policy="nist-clear", deactivate=True))
    refusal = receipt.targets[0].refusal
    assert refusal is not None
    assert (refusal.reason, steps(receipt)) == (Reason.IN_USE, [])
    assert f"{helper.pid} " in refusal.detail
    assert made.swap in Path("/proc/swaps").read_text(), "a refusal takes nothing down, not even a part"


def test_a_mount_in_another_namespace_is_refused(lab: Any, tmp_path: Path) -> None:
    device = lab.ext4(lab.loop())
    point = _made(tmp_path / "elsewhere")
    subprocess.run(["unshare", "--help"], check=True, capture_output=True)
    process = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"mount {device} {point} && echo up && read x; umount {point}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        done = agent(tmp_path, "wipe", device, "--profile", "nist-clear", "--deactivate", "--yes")
        assert done.returncode == 3
        assert "mount namespace of process" in done.stderr
    finally:
        process.communicate(b"\n", timeout=20)


def test_a_step_that_fails_ends_it_and_names_what_is_down(made: Stack, bench: Bench) -> None:
    """This very process has the inner loop device open: losetup says yes, and it stays."""
    order = bench.order(Path(made.disk), policy="nist-clear", deactivate=True)
    fd = os.open(made.loop, os.O_RDONLY)
    try:
        receipt = bench.run(order)
    finally:
        os.close(fd)
    (target,) = receipt.targets
    assert target.refusal is not None
    assert (receipt.outcome, target.refusal.reason) == (Outcome.REFUSED, Reason.DEACTIVATION_FAILED)
    assert steps(receipt) == [("unmount", "done"), ("detach-loop", "failed")]
    assert f"Taken down before, and left so: {made.inner}" in target.refusal.detail
    assert target.deactivated[1].said
    assert not target.passes and target.identity_opened is None
    assert os.path.ismount(made.outer)


def test_stopped_between_two_steps(made: Stack, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Journal.append
    stop = threading.Event()

    def append(self: Journal, kind: str, at: str, data: dict[str, object]) -> object:
        if kind == "deactivated":
            stop.set()
        return original(self, kind, at, data)

    monkeypatch.setattr(Journal, "append", append)
    order = bench.order(Path(made.disk), policy="nist-clear", deactivate=True)
    receipt = bench.run(order, stop=stop)
    assert (receipt.outcome, steps(receipt)) == (Outcome.INTERRUPTED, [("unmount", "done")])
    assert "was stopped" in receipt.targets[0].failure
    assert os.path.ismount(made.outer)


def test_two_partitions_in_one_order(lab: Any, bench: Bench) -> None:
    """Two partitions of one drive in one order: each has its own steps, one after the other."""
    disk = lab.loop(size=24 * MIB)
    first = lab.partition(disk, 1, MIB, 8 * MIB)
    second = lab.partition(disk, 2, 10 * MIB, 8 * MIB)
    points = [lab.mount(lab.ext4(one)) for one in (first, second)]
    receipt = bench.run(bench.order(Path(first), Path(second), policy="nist-clear", deactivate=True))
    assert receipt.outcome is Outcome.SANITIZED
    assert [[step.on for step in one.deactivated] for one in receipt.targets] == [
        [str(one)] for one in points
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_record_is_told_truthfully(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """At each record in turn the process dies; the next run finishes, and lists each step once with its end."""
    original = Journal.append
    disk = lab.loop(size=8 * MIB)
    for number in range(1, 60):
        bench = Bench.make(tmp_path / f"state{number}")
        lab.ext4(disk)
        point = lab.mount(disk)
        image = point / "image"
        image.write_bytes(bytes(MIB))
        loop = lab.loop(image)
        order = bench.order(Path(disk), policy="nist-clear", deactivate=True)
        count = 0

        def append(
            self: Journal, kind: str, at: str, data: dict[str, object], number: int = number
        ) -> object:
            nonlocal count
            count += 1
            if count == number and not after:
                raise Crash
            record = original(self, kind, at, data)
            if count == number:
                raise Crash
            return record

        monkeypatch.setattr(Journal, "append", append)
        try:
            receipt = bench.run(order)
        except Crash:
            monkeypatch.setattr(Journal, "append", original)
            receipt = bench.run(order)
        else:
            break
        assert receipt.outcome is Outcome.SANITIZED, number
        told = steps(receipt)
        assert [what for what, ended in told if ended in ("done", "gone")] == ["detach-loop", "unmount"], told
        assert {ended for _, ended in told} <= {"done", "gone", "interrupted"}
        assert not os.path.ismount(point)
        assert not backing_of(loop).startswith(str(image))  # its number may be somebody else's by now
    else:
        pytest.fail("no run ever got through")
    assert number > 10


def test_a_loop_device_that_is_somebody_elses_by_now_is_left(lab) -> None:
    """An unmount frees what ``mount -o loop`` made, and whoever asks next gets its number: that one is not ours to detach."""
    mine, theirs = lab.image(), lab.image()
    device = lab.loop(mine, "--read-only")
    node = by_number(number_of_path(device, LIVE), LIVE)
    assert node is not None
    standing = standing_on(node, Eyes.open())
    assert standing.uuid == str(mine)
    step = Step(what=StepKind.DETACH_LOOP, on=device, device=standing.name, uuid=standing.uuid)
    assert is_there(step)
    with open(device, "rb") as loop, theirs.open("rb") as file:
        fcntl.ioctl(loop, LOOP_CHANGE_FD, file.fileno())  # in one step, so that nobody else gets the number
    assert backing_of(device) == str(theirs)
    assert not is_there(step)
    assert take_down(step) == ""
    assert backing_of(device) == str(theirs)
