"""Files whose bytes an overwrite does not reach: the receipt says so, and the raw device shows that it is true."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.engine.pace import Pace
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import TargetResult
from support.agents import Bench
from support.fuse_lab import FuseLab

MIB = 1 << 20
RECORD = b"RECORD-OF-A-CUSTOMER-%08d;"


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[FuseLab]:
    with FuseLab(tmp_path.resolve()) as lab:
        yield lab


def records(path: Path, size: int = 4 * MIB) -> bytes:
    """A file full of recognisable records, all of it on the device."""
    data = b"".join(RECORD % number for number in range(size // len(RECORD % 0)))
    with path.open("wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    return data


def left(image: Path) -> int:
    """How often a record is found in the raw image."""
    os.sync()
    return image.read_bytes().count(b"RECORD-OF-A-CUSTOMER-")


def wiped(tmp_path: Path, path: Path, policy: str = "random-verified", **around: object) -> TargetResult:
    bench = Bench.make(tmp_path / "state")
    (result,) = bench.run(bench.order(path, policy=policy), **around).targets
    return result


def test_a_file_on_ext4_is_overwritten_where_it_lies(lab, tmp_path: Path) -> None:
    image, mount = lab.formatted("ext4", "-F")
    records(mount / "file")
    assert left(image) > 100_000
    result = wiped(tmp_path, mount / "file")
    assert result.outcome is Outcome.SANITIZED
    assert left(image) == 0


def test_a_file_that_btrfs_writes_elsewhere_is_not_called_sanitized(lab, tmp_path: Path) -> None:
    image, mount = lab.formatted("btrfs")
    records(mount / "file")
    result = wiped(tmp_path, mount / "file")
    assert result.outcome is Outcome.FAILED
    assert result.level_achieved is Level.NONE
    assert "bytes of the file lie elsewhere now" in result.failure
    assert left(image) > 100_000, "the reason for it"


def test_a_file_that_xfs_shares_is_not_called_sanitized(lab, tmp_path: Path) -> None:
    _, mount = lab.formatted("xfs", size=320 * MIB)
    data = records(mount / "file")
    subprocess.run(["cp", "--reflink=always", str(mount / "file"), str(mount / "copy")], check=True)
    os.sync()
    result = wiped(tmp_path, mount / "file")
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.level_achieved is Level.NONE
    assert "a part of the file is shared with other files or snapshots" in result.exceptions
    assert (mount / "copy").read_bytes()[:1000] == data[:1000]


def test_a_file_of_a_lower_layer_is_not_called_sanitized(lab, tmp_path: Path) -> None:
    _, mount = lab.formatted("ext4", "-F")
    for name in ("lower", "upper", "work"):
        (mount / name).mkdir()
    data = records(mount / "lower/file")
    try:
        over = lab.mount(
            "overlay",
            "-t",
            "overlay",
            "-o",
            f"lowerdir={mount}/lower,upperdir={mount}/upper,workdir={mount}/work",
        )
    except AssertionError as error:
        pytest.skip(f"no overlay file system here: {error}")
    result = wiped(tmp_path, over / "file")
    assert result.outcome is not Outcome.SANITIZED
    assert result.level_achieved is Level.NONE
    assert (mount / "lower/file").read_bytes() == data


@pytest.mark.parametrize("policy", ["zero", "random-verified"])
def test_a_file_that_is_cut_and_grown_again_meanwhile_is_noticed(lab, tmp_path: Path, policy: str) -> None:
    image, mount = lab.formatted("ext4", "-F")
    path = mount / "file"
    records(path, 40 * MIB)
    size = path.stat().st_size

    def cut() -> None:
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), 0)
            os.ftruncate(file.fileno(), size)

    timer = threading.Timer(0.7, cut)
    timer.start()
    result = wiped(tmp_path, path, policy, pace=Pace(25 * MIB))
    timer.join()
    assert result.outcome in (Outcome.FAILED, Outcome.INTERRUPTED)
    assert result.level_achieved is Level.NONE
    assert left(image) > 0, "the reason for it"


def test_a_file_system_that_does_not_tell_leaves_a_doubt(disks: FuseLab, tmp_path: Path) -> None:
    """FUSE has no FIEMAP."""
    disk = disks.disk(bytes(2 * MIB))
    result = wiped(tmp_path, disk.path)
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.exceptions[0].startswith("the file system does not tell where the file lies")
    assert result.passes[-1].complete
