"""Real kernel state for device tests: loop devices over files made here, partitions, mounts, swap, zram.

Everything is undone in reverse order when the test ends, however it ends. Nothing here ever opens a
device that it did not make itself.
"""

from __future__ import annotations

import array
import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

MIB = 1 << 20
BLKPG = 0x1269  # linux/blkpg.h
BLKPG_ADD_PARTITION = 1
BLKPG_DEL_PARTITION = 2


class Lab:
    """Makes block devices and puts them to use; `undo` takes all of it away again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._count = 0

    def undo(self) -> None:
        """Take everything away, last things first; an error is raised after all was tried."""
        self._stack.close()

    def name(self, what: str) -> Path:
        """A path in the test's folder that nothing has yet."""
        self._count += 1
        return self.folder / f"{what}{self._count}"

    def image(self, size: int = 16 * MIB) -> Path:
        """A file of `size` bytes, all there."""
        path = self.name("image")
        with path.open("wb") as file:
            for _ in range(size // MIB):
                file.write(b"\xa5" * MIB)
            file.write(b"\xa5" * (size % MIB))
        return path

    def loop(self, over: Path | str | None = None, *options: str, size: int = 16 * MIB) -> str:
        """A loop device over `over`, or over a new image; `options` as for losetup."""
        target = str(over) if over is not None else str(self.image(size))
        device = tool("losetup", *options, "--find", "--show", target).strip()
        self._stack.callback(self._detach, device, os.path.realpath(target))
        return device

    def detach(self, device: str) -> None:
        """Take a loop device away before its time."""
        self._detach(device)

    def _detach(self, device: str, over: str = "") -> None:
        """With `over` only if it loops over that, or over another file of this test: its number may be somebody else's."""
        ours = (over, os.path.realpath(self.folder))
        if backing_of(device).removesuffix(" (deleted)") and backing_of(device).startswith(ours):
            tool("losetup", "--detach", device)
            wait_until(lambda: not backing_of(device), f"{device} is still attached")

    def partition(self, device: str, number: int, start: int, size: int) -> str:
        """Partition `number` of `device`, from byte `start` on, told to the kernel directly (no table on disk)."""
        blkpg(device, BLKPG_ADD_PARTITION, number, start, size)
        self._stack.callback(blkpg, device, BLKPG_DEL_PARTITION, number, 0, 0)
        path = f"{device}p{number}"
        wait_until(Path(path).exists, f"{path} did not appear")
        return path

    def ext4(self, device: str, *options: str) -> str:
        """An ext4 file system on `device`."""
        needs("mkfs.ext4")
        tool("mkfs.ext4", "-q", "-F", *options, device)
        return device

    def formatted(self, maker: str, *options: str, size: int = 192 * MIB) -> tuple[Path, Path]:
        """(image, mount point) of a file system made by ``mkfs.MAKER`` on a sparse image."""
        needs(f"mkfs.{maker}")
        image = self.name("disk")
        with image.open("wb") as file:
            file.truncate(size)
        device = self.loop(image)
        tool(f"mkfs.{maker}", "-q", *options, device)
        return image, self.mount(device)

    def mount(self, source: str | Path, *options: str, at: Path | None = None) -> Path:
        """`source` mounted on a new folder (or on `at`); `options` as for mount."""
        point = at or self.name("mnt")
        if at is None:
            point.mkdir()
        tool("mount", *options, str(source), str(point))
        self._stack.callback(self._unmount, point)
        return point

    def unmount(self, point: Path) -> None:
        """Unmount before its time."""
        self._unmount(point)

    def _unmount(self, point: Path) -> None:
        if os.path.ismount(point) or point.is_file():
            subprocess.run(["umount", str(point)], check=point.is_dir(), capture_output=True)

    def swap(self, target: str | Path) -> str:
        """`target` as an active swap area."""
        needs("mkswap")
        tool("mkswap", str(target))
        tool("swapon", str(target))
        self._stack.callback(tool, "swapoff", str(target))
        return str(target)

    def zram(self, size: int = 16 * MIB) -> str:
        """A compressed disk in memory."""
        control = Path("/sys/class/zram-control/hot_add")
        if not control.exists():
            pytest.skip("needs zram")
        number = control.read_text().strip()
        self._stack.callback(Path("/sys/class/zram-control/hot_remove").write_text, number)
        Path(f"/sys/block/zram{number}/disksize").write_text(str(size))
        wait_until(Path(f"/dev/zram{number}").exists, f"/dev/zram{number} did not appear")
        return f"/dev/zram{number}"

    def mapped(self, table: str, uuid: str = "") -> str:
        """A device-mapper device with this table."""
        needs("dmsetup")
        if subprocess.run(["dmsetup", "version"], capture_output=True, check=False).returncode:
            pytest.skip("needs a kernel with device mapper")
        name = f"expunge-test-{os.getpid()}-{self._count}"
        self._count += 1
        tool("dmsetup", "create", name, *(["--uuid", uuid] if uuid else []), "--table", table)
        self._stack.callback(tool, "dmsetup", "remove", "--retry", name)
        return f"/dev/mapper/{name}"

    def helper(self, code: str, *args: str) -> subprocess.Popen[str]:
        """Another process running `code`, which has printed a line when this returns, and is ended with the test."""
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stack.callback(_end, process)
        assert process.stdout is not None
        assert process.stdout.readline(), "the helper did not start"
        return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def tool(*args: str) -> str:
    """Run a tool and return what it prints; fail with its complaint."""
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(args)}: {done.stderr}"
    return done.stdout


def needs(program: str) -> None:
    """Skip the test when `program` is not installed."""
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")


def backing_of(device: str) -> str:
    """What a loop device loops over, from sysfs."""
    try:
        return Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text().strip()
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], complaint: str, seconds: float = 10) -> None:
    """Wait for the kernel to be done."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, complaint
        time.sleep(0.02)


def blkpg(device: str, operation: int, number: int, start: int, size: int) -> None:
    """Add or remove a partition as addpart(8) and delpart(8) do."""
    part = array.array("B", struct.pack("=qqi64s64s4x", start, size, number, b"", b""))
    argument = struct.pack("iiiP", operation, 0, len(part), part.buffer_info()[0])
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, BLKPG, argument)
    finally:
        os.close(fd)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Loop devices and what stands on them, gone again after the test."""
    made = Lab(tmp_path.resolve())
    try:
        yield made
    finally:
        made.undo()


@pytest.fixture
def prompt_xfs() -> Iterator[None]:
    """XFS writes its records in place every second rather than every thirty: a run that waits for that is short."""
    setting = Path("/proc/sys/fs/xfs/xfssyncd_centisecs")
    try:
        before = setting.read_text()
        setting.write_text("100")
    except OSError:
        yield  # as it is, then: longer
        return
    try:
        yield
    finally:
        setting.write_text(before)
