"""What is written to: files in a fresh folder, and loop and zram devices made here. Nothing else, ever."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
PREFIX = "expunge-bench-"
ROOM = 3
"""Times the size of a target that must be free before a folder is used."""
_ZRAM = Path("/sys/class/zram-control")
_NO_DISK = {"tmpfs", "ramfs", "overlay"}


class UnavailableError(Exception):
    """This machine or user cannot have such a target; the text says why."""


class UnsafeError(Exception):
    """A path is not what the bench made: nothing may be written to it."""


@dataclass(frozen=True)
class Target:
    """A place to write: `kind` is file, loop, sparse (a loop device over a hole) or zram; size in bytes."""

    kind: str
    path: Path
    size: int
    backing: Path | None = None

    @property
    def block(self) -> bool:
        """Whether it is a block device."""
        return self.kind != "file"


class Workspace:
    """A folder and all that is made in it for one run; a context manager that removes the folder."""

    def __init__(self, parent: Path, size: int) -> None:
        """A fresh folder in `parent`. Raises UnavailableError with less than 3 × `size` bytes free there."""
        free = shutil.disk_usage(parent).free
        if free < ROOM * size:
            raise UnavailableError(
                f"{parent} has {free // MIB} MiB free; {ROOM} × {size // MIB} MiB are needed. "
                "Choose another --folder or a smaller --size."
            )
        self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
        self._zrams: set[Path] = set()
        self._files = 0

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            shutil.rmtree(self.root, ignore_errors=True)

    @contextlib.contextmanager
    def lend(self, kind: str, size: int, count: int = 1) -> Iterator[list[Target]]:
        """`count` targets of `size` bytes (a multiple of 1 MiB) each, gone again afterwards.

        `kind` is file, loop or zram, which hold random data already, so that no tool pays for
        allocation; or sparse (a loop device over a hole) or blank (zram for zeros, which take no memory).
        Raises UnavailableError where this machine or user cannot have them.
        """
        makers = {
            "file": self._file,
            "loop": self._loop,
            "sparse": self._loop,
            "zram": self._zram,
            "blank": self._zram,
        }
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(makers[kind](kind, size)) for _ in range(count)]
            yield made

    def check(self, target: Target) -> None:
        """Raise UnsafeError unless `target` is, at this moment, what was made here."""
        seen = target.path.lstat()
        if target.kind == "file":
            mine = stat.S_ISREG(seen.st_mode) and target.path.parent == self.root
        elif target.kind == "zram":
            mine = stat.S_ISBLK(seen.st_mode) and target.path in self._zrams
        else:
            mine = stat.S_ISBLK(seen.st_mode) and target.path in loops_over(target.backing)
        if not mine:
            raise UnsafeError(f"{target.path} is not what this run made; nothing was written to it.")

    def settle(self, target: Target) -> None:
        """Bring everything written so far to the medium and empty the page cache of it."""
        for path in filter(None, (target.path, target.backing)):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def _file(self, kind: str, size: int) -> Iterator[Target]:
        self._files += 1
        path = self.root / f"target-{self._files}"
        try:
            with path.open("wb") as handle:
                handle.truncate(size)
            if kind != "sparse":
                _fill(path, size)
            yield Target("file", path, size)
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _loop(self, kind: str, size: int) -> Iterator[Target]:
        if os.geteuid() != 0:
            raise UnavailableError("loop devices need root")
        with self._file(kind, size) as file:
            try:
                with undisturbed():
                    made = _call("losetup", "--find", "--show", "--direct-io=on", str(file.path))
                path = Path(made.strip())
                if (Path("/sys/block") / path.name / "loop/dio").read_text().strip() != "1":
                    raise UnavailableError(f"{self.root} gives no direct I/O below a loop device")
                yield Target(kind, path, size, backing=file.path)
            finally:
                with undisturbed():
                    for path in loops_over(file.path):
                        _patiently("losetup", "--detach", str(path))

    @contextlib.contextmanager
    def _zram(self, kind: str, size: int) -> Iterator[Target]:
        if not os.access(_ZRAM / "hot_add", os.R_OK):
            raise UnavailableError("zram devices need root and the kernel's zram module")
        _check_memory(kind, size)
        path = None
        try:
            with undisturbed():
                path = Path(f"/dev/zram{(_ZRAM / 'hot_add').read_text().strip()}")
            self._zrams.add(path)
            (Path("/sys/block") / path.name / "disksize").write_text(str(size))
            _await(path)
            if kind == "zram":
                _fill(path, size)
            yield Target("zram", path, size)
        finally:
            with undisturbed():
                if path is not None:
                    self._zrams.discard(path)
                    _remove_zram(path)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold back Ctrl-C and its like while devices are made or removed; they count afterwards."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def loops_over(backing: Path | None) -> list[Path]:
    """The loop devices that stand on the file `backing` now."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if backing is not None and entry.read_text().strip() == str(backing):
                found.append(Path("/dev") / entry.parts[3])
    return found


def leftovers() -> list[str]:
    """Loop devices of an earlier run that was killed and could not clean up, and the command that does."""
    found = []
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if f"/{PREFIX}" in (backing := entry.read_text().strip()):
                found.append(f"losetup --detach /dev/{entry.parts[3]}   # over {backing}")
    return found


def disk_problem(folder: Path) -> str:
    """Why figures of files in `folder` would say nothing of a disk; empty when they do."""
    kind = _call("stat", "--file-system", "--format=%T", str(folder)).strip()
    return f"{folder} is on {kind}, not on a disk" if kind in _NO_DISK else ""


def _fill(path: Path, size: int) -> None:
    """Random bytes over all of `path`, past the page cache."""
    with mmap.mmap(-1, MIB) as buffer:
        buffer[:] = os.urandom(MIB)
        descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            for offset in range(0, size, MIB):
                os.pwrite(descriptor, buffer, offset)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_memory(kind: str, size: int) -> None:
    """Random data in zram takes as much memory as it is long; of zeros only the table, some 1/128, is kept."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if (size * 5 // 4 if kind == "zram" else size // 64) > free:
        raise UnavailableError(f"zram of {size // MIB} MiB does not fit into {free // MIB} MiB of memory")


def _await(path: Path) -> None:
    until = time.monotonic() + 5
    while not path.exists():
        if time.monotonic() > until:
            raise UnavailableError(f"{path} did not appear")
        time.sleep(0.02)


def _remove_zram(path: Path) -> None:
    number = path.name.removeprefix("zram")
    for _ in range(100):
        with contextlib.suppress(OSError):
            (Path("/sys/block") / path.name / "reset").write_text("1")
            (_ZRAM / "hot_remove").write_text(number)
            return
        time.sleep(0.05)  # somebody (udev) still looks at it
    print(f"bench: could not remove {path}; later: echo {number} > {_ZRAM}/hot_remove", flush=True)


def _patiently(*command: str) -> None:
    for _ in range(20):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    print(f"bench: this failed, run it later: {' '.join(command)}", flush=True)


def _call(*command: str) -> str:
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise UnavailableError(f"{command[0]} could not be started: {error.strerror}") from error
    if done.returncode != 0:
        raise UnavailableError(f"{command[0]}: {done.stderr.strip()}")
    return done.stdout
