"""Attacks on an overwrite of files: what happens between its steps, and what only a raw device shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from expunge_agent.core.files_progress import Checkpoint
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.receipt import Reason
from expunge_agent.steps import Steps
from expunge_agent.wipe import run_order
from support.agents import Bench, Crash, finished, surroundings
from support.trees import MARK, before, files_of, fill, left, named, shred, tree

MIB = 1 << 20


@pytest.fixture
def ground(lab) -> tuple[Path, Path]:
    """(image, empty folder) on ext4."""
    image, mount = lab.formatted("ext4", "-F", size=96 * MIB)
    (mount / "t").mkdir()
    return image, mount / "t"


@pytest.mark.parametrize("how", ["gone", "open", "grown"])
def test_a_large_file_that_cannot_be_held_is_named(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _, folder = ground
    fill(folder, {"big": 5 * MIB, "small": 3000})
    kept = []

    def meddle() -> None:
        if how == "gone":
            (folder / "big").unlink()
        elif how == "open":
            kept.append((folder / "big").open("rb"))
        else:
            with (folder / "big").open("ab") as file:
                file.write(b"more")

    before(monkeypatch, "_open", meddle)
    try:
        result = shred(bench, tree(folder))
    finally:
        for file in kept:
            file.close()
    assert result.outcome is Outcome.FAILED
    assert list(named(result, "failed" if how == "gone" else "refused")) == ["big"]
    assert not (folder / "small").exists()


@pytest.mark.parametrize("where", ["in", "out"])
def test_what_still_has_a_name_is_said(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A second name given, or the file renamed, after it was opened: it is empty then, and there."""
    _, folder = ground
    fill(folder, {"d/one": 3000, "d/two": 3000})
    other = (folder / "d" if where == "in" else folder.parent) / "other"
    before(monkeypatch, "_end", lambda: os.link(folder / "d/one", other))
    result = shred(bench, tree(folder))
    assert other.exists()
    assert "still has" in named(result, "sanitized-with-exceptions")["d/one"]


def test_an_attribute_that_moves_when_it_is_written_is_no_success(lab, bench: Bench) -> None:
    """ext4 puts a value from the block into the inode once there is room, and gives the block back unwritten."""
    image, mount = lab.formatted("ext4", "-F", "-I", "256", "-O", "^has_journal", size=64 * MIB)
    folder = mount / "t"
    folder.mkdir()
    path = folder / "file"
    path.write_bytes(b"x" * 100)
    os.setxattr(path, "user.a", b"a" * 60)
    os.setxattr(path, "user.b", (MARK * 10)[:60])
    os.sync()
    os.removexattr(path, "user.a")
    os.sync()
    result = shred(bench, tree(folder))
    lab.unmount(mount)
    said = files_of(result).listed
    assert left(image) == 0 or said, "records are left that no receipt names"


