"""Targets: aligned access, the odd tail, never beyond the end, never from the cache."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.engine import pagecache
from expunge_agent.engine.buffers import PAGE, aligned
from expunge_agent.engine.problems import (
    NoSpaceOnTarget,
    TargetGone,
    TargetRefused,
    TargetShrank,
    fatal,
    merged,
)
from expunge_agent.engine.problems import Problem as P
from expunge_agent.engine.target import Target

SHM = Path("/dev/shm")


class BufferedTarget(Target):
    """A target on a file system that knows no direct I/O."""

    def _open_direct(self, block: int | None) -> tuple[int, int]:
        return -1, self.block


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "medium.img"
    path.write_bytes(os.urandom(70_001))
    return path


@pytest.fixture
def target(image: Path) -> Iterator[Target]:
    opened = opened_target(image)
    yield opened
    opened.close()


def opened_target(path: Path, kind: type[Target] = Target, flags: int = os.O_RDWR) -> Target:
    return kind(os.open(path, flags), path.stat().st_size)


def test_the_mode_says_how_bytes_travel(target: Target) -> None:
    assert target.io_mode in ("direct, tail buffered", "buffered")
    assert target.reads_medium == target.direct
    assert target.block in (512, 4096)


@pytest.mark.parametrize("kind", [Target, BufferedTarget])
@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 40_000), data=st.data())
def test_any_aligned_range_is_written_and_read_exactly(
    kind: type[Target], tmp_path_factory: pytest.TempPathFactory, size: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("range") / "f"
    before = os.urandom(size)
    path.write_bytes(before)
    target = opened_target(path, kind)
    try:
        blocks = -(-size // target.block)
        first = data.draw(st.integers(0, blocks - 1))
        last = data.draw(st.integers(first + 1, blocks))
        start, end = first * target.block, min(last * target.block, size)
        view = aligned(end - start)
        view[:] = os.urandom(end - start)
        target.write(view, start)
        target.flush()
        expected = before[:start] + bytes(view) + before[end:]
        assert path.read_bytes() == expected
        back = aligned(end - start)
        target.read_into(back, start)
        assert back == view
    finally:
        target.close()


def test_bytes_outside_or_askew_are_refused(target: Target) -> None:
    for offset, length in ((-512, 512), (70_001, 1), (69_632, 512), (512, 100), (100, 512)):
        with pytest.raises(ValueError, match=r"outside|aligned"):
            target.write(aligned(length), offset)
        with pytest.raises(ValueError, match=r"outside|aligned"):
            target.read_into(aligned(length), offset)


def test_a_file_that_shrank_is_noticed_and_never_grown_again(target: Target, image: Path) -> None:
    os.truncate(image, 8192)
    with pytest.raises(TargetShrank, match="8192"):
        target.write(aligned(4096), 4096)
    with pytest.raises(TargetShrank):
        target.read_into(aligned(8192), 4096)
    assert image.stat().st_size == 8192
    assert target.current_size() == 8192


def test_a_target_larger_than_the_medium_is_refused(image: Path) -> None:
    fd = os.open(image, os.O_RDWR)
    with pytest.raises(TargetShrank):
        Target(fd, 70_002)
    with pytest.raises(ValueError, match="0 bytes"):
        Target(fd, 0)
    os.close(fd)  # still the caller's


def test_only_files_and_block_devices_are_media(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/null")):
        fd = os.open(path, os.O_RDONLY)
        with pytest.raises(ValueError, match="regular file or a block device"):
            Target(fd, 1)
        os.close(fd)


def test_a_read_only_target_reads_and_flushes_but_does_not_write(image: Path) -> None:
    target = opened_target(image, flags=os.O_RDONLY)
    assert not target.writable
    assert target.io_mode in ("direct", "buffered")
    target.flush()
    back = aligned(70_001)
    target.read_into(back, 0)
    assert back == image.read_bytes()
    with pytest.raises(OSError, match="Bad file descriptor"):
        target.write(back, 0)
    target.close()


def test_close_closes_everything_and_may_be_repeated(image: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    target = opened_target(image)
    target.close()
    target.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_without_direct_io_the_cache_is_emptied_and_that_is_checked(image: Path) -> None:
    target = opened_target(image, BufferedTarget)
    assert (target.io_mode, target.reads_medium) == ("buffered", False)
    target.write(aligned(70_001), 0)
    with image.open("rb") as file:
        assert pagecache.resident(file.fileno(), 0, 70_001)
    assert target.drop_cache() == 0
    assert (target.io_mode, target.reads_medium) == ("buffered, cache dropped", True)
    target.write(aligned(4096), 0)
    assert (target.io_mode, target.reads_medium) == ("buffered", False)
    target.close()


def test_pages_that_somebody_holds_are_told(image: Path) -> None:
    target = opened_target(image, BufferedTarget)
    with image.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        assert len(held[:]) == 70_001  # mapped pages are not dropped
        assert target.drop_cache()
        assert "stayed in the cache" in target.io_mode
        assert not target.reads_medium
    target.close()


def test_a_direct_target_leaves_nothing_in_the_cache(image: Path) -> None:
    target = opened_target(image)
    if not target.direct:
        pytest.skip("this file system has no direct I/O")
    target.drop_cache()
    back = aligned(70_001)
    target.read_into(back, 0)
    fd = os.open(image, os.O_RDONLY)
    assert pagecache.resident(fd, 0, 70_001) == 0
    os.close(fd)
    target.close()


def test_both_ways_of_asking_the_cache_agree(image: Path) -> None:
    with image.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert pagecache._mincore(file.fileno(), 0, 70_001) == 0
        file.seek(0)
        assert len(file.read()) == 70_001
        pages = -(-70_001 // PAGE)
        assert pagecache._mincore(file.fileno(), 0, 70_001) == pages
        assert pagecache._cachestat(file.fileno(), 0, 70_001) in (pages, None)
        assert pagecache.resident(file.fileno(), 0, 70_001) == pages


def test_a_memory_file_system_is_named() -> None:
    if not SHM.is_dir() or not os.access(SHM, os.W_OK):
        pytest.skip("no /dev/shm")
    path = SHM / f"expunge-test-{os.getpid()}"
    try:
        path.write_bytes(bytes(10_000))
        if not pagecache.in_memory(fd := os.open(path, os.O_RDWR)):
            os.close(fd)
            pytest.skip("/dev/shm is no tmpfs")
        target = Target(fd, 10_000)
        assert target.io_mode == "memory file system: the cache is the medium"
        assert target.reads_medium
        target.close()
    finally:
        path.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENODEV, TargetGone),
        (errno.ENXIO, TargetGone),
        (errno.ENOSPC, NoSpaceOnTarget),
        (errno.EDQUOT, NoSpaceOnTarget),
        (errno.EROFS, TargetRefused),
        (errno.EPERM, TargetRefused),
    ],
)
def test_errors_that_end_a_pass_are_told_apart(number: int, kind: type[Exception]) -> None:
    error = fatal(OSError(number, "x"), "write")
    assert type(error) is kind
    assert errno.errorcode[number] in str(error)


def test_merging_keeps_what_is_said_apart() -> None:
    parts = [P(8, 4, "a"), P(0, 4, "a"), P(4, 4, "a"), P(12, 4, "b"), P(20, 1, "b")]
    assert merged(parts) == [P(0, 12, "a"), P(12, 4, "b"), P(20, 1, "b")]
    assert merged(parts, 4) == [P(0, 12, "a"), P(12, 9, "b")]
    assert merged(parts, 0, mix=True) == [P(0, 16, "various"), P(20, 1, "b")]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENODEV])
def test_what_fails_while_opening_is_an_end_of_the_engine(
    image: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Dirty pages of others are flushed to see whether direct I/O is any; that may fail."""
    asked = []

    def fails(fd: int) -> None:
        asked.append(fd)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", fails)
    monkeypatch.setattr(pagecache, "resident", lambda *_: 1)
    monkeypatch.setattr(pagecache, "in_memory", lambda _: False)
    descriptors = len(os.listdir("/proc/self/fd"))
    fd = os.open(image, os.O_RDWR)
    try:
        if number == errno.EIO:  # lost bytes of others: the medium's own errors show in the pass
            Target(fd, image.stat().st_size).close()
            fd = -1
        else:
            kind = TargetGone if number == errno.ENODEV else TargetRefused
            with pytest.raises(kind, match=f"opening: {errno.errorcode[number]}"):
                Target(fd, image.stat().st_size)
    finally:
        if fd >= 0:
            os.close(fd)
    if not asked:
        pytest.skip("no direct I/O here, so nothing is flushed on opening")
    assert len(os.listdir("/proc/self/fd")) == descriptors
