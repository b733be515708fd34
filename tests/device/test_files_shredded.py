"""Marked records in files on real file systems: shredded, unmounted, and looked for in the raw image.

Where the receipt says sanitized none is left; where records are left, the receipt named the file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.engine.ranges import Range
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Reason
from expunge_controller.records.consistency import evidence_problems
from expunge_profiles.load import builtin
from support.agents import Bench
from support.trees import MARK, files_of, fill, left, named, shred, shredded, tree

MIB = 1 << 20
SIZES = {
    "letters/one.txt": 100,
    "letters/two.txt": 4096,
    "letters/three.txt": 4097,
    "deep/er/still/report.doc": 300_000,
    "big.db": 20 * MIB + 777,
    **{f"many/{number:04d}": 3000 for number in range(300)},
}


def made(lab, kind: str, *options: str) -> tuple[Path, Path]:
    """(image, mount point): `mkfs` options for records that nothing else copies."""
    size = {"xfs": 320 * MIB, "btrfs": 320 * MIB}.get(kind, 192 * MIB)
    return lab.formatted(kind, *(("-F",) if kind == "ext4" else ()), *options, size=size)


def folder_on(mount: Path, kind: str) -> Path:
    """A folder for records; on btrfs one whose files are overwritten in place."""
    folder = mount / "records"
    folder.mkdir()
    if kind == "btrfs":
        subprocess.run(["chattr", "+C", str(folder)], check=True)
    return folder


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
@pytest.mark.parametrize("policy", ["nist-clear", "random-verified"])
def test_nothing_is_left_where_the_receipt_says_sanitized(lab, bench: Bench, kind: str, policy: str) -> None:
    image, mount = made(lab, kind)
    folder = folder_on(mount, kind)
    fill(folder, SIZES)
    receipt = shredded(bench, tree(folder), policy)
    result = receipt.targets[0]
    assert result.outcome is Outcome.SANITIZED, (
        result.failure,
        result.exceptions,
        files_of(result).listed[:3],
    )
    assert result.level_achieved is Level.CLEAR
    assert evidence_problems(receipt, builtin()[policy]) == []
    assert list(folder.iterdir()) == []
    lab.unmount(mount)
    assert left(image) == 0


def test_the_search_finds_what_a_plain_removal_leaves(lab) -> None:
    """The control: without an overwrite the records are there."""
    image, mount = made(lab, "ext4")
    fill(mount / "records", SIZES)
    shutil.rmtree(mount / "records")
    lab.unmount(mount)
    assert left(image) > 100_000


def test_slack_of_the_last_block_is_overwritten(lab, bench: Bench) -> None:
    """What a longer file before it left behind the end of a file that was cut."""
    image, mount = made(lab, "ext4", "-b", "4096")
    fill(mount / "records", {"cut": 4096})
    # The end of the file is set back on the device itself, as no system call leaves the old bytes there.
    os.sync()
    inode = (mount / "records/cut").stat().st_ino
    lab.unmount(mount)
    subprocess.run(
        ["debugfs", "-w", "-R", f"sif <{inode}> size 100", str(image)], check=True, capture_output=True
    )
    device = lab.loop(image)
    lab.mount(device, at=mount)
    assert (mount / "records/cut").stat().st_size == 100
    result = shred(bench, tree(mount / "records"))
    assert result.outcome is Outcome.SANITIZED
    assert files_of(result).passes[0].bytes_written == 4096
    lab.unmount(mount)
    assert left(image) == 0


def test_a_reflink_on_xfs_is_refused_and_not_removed(lab, bench: Bench) -> None:
    image, mount = made(lab, "xfs", "-m", "rmapbt=1")
    folder = folder_on(mount, "xfs")
    fill(folder, {"alone": 70_000, "shared": 70_000})
    subprocess.run(["cp", "--reflink=always", str(folder / "shared"), str(mount / "copy")], check=True)
    os.sync()
    result = shred(bench, tree(folder))
    assert result.outcome is Outcome.FAILED
    assert "1 of 2 files were refused" in result.failure
    other = (mount / "copy").stat().st_ino
    assert (
        f"shared with inode {other}: an overwrite would reach none of it"
        in named(result, "refused")["shared"]
    )
    assert (folder / "shared").exists()
    assert not (folder / "alone").exists()
    lab.unmount(mount)
    assert left(image, "alone") == 0
    assert left(image, "shared") > 1000, "the reason for it"


def test_partly_shared_on_xfs_is_an_exception_only_if_allowed(lab, bench: Bench) -> None:
    image, mount = made(lab, "xfs", "-m", "rmapbt=1")
    folder = folder_on(mount, "xfs")
    fill(folder, {"half": 2 * MIB})
    with (folder / "half").open("rb") as file, (mount / "copy").open("wb") as other:
        import fcntl
        import struct

        fcntl.ioctl(other, 0x4020940D, struct.pack("=qQQQ", file.fileno(), 0, MIB, 0))  # FICLONERANGE
    os.sync()
    refused = shred(bench, tree(folder))
    assert refused.outcome is Outcome.REFUSED
    assert refused.refusal is not None
    assert refused.refusal.reason is Reason.NOT_REACHABLE
    assert (folder / "half").exists()
    receipt = shredded(bench, tree(folder), allow_exceptions=True)
    result = receipt.targets[0]
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.level_achieved is Level.NONE
    assert files_of(result).allow_exceptions
    half = named(result, "sanitized-with-exceptions")["half"]
    assert re.search(r"\(\d+ bytes[^)]*\) shared with inode \d+, where", half), half
    assert evidence_problems(receipt, builtin()["nist-clear"]) == []
    assert not (folder / "half").exists()
    lab.unmount(mount)
    lines = MIB // len(MARK + b"half;\n")
    assert lines - 2 <= left(image) <= lines + 2, "the shared half, and only that"


def test_a_snapshot_on_btrfs_is_refused(lab, bench: Bench) -> None:
    image, mount = made(lab, "btrfs")
    subprocess.run(["btrfs", "-q", "subvolume", "create", str(mount / "data")], check=True)
    subprocess.run(["chattr", "+C", str(mount / "data")], check=True)
    fill(mount / "data", {"file": 100_000})
    subprocess.run(
        ["btrfs", "-q", "subvolume", "snapshot", "-r", str(mount / "data"), str(mount / "snapshot")],
        check=True,
    )
    result = shred(bench, tree(mount / "data"), allow_exceptions=True)
    assert result.outcome is Outcome.REFUSED
    assert "shared with snapshot snapshot (file)" in named(result, "refused")["file"]
    assert (mount / "data/file").exists()
    lab.unmount(mount)
    assert left(image) > 1000


def test_copy_on_write_and_compression_on_btrfs_are_refused(lab, bench: Bench) -> None:
    _, mount = made(lab, "btrfs")
    fill(mount / "cow", {"file": 100_000})
    result = shred(bench, tree(mount / "cow"))
    assert result.outcome is Outcome.REFUSED
    assert "btrfs writes changes to new places" in named(result, "refused")["file"]
    assert "Remove the snapshots" in files_of(result).listed[0].remedy
    assert (mount / "cow/file").exists()


def test_a_file_kept_in_its_inode_is_refused(lab, bench: Bench) -> None:
    _, mount = made(lab, "ext4", "-O", "inline_data", "-I", "256")
    fill(mount / "records", {"small": 100})
    assert (
        "among the file system's own data" in named(shred(bench, tree(mount / "records")), "refused")["small"]
    )


def test_a_journal_that_holds_data_is_refused(lab, bench: Bench) -> None:
    image, mount = made(lab, "ext4")
    lab.unmount(mount)
    mount = lab.mount(lab.loop(image), "-o", "data=journal")
    fill(mount / "records", {"file": 10_000})
    result = shred(bench, tree(mount / "records"))
    assert result.outcome is Outcome.REFUSED
    assert "goes through the journal" in named(result, "refused")["file"]


def test_holes_stay_holes(lab, bench: Bench) -> None:
    image, mount = made(lab, "ext4")
    fill(mount / "records", {"sparse": 5000})
    with (mount / "records/sparse").open("r+b") as file:
        file.truncate(100 * MIB)
        file.seek(99 * MIB)
        file.write(MARK * 100)
    os.sync()
    before = os.statvfs(mount).f_bfree
    result = shred(bench, tree(mount / "records"), keep=True)
    assert result.outcome is Outcome.SANITIZED
    assert int(files_of(result).holes) > 90 * MIB
    assert any("bytes of holes" in one for one in result.not_covered)
    kept = (mount / "records/sparse").stat()
    assert kept.st_size == 100 * MIB
    assert os.statvfs(mount).f_bfree >= before - 64
    lab.unmount(mount)
    assert left(image) == 0


def test_other_file_systems_and_mounts_are_not_entered(lab, bench: Bench) -> None:
    _, mount = made(lab, "ext4")
    fill(mount / "records", {"own": 5000, "sub/x": 10})
    other, _ = lab.formatted("ext4", "-F", size=64 * MIB)
    inner = mount / "records/other"
    inner.mkdir()
    lab.mount(lab.loop(other), at=inner)
    fill(inner, {"theirs": 5000})
    bound = mount / "records/bound"
    bound.mkdir()
    fill(mount / "elsewhere", {"same": 5000})
    subprocess.run(["mount", "--bind", str(mount / "elsewhere"), str(bound)], check=True)
    try:
        result = shred(bench, tree(mount / "records"), allow_exceptions=True)
        assert (bound / "same").read_bytes().startswith(MARK)
    finally:
        subprocess.run(["umount", str(bound)], check=True)
    assert set(named(result, "refused")) == {"other", "bound"}
    assert result.outcome is Outcome.EXCEPTIONS
    assert (inner / "theirs").read_bytes().startswith(MARK)
    assert not (mount / "records/own").exists()


def test_what_the_kernel_uses_is_refused(lab, bench: Bench) -> None:
    _, mount = made(lab, "ext4")
    fill(mount / "records", {"plain": 5000, "immutable": 5000, "append": 5000})
    with (mount / "records/swap").open("wb") as file:
        file.write(bytes(MIB))
    with (mount / "records/disk").open("wb") as file:
        file.write(bytes(MIB))
    os.chmod(mount / "records/swap", 0o600)
    lab.swap(mount / "records/swap")
    device = lab.loop(mount / "records/disk")
    for name, letter in (("immutable", "i"), ("append", "a")):
        subprocess.run(["chattr", f"+{letter}", str(mount / "records" / name)], check=True)
    try:
        result = shred(bench, tree(mount / "records"), allow_exceptions=True)
    finally:
        subprocess.run(
            ["chattr", "-ia", str(mount / "records/immutable"), str(mount / "records/append")], check=True
        )
    why = named(result, "refused")
    assert why == {
        "swap": "it is used as swap",
        "disk": f"it backs the loop device {device}",
        "immutable": "it is immutable",
        "append": "it is append-only",
    }
    assert (mount / "records/immutable").read_bytes().startswith(MARK)


_HOLD = "import os, sys; os.open(sys.argv[1], os.O_RDONLY); print(os.getpid(), flush=True); sys.stdin.read()"
_MAP = (
    "import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); m = mmap.mmap(fd, 0, prot=mmap.PROT_READ); "
    "os.close(fd); print(1, flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize("code", [_HOLD, _MAP], ids=["open", "mapped"])
def test_a_file_in_use_is_refused_with_the_process(lab, bench: Bench, code: str) -> None:
    _, mount = made(lab, "ext4")
    fill(mount / "records", {"table.ibd": 50_000, "other": 5000})
    process = lab.helper(code, str(mount / "records/table.ibd"))
    result = shred(bench, tree(mount / "records"), allow_exceptions=True)
    assert f"open in process {process.pid} " in named(result, "refused")["table.ibd"]
    assert (mount / "records/table.ibd").read_bytes().startswith(MARK)
    assert not (mount / "records/other").exists()
    process.kill()
    process.wait()


def test_a_file_that_is_opened_after_it_was_listed_is_refused(
    lab, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who opened it is no longer looked up; the kernel's lease says that somebody did."""
    from expunge_agent.techniques import files_batch

    _, mount = made(lab, "ext4")
    fill(mount / "records", {"late": 5000, "other": 5000})
    original = files_batch.Batch._open
    processes = []

    def opened(self: files_batch.Batch) -> None:
        processes.append(lab.helper(_HOLD, str(mount / "records/late")))
        original(self)

    monkeypatch.setattr(files_batch.Batch, "_open", opened)
    result = shred(bench, tree(mount / "records"))
    processes[0].kill()
    processes[0].wait()
    assert named(result, "refused") == {"late": "it is open in another process"}
    assert (mount / "records/late").read_bytes().startswith(MARK)


