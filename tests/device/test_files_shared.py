"""Who else holds the blocks of a file is named in the receipt, as btrfs and XFS tell it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.devices import sharing
from expunge_agent.devices.sharing import Sharers
from expunge_agent.engine.extents import parts
from expunge_agent.protocol.base import Outcome
from support.agents import Bench, target_of
from support.trees import MARK, fill, left, named, shred, tree

MIB = 1 << 20


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


@pytest.fixture
def volume(lab) -> tuple[Path, Path, Path]:
    """(image, mount point, folder in a subvolume) on btrfs, files overwritten in place."""
    image, mount = lab.formatted("btrfs", size=320 * MIB)
    run("btrfs", "subvolume", "create", mount / "data")
    folder = mount / "data/deep/t"
    folder.mkdir(parents=True)
    run("chattr", "+C", folder)
    fill(folder, {"a": 70_000, "b": 9000})
    return image, mount, folder


def places(path: Path) -> list[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [part.physical for part in parts(fd) or []]
    finally:
        os.close(fd)


def snapshot(mount: Path, name: str) -> None:
    (mount / name).parent.mkdir(parents=True, exist_ok=True)
    run("btrfs", "subvolume", "snapshot", "-r", mount / "data", mount / name)
    os.sync()


def test_a_snapshot_is_named_with_the_path_in_it(volume, bench: Bench) -> None:
    _, mount, folder = volume
    snapshot(mount, "daily/of the day\nbefore")
    why = named(shred(bench, tree(folder)), "refused")["a"]
    assert "1 extent (73728 bytes" in why
    assert "shared with snapshot daily/of the day\\nbefore (deep/t/a)" in why, why


@pytest.mark.parametrize("which", ["tree", "file"])
def test_what_a_snapshot_had_once_is_copied_by_btrfs_and_refused(volume, bench: Bench, which: str) -> None:
    """The snapshot is gone and nothing is shared; btrfs would still copy at the next write, as the control shows."""
    _, mount, folder = volume
    snapshot(mount, "daily/1")
    run("btrfs", "subvolume", "delete", "--commit-each", mount / "daily/1")
    run("btrfs", "subvolume", "sync", mount)
    target = tree(folder) if which == "tree" else target_of(folder / "a")
    result = shred(bench, target, allow_exceptions=True)
    assert result.outcome is Outcome.REFUSED
    assert result.refusal is not None
    assert "a snapshot of its subvolume was taken" in result.refusal.detail
    before = places(folder / "a")
    with (folder / "a").open("r+b") as file:
        file.write(bytes(70_000))
    os.sync()
    assert places(folder / "a") != before, "the reason for it"


def test_what_was_written_since_the_snapshot_is_overwritten(lab, volume, bench: Bench) -> None:
    image, mount, folder = volume
    snapshot(mount, "daily/1")
    shutil.rmtree(folder)
    folder.mkdir()
    run("chattr", "+C", folder)
    fill(folder, {"new": 70_000})
    assert shred(bench, tree(folder)).outcome is Outcome.SANITIZED
    lab.unmount(mount)
    assert left(image, "new") == 0


def test_copies_in_the_same_and_in_another_subvolume_are_named(volume, bench: Bench) -> None:
    _, mount, folder = volume
    run("btrfs", "subvolume", "create", mount / "other")
    run("chattr", "+C", mount / "other")
    run("chattr", "+C", folder.parent)
    run("cp", "--reflink=always", folder / "a", folder.parent / "copy")
    run("cp", "--reflink=always", folder / "a", mount / "other/copied")
    os.sync()
    why = named(shred(bench, tree(folder)), "refused")["a"]
    assert "the file deep/copy of its own subvolume" in why
    assert "subvolume other (copied)" in why


def test_many_snapshots_are_cut_short(volume, bench: Bench) -> None:
    _, mount, folder = volume
    for number in range(6):
        snapshot(mount, f"s{number}")
    why = named(shred(bench, tree(folder)), "refused")["a"]
    assert why.count("snapshot s") == sharing.MOST_NAMED
    assert "and others" in why


def test_no_more_than_so_many_are_looked_up(volume) -> None:
    _, mount, folder = volume
    snapshot(mount, "s")
    fd = os.open(folder / "a", os.O_RDONLY)
    try:
        sharers = Sharers("btrfs", _left=1)
        assert "snapshot s" in sharers.of(fd, parts(fd)).in_words()
        assert "extents only" in sharers.of(fd, parts(fd)).in_words()
        half = Sharers("ext4").of(fd, parts(fd))
    finally:
        os.close(fd)
    assert half.in_words() == "another file or snapshot"


@pytest.mark.parametrize("reverse", [0, 1])
def test_the_inode_on_xfs_is_named_where_a_reverse_map_tells(lab, bench: Bench, reverse: int) -> None:
    _, mount = lab.formatted("xfs", "-m", f"reflink=1,rmapbt={reverse}", size=320 * MIB)
    fill(mount / "t", {"a": 70_000, "b": 9000})
    run("cp", "--reflink=always", mount / "t/a", mount / "copy")
    os.sync()
    why = named(shred(bench, tree(mount / "t")), "refused")["a"]
    if reverse:
        assert f"shared with inode {(mount / 'copy').stat().st_ino}: an overwrite" in why, why
    else:
        assert "shared with another file or snapshot (who that is" in why


def test_half_of_a_file_written_since_the_snapshot_is_overwritten_where_exceptions_are_allowed(
    lab, volume, bench: Bench
) -> None:
    image, mount, folder = volume
    fill(folder, {"half": 4 * MIB})
    snapshot(mount, "daily/1")
    with (folder / "half").open("r+b") as file:
        file.seek(2 * MIB)
        file.write((MARK + b"SINCE\n") * (2 * MIB // 27))
    os.sync()
    target = tree(folder, names=["half"])
    result = shred(bench, target, allow_exceptions=True)
    assert result.outcome is Outcome.EXCEPTIONS, (result.failure, result.refusal)
    assert (
        "shared with snapshot daily/1 (deep/t/half), where"
        in named(result, "sanitized-with-exceptions")["half"]
    )
    lab.unmount(mount)
    assert left(image, "SINCE") == 0
    assert left(image, "half") > 1000, "the reason for the exception"


@pytest.mark.parametrize("which", ["tree", "file"])
def test_what_xfs_holds_ready_for_copies_is_given_back_first(lab, bench: Bench, which: str) -> None:
    """A file that was shared, written to in part, and is shared no more: XFS would write around that part elsewhere."""
    image, mount = lab.formatted("xfs", size=320 * MIB)
    fill(mount / "t", {"a": 2 * MIB})
    run("cp", "--reflink=always", mount / "t/a", mount / "copy")
    with (mount / "t/a").open("r+b") as file:
        file.seek(512 * 1024)
        file.write(bytes(4096))
    os.sync()
    (mount / "copy").unlink()
    os.sync()
    result = shred(bench, tree(mount / "t") if which == "tree" else target_of(mount / "t/a"))
    assert result.outcome is Outcome.SANITIZED, result.failure
    lab.unmount(mount)
    assert left(image) <= 4096 // len(MARK), "the part that was written to before"
