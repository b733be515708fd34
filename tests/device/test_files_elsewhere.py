"""Files whose bytes an overwrite does not reach: the receipt says so, and the raw device shows that it is true."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.engine.pace import Pace
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Reason, TargetResult
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


def wiped(
    tmp_path: Path,
    path: Path,
    policy: str = "random-verified",
    *,
    allow_exceptions: bool = False,
    **around: object,
) -> TargetResult:
    bench = Bench.make(tmp_path / "state")
    order = bench.order(path, policy=policy, allow_exceptions=allow_exceptions)
    (result,) = bench.run(order, **around).targets
    return result


def refused(result: TargetResult, why: str) -> None:
    """Refused for that reason, before anything was opened for writing."""
    assert result.outcome is Outcome.REFUSED
    assert result.refusal is not None
    assert result.refusal.reason is Reason.NOT_REACHABLE
    assert why in result.refusal.detail
    assert result.identity_opened is None
    assert result.passes == []


def test_a_file_on_ext4_is_overwritten_where_it_lies(lab, tmp_path: Path) -> None:
    image, mount = lab.formatted("ext4", "-F")
    records(mount / "file")
    assert left(image) > 100_000
    result = wiped(tmp_path, mount / "file")
    assert result.outcome is Outcome.SANITIZED
    assert left(image) == 0


@pytest.mark.parametrize("options", [(), ("-o", "compress-force=zstd")], ids=["plain", "compressed"])
def test_a_file_that_btrfs_writes_elsewhere_is_refused(lab, tmp_path: Path, options: tuple[str, ...]) -> None:
    _, mount = lab.formatted("btrfs")
    if options:
        subprocess.run(["mount", "-o", "remount,compress-force=zstd", str(mount)], check=True)
    data = records(mount / "file")
    result = wiped(tmp_path, mount / "file", allow_exceptions=True)
    refused(result, "btrfs writes changes to new places")
    assert "wipe the free space" in result.refusal.remedy
    assert (mount / "file").read_bytes() == data


def test_a_file_that_btrfs_writes_in_place_is_overwritten_where_it_lies(lab, tmp_path: Path) -> None:
    image, mount = lab.formatted("btrfs")
    (mount / "file").touch()
    subprocess.run(["chattr", "+C", str(mount / "file")], check=True)
    records(mount / "file")
    assert wiped(tmp_path, mount / "file").outcome is Outcome.SANITIZED
    assert left(image) == 0


def test_a_file_that_xfs_shares_wholly_is_refused(lab, tmp_path: Path) -> None:
    _, mount = lab.formatted("xfs", "-m", "rmapbt=1", size=320 * MIB)
    data = records(mount / "file")
    subprocess.run(["cp", "--reflink=always", str(mount / "file"), str(mount / "copy")], check=True)
    os.sync()
    result = wiped(tmp_path, mount / "file", allow_exceptions=True)
    refused(
        result, f"shared with inode {(mount / 'copy').stat().st_ino}: an overwrite would reach none of it"
    )
    assert (mount / "file").read_bytes() == data


def test_a_file_that_xfs_shares_in_part_is_overwritten_only_where_exceptions_are_allowed(
    lab, tmp_path: Path
) -> None:
    image, mount = lab.formatted("xfs", "-m", "rmapbt=1", size=320 * MIB)
    data = records(mount / "file")
    subprocess.run(["cp", "--reflink=always", str(mount / "file"), str(mount / "copy")], check=True)
    with (mount / "copy").open("r+b") as file:
        file.write(bytes(2 * MIB))
        os.fsync(file.fileno())
    os.sync()
    result = wiped(tmp_path, mount / "file")
    refused(result, f"shared with inode {(mount / 'copy').stat().st_ino}")
    assert "--allow-exceptions" in result.refusal.remedy
    assert (mount / "file").read_bytes() == data
    result = wiped(tmp_path, mount / "file", allow_exceptions=True)
    assert result.outcome is Outcome.EXCEPTIONS
    assert result.level_achieved is Level.NONE
    assert "where what they hold stays" in result.exceptions[0]
    assert (mount / "copy").read_bytes()[3 * MIB :] == data[3 * MIB :]
    assert left(image) < 70_000, "what was its own is gone"


def test_a_file_of_a_lower_layer_is_refused(lab, tmp_path: Path) -> None:
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
    result = wiped(tmp_path, over / "file", allow_exceptions=True)
    refused(result, "overlay passes writes on")
    assert not (mount / "upper/file").exists(), "nothing was copied up"
    assert (mount / "lower/file").read_bytes() == data


@pytest.mark.parametrize("policy", ["zero", "random-verified"])
def test_a_file_that_is_cut_and_grown_again_meanwhile_is_noticed(lab, tmp_path: Path, policy: str) -> None:
    image, mount = lab.formatted("ext4", "-F")
    path = mount / "file"
    records(path, 40 * MIB)
    size = path.stat().st_size

    def cut() -> None:
        until = time.monotonic() + 30
        with path.open("rb", buffering=0) as file:
            while os.pread(file.fileno(), 6, 0) == b"RECORD" and time.monotonic() < until:
                time.sleep(0.01)
        with path.open("r+b") as file:
            os.ftruncate(file.fileno(), 0)
            os.ftruncate(file.fileno(), size)

    timer = threading.Thread(target=cut)
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