def test_a_file_on_a_loop_over_btrfs_is_an_exception(lab, bench: Bench) -> None:
    """The file system writes in place, what lies under it does not."""
    outer, mount = made(lab, "btrfs")
    with (mount / "disk").open("wb") as file:
        file.truncate(64 * MIB)
    device = lab.loop(mount / "disk")
    lab.ext4(device)
    inner = lab.mount(device)
    fill(inner / "records", {"file": 50_000})
    assert "writes changes to new places" in named(shred(bench, tree(inner / "records")), "refused")["file"]
    result = shred(bench, tree(inner / "records"), allow_exceptions=True)
    assert result.outcome is Outcome.EXCEPTIONS
    assert (
        f"{device} lies in the file {mount / 'disk'} on btrfs"
        in named(result, "sanitized-with-exceptions")["file"]
    )
    lab.unmount(inner)
    lab.detach(device)
    lab.unmount(mount)
    assert left(outer) > 0, "the reason for it"


def test_a_read_back_that_differs_fails_the_file(lab, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte changed on the device between write and read-back: that file fails and keeps its name."""
    from expunge_agent.techniques import files_passes

    image, mount = made(lab, "ext4")
    fill(mount / "records", {"good": 5000, "bad": 5000})
    original = files_passes.Passes._prepare_reading

    def tampered(self: files_passes.Passes) -> None:
        (held,) = [one for one in self._held if one.item.path == b"bad"]
        assert held.item.parts is not None
        with open(image, "r+b") as file:
            file.seek(held.item.parts[0].physical + 10)
            file.write(b"X")
            os.fsync(file.fileno())
        original(self)

    monkeypatch.setattr(files_passes.Passes, "_prepare_reading", tampered)
    result = shred(bench, tree(mount / "records"))
    assert result.outcome is Outcome.FAILED
    assert named(result, "failed") == {"bad": "read-back found 1 bytes that are not what was written"}
    assert (mount / "records/bad").stat().st_size == 5000
    assert not (mount / "records/good").exists()


def test_sampled_places_stay_within_the_files() -> None:
    from expunge_agent.engine.file_pieces import Piece, within

    pieces = [Piece(0, 3, 0, 100, 0), Piece(1, 4, 50, 100, 100)]
    assert list(within(pieces, [Range(0, 10), Range(90, 20)], 0)) == [
        Piece(0, 3, 0, 10, 0),
        Piece(0, 3, 90, 10, 90),
        Piece(1, 4, 50, 10, 100),
    ]