def test_what_was_written_into_a_durable_part_after_a_kill_is_overwritten(
    lab, ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, folder = ground
    fill(folder, {"big": 40 * MIB})
    digest = killed_within_a_pass(bench, folder, monkeypatch, "random")
    with (folder / "big").open("r+b") as file:
        file.seek(MIB)
        file.write((MARK + b"\n") * 100)
    os.sync()
    receipt = finished(bench, digest)
    lab.unmount(folder.parent)
    assert left(image) == 0 or receipt.outcome is Outcome.FAILED, (
        "records are left in what was called sanitized"
    )


DEAD = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open("/dev/fuse", os.O_RDWR)
how = b"fd=%d,rootmode=40000,user_id=0,group_id=0" % fd
if libc.mount(b"dead", os.fsencode(sys.argv[1]), b"fuse", 0, how):
    raise OSError(ctypes.get_errno(), "mount")
held = os.open(sys.argv[1], os.O_PATH)
print("mounted", flush=True)
sys.stdin.read()
"""


def test_a_mount_whose_program_never_answers_is_not_waited_for(lab, ground, bench: Bench) -> None:
    """Within the directory, and held open by another process: a question to it would never come back."""
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    _, folder = ground
    fill(folder, {"d/one": 3000, "two": 3000})
    (folder / "dead").mkdir()
    lab.helper(DEAD, str(folder / "dead"))
    command = [
        "expunge_agent",
        "--state",
        str(lab.name("state")),
        "wipe",
        str(folder),
        "--profile",
        "nist-clear",
    ]
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command, "--allow-exceptions", "--yes"],
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        subprocess.run(["umount", "--lazy", str(folder / "dead")], check=True)
    assert "dead" in done.stdout + done.stderr
    assert [one.name for one in folder.iterdir()] == ["dead"], done.stderr


def killed_within_a_pass(
    bench: Bench, folder: Path, monkeypatch: pytest.MonkeyPatch, policy: str, **fields: object
) -> str:
    """An order killed right after its first checkpoint; its digest."""
    wrote = Steps.files_checkpoint

    def crash(self: Steps, checkpoint: Checkpoint) -> None:
        wrote(self, checkpoint)
        raise Crash

    order = bench.order(policy=policy, targets=[tree(folder)], **fields)
    digest = bench.hand_in(*bench.sign(order))
    with monkeypatch.context() as patched:
        patched.setattr(Steps, "files_checkpoint", crash)
        with pytest.raises(Crash):
            run_order(bench.state, digest, surroundings())
    return digest


def test_a_file_half_overwritten_before_a_kill_is_not_called_untouched(
    ground, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    fill(folder, {"big": 40 * MIB})
    digest = killed_within_a_pass(bench, folder, monkeypatch, "random")
    with (folder / "big").open("rb"):
        receipt = finished(bench, digest)
    assert "may have begun" in named(receipt.targets[0], "failed")["big"]
    assert not named(receipt.targets[0], "refused")


def test_few_descriptors_are_enough(ground, bench: Bench) -> None:
    """Where the system allows fewer open files than a batch has, batches are smaller."""
    _, folder = ground
    fill(folder, {f"f{number}": 100 for number in range(1500)})
    code = "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (300, 300)); from expunge_agent.cli import main; main()"
    args = [
        "--state",
        str(bench.state.root.parent / "own"),
        "wipe",
        str(folder),
        "--profile",
        "random",
        "--yes",
    ]
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_resource", sys.executable, "-c", code, *args],
        timeout=120, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1500 sanitized" in done.stdout, done.stdout + done.stderr


def test_an_order_within_the_folder_of_another_touches_none_of_its_files(
    ground, bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = ground
    fill(folder, {"a/x": 3000, "a/y": 3000, "z": 100})
    inner = []
    before(
        monkeypatch,
        "_overwrite",
        lambda: inner.append(shred(Bench.make(tmp_path / "other"), tree(folder / "a"))),
    )
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.SANITIZED
    assert inner[0].outcome is Outcome.REFUSED
    assert inner[0].refusal is not None
    assert inner[0].refusal.reason is Reason.IN_USE
    assert "perhaps another order" in inner[0].refusal.detail


@pytest.mark.parametrize("alone", [False, True])
def test_attributes_in_inodes_of_their_own_are_an_exception(lab, bench: Bench, alone: bool) -> None:
    """ext4 with ea_inode: what finds no room in the block gets an inode, and a new one each time it is written."""
    image, mount = lab.formatted("ext4", "-F", "-b", "4096", "-O", "ea_inode,^has_journal", size=64 * MIB)
    folder = mount / "t"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 100)
    os.setxattr(folder / "file", "user.a", b"a" * 3000)
    os.setxattr(folder / "file", "user.b", (MARK * 200)[:3000])
    if alone:
        os.removexattr(folder / "file", "user.a")
    os.sync()
    assert shred(bench, tree(folder)).outcome is Outcome.REFUSED
    result = shred(bench, tree(folder), allow_exceptions=True)
    assert "extended attributes" in named(result, "sanitized-with-exceptions")["file"]
    lab.unmount(mount)
    assert left(image) > 0, "the reason for it"


def test_a_file_as_long_as_they_get_is_a_sentence(lab, bench: Bench) -> None:
    """On XFS: to the last byte that can be numbered, its last block beyond that."""
    _, mount = lab.formatted("xfs", size=320 * MIB)
    folder = mount / "t"
    fill(folder, {"other": 3000})
    fd = os.open(folder / "endless", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, MARK, 0)
    os.pwrite(fd, MARK, 2**63 - 1 - len(MARK))
    os.close(fd)
    os.sync()
    result = shred(bench, tree(folder), allow_exceptions=True)
    assert result.outcome is Outcome.FAILED
    assert "could not be written" in named(result, "failed")["endless"]
    assert not (folder / "other").exists()
