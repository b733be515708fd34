"""The engine on real block devices: loop devices with both sector sizes, and full file systems."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from expunge_agent.engine.buffers import KIB, MIB, aligned
from expunge_agent.engine.problems import EngineError, NoSpaceOnTarget, TargetGone, TargetShrank
from expunge_agent.engine.ranges import rest, samples
from expunge_agent.engine.sources import KeyedStream, PatternSource, Source
from expunge_agent.engine.target import Target
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.verifier import verify
from expunge_agent.engine.writer import write_pass

STREAM = KeyedStream("aes-256-ctr", bytes(range(32)))
SMALL = Tuning(chunk=256 * KIB, stripes=3)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def content(source: Source, size: int) -> bytes:
    view = aligned(size)
    source.fill(view, 0)
    return bytes(view)


Attach = Callable[..., Target]


@pytest.fixture
def attach() -> Iterator[Attach]:
    """Makes a loop device of a file and opens it as a target; all is detached afterwards."""
    devices: list[str] = []
    targets: list[Target] = []

    def make(image: Path, sector: int = 512) -> Target:
        device = run("losetup", "--find", "--show", "--sector-size", str(sector), str(image))
        devices.append(device)
        fd = os.open(device, os.O_RDWR | os.O_EXCL)
        size = os.lseek(fd, 0, os.SEEK_END)
        targets.append(Target(fd, size))
        return targets[-1]

    yield make
    for target in targets:
        target.close()
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=False, capture_output=True)


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 8 MiB, unmounted afterwards."""
    folder = tmp_path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=8m", "none", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("source", [STREAM, PatternSource(b"abc")], ids=["stream", "abc"])
def test_a_device_is_overwritten_and_verified(
    tmp_path: Path, attach: Attach, sector: int, source: Source
) -> None:
    image = tmp_path / "disk.img"
    size = 9 * MIB + 3 * 4096
    image.write_bytes(os.urandom(size))
    target = attach(image, sector)
    assert (target.block, target.size, target.io_mode) == (sector, size, "direct")
    report = write_pass(target, source, tuning=SMALL)
    assert report.complete
    assert report.bytes_written == size
    assert image.read_bytes() == content(source, size)
    assert verify(target, source, tuning=SMALL).clean

    place = 5 * MIB + 17
    with image.open("r+b") as file:  # the ground truth is changed behind the device's back
        file.seek(place)
        file.write(bytes([content(source, size)[place] ^ 0xFF]))
    back = verify(target, source, tuning=SMALL)
    assert back.mismatched_bytes == 1
    assert [(one.start, one.length) for one in back.mismatches] == [(place, 1)]


def test_a_size_of_an_odd_number_of_512_byte_sectors(tmp_path: Path, attach: Attach) -> None:
    image = tmp_path / "disk.img"
    size = 3 * MIB + 5 * 512
    image.write_bytes(os.urandom(size))
    target = attach(image)
    assert target.size == size
    assert write_pass(target, STREAM, tuning=SMALL).complete
    assert image.read_bytes() == content(STREAM, size)


def test_a_pass_goes_on_from_any_sector(tmp_path: Path, attach: Attach) -> None:
    image = tmp_path / "disk.img"
    size = 4 * MIB
    image.write_bytes(bytes(size))
    target = attach(image, 4096)
    report = write_pass(target, STREAM, start=MIB + 1536, tuning=SMALL)
    assert report.bytes_written == size - MIB - 1536
    assert image.read_bytes() == bytes(MIB) + content(STREAM, size)[MIB:]


def test_places_beyond_2_to_the_32_sectors(tmp_path: Path, attach: Attach) -> None:
    image = tmp_path / "disk.img"
    image.touch()
    size = (1 << 41) + 8 * MIB
    os.truncate(image, size)
    target = attach(image)
    assert target.size == size
    report = write_pass(target, STREAM, start=size - 5 * MIB, tuning=SMALL)
    assert report.bytes_written == 5 * MIB
    assert verify(target, STREAM, rest(size, size - 5 * MIB)).clean
    there = aligned(MIB)
    with image.open("rb") as file:
        file.seek(size - MIB)
        assert file.readinto(there) == MIB
    stream = aligned(MIB)
    STREAM.fill(stream, size - MIB)
    assert there == stream
    plan = [one for one in samples(size, 512, bytes(16)) if one.end <= MIB or one.end == size]
    assert verify(target, PatternSource(b"\0"), plan[:1]).clean
    assert not verify(target, PatternSource(b"\0"), plan[-1:]).clean


@pytest.mark.parametrize("stripes", [1, 4])
def test_a_full_file_system_is_no_bad_sector(small_tmpfs: Path, stripes: int) -> None:
    image = small_tmpfs / "sparse.img"
    image.touch()
    os.truncate(image, 32 * MIB)
    with closing(Target(os.open(image, os.O_RDWR), 32 * MIB)) as target:
        with pytest.raises(NoSpaceOnTarget) as caught:
            write_pass(target, STREAM, tuning=Tuning(chunk=256 * KIB, stripes=stripes))
        report = caught.value.report
        # One worker fills the space in order; of several, one may be behind when the others hit the end.
        assert (7 * MIB if stripes == 1 else 0) <= report.durable <= 8 * MIB
        assert not report.complete
        assert report.problems == []
        back = aligned(8 * MIB)[: report.durable]
        target.read_into(back, 0)
        assert bytes(back) == content(STREAM, 8 * MIB)[: report.durable]


def test_a_device_on_a_full_file_system_never_counts_as_written(small_tmpfs: Path, attach: Attach) -> None:
    """The loop driver tells EIO or ENOSPC, by kernel; in either case the pass must not be complete and clean."""
    image = small_tmpfs / "sparse.img"
    image.touch()
    os.truncate(image, 32 * MIB)
    target = attach(image)
    with pytest.raises(EngineError) as caught:
        write_pass(target, STREAM, tuning=SMALL)
    report = caught.value.report
    assert not report.complete
    assert report.bytes_written <= 8 * MIB
    target.close()
    there = image.read_bytes()
    expected = content(STREAM, 32 * MIB)
    good = report.durable if not report.problems else min(one.start for one in report.problems)
    assert there[: min(good, report.durable)] == expected[: min(good, report.durable)]


def test_a_device_that_shrank_is_noticed(tmp_path: Path, attach: Attach) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(8 * MIB))
    target = attach(image)
    os.truncate(image, 5 * MIB)
    device = run("losetup", "--associated", str(image)).split(":")[0]
    run("losetup", "--set-capacity", device)
    with pytest.raises(TargetShrank) as caught:
        write_pass(target, STREAM, tuning=SMALL)
    assert not caught.value.report.complete
    assert caught.value.report.durable <= 5 * MIB
    with pytest.raises((TargetShrank, TargetGone)):
        verify(target, STREAM, tuning=SMALL)


def test_reading_back_leaves_the_page_cache_alone(tmp_path: Path, attach: Attach) -> None:
    """Stale pages of the device must not answer: the cache is filled, then the backing file is changed."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(2 * MIB))
    target = attach(image)
    device = run("losetup", "--associated", str(image)).split(":")[0]
    with Path(device).open("rb") as cached:
        assert cached.read(2 * MIB) == bytes(2 * MIB)
        with image.open("r+b") as file:
            file.seek(MIB)
            file.write(b"\xee" * 100)
        report = verify(target, PatternSource(b"\0"), tuning=SMALL)
    assert report.mismatched_bytes == 100
    assert report.reads_medium
