"""Lying and failing disks for a test: each a FUSE file in a child process, or a loop device over it.

Whatever happens, everything is gone afterwards: the child is killed (which aborts its connection, so
that whoever is stuck in a request gets an error), the mount is detached lazily, loops are detached.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from expunge_agent.engine.target import Target
from support.fuse import libc

MNT_DETACH = 2
PROGRAM = Path(__file__).with_name("fuse_disk.py")
PATIENCE = 10.0


@functools.cache
def why_not() -> str:
    """Why there can be no FUSE disk here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root (mount)"
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"needs FUSE (/dev/fuse: {error.strerror})"
    if "fuse" not in {line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()}:
        return "needs a kernel with FUSE"
    return ""


class FuseDisk:
    """One disk: `path` is the file to use, `backing` the truth below it."""

    def __init__(self, folder: Path, content: bytes, *, direct: bool = True, writeback: bool = False) -> None:
        folder.mkdir()
        self.size = len(content)
        self.backing = folder / "backing"
        self.backing.write_bytes(content)
        self._point = folder / "mnt"
        self._point.mkdir()
        self.path = self._point / "disk"
        self._loops: list[str] = []
        self._targets: list[Target] = []
        options = json.dumps({"direct": direct, "writeback": writeback})
        self._child = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(self._point), str(self.backing), str(self.size), options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            if self._line() != "ready":
                raise AssertionError("the FUSE disk did not start")
            self._connection = os.minor(os.stat(self._point).st_dev)
        except BaseException:
            self.undo()
            raise

    def set(self, **faults: Any) -> int:
        """Change faults (`support.fuse_disk.Faults`); the number of requests so far."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(faults).encode() + b"\n")
        self._child.stdin.flush()
        return int(self._line())

    def free(self) -> None:
        """Let go what is stuck, and stall no more."""
        self.set(do="free", stall_after=None, stall_flush=None)

    def open(self, path: str | Path | None = None) -> Target:
        """A target over the file, or over `path` (a loop device of it)."""
        fd = os.open(path or self.path, os.O_RDWR | os.O_CLOEXEC)
        target = Target(fd, os.lseek(fd, 0, os.SEEK_END))
        self._targets.append(target)
        return target

    def loop(self, *options: str) -> str:
        """A loop device over the file, with direct I/O down to it."""
        done = subprocess.run(
            ["losetup", "--direct-io=on", *options, "--find", "--show", str(self.path)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        self._loops.append(done.stdout.strip())
        return self._loops[-1]

    def truth(self) -> bytes:
        """What is really stored."""
        return self.backing.read_bytes()

    def undo(self) -> None:
        """Take everything away, also while requests are stuck. Nothing here waits for the disk."""
        with ExitStack() as last_first:  # every step is taken, whatever another raises
            last_first.callback(self._await_loops)
            last_first.callback(self._unmount)
            last_first.callback(self._detach)
            last_first.callback(self._close)
            last_first.callback(self.kill)

    def kill(self) -> None:
        """Abort the connection: whoever waits for an answer gets an error."""
        abort = Path(f"/sys/fs/fuse/connections/{getattr(self, '_connection', 0)}/abort")
        if abort.exists():
            abort.write_text("1")
        self._child.kill()  # with it the last descriptor of /dev/fuse closes, which aborts too
        self._child.wait(PATIENCE)
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def _close(self) -> None:
        """Close the targets, and what the engine leaves open on purpose when a medium stalls."""
        for target in self._targets:
            with suppress(OSError):  # the disk has gone, and says so
                target.close()
        until = time.monotonic() + PATIENCE
        while _at_work() and time.monotonic() < until:
            time.sleep(0.02)
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/self/fd/{name}") in (str(self.path), *self._loops):
                    os.close(int(name))

    def _detach(self) -> None:
        for device in self._loops:
            subprocess.run(["losetup", "--detach", device], capture_output=True, timeout=PATIENCE)

    def _unmount(self) -> None:
        if libc.umount2(str(self._point).encode(), MNT_DETACH) != 0:
            number = ctypes.get_errno()
            if number != errno.EINVAL:  # not mounted at all
                raise OSError(number, os.strerror(number), str(self._point))

    def _await_loops(self) -> None:
        until = time.monotonic() + PATIENCE
        while any(Path(f"/sys/block/{Path(one).name}/loop/backing_file").exists() for one in self._loops):
            assert time.monotonic() < until, f"{self._loops} are still attached"
            time.sleep(0.02)

    def _line(self) -> str:
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], PATIENCE)
        assert ready, "the FUSE disk does not answer"
        return self._child.stdout.readline().decode().strip()


def _at_work() -> bool:
    """Whether threads of the engine are still there."""
    return any(one.name.startswith(("stripe-", "helper")) for one in threading.enumerate())


class FuseLab:
    """Makes disks in `folder`; a context manager that takes them all away."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disks: list[FuseDisk] = []

    def disk(self, content: bytes, **options: bool) -> FuseDisk:
        """A disk that holds `content`."""
        made = FuseDisk(self._folder / f"fuse{len(self._disks)}", content, **options)
        self._disks.append(made)
        return made

    def __enter__(self) -> FuseLab:
        return self

    def __exit__(self, *_: object) -> None:
        errors = []
        for disk in reversed(self._disks):
            try:
                disk.undo()
            except Exception as error:  # noqa: BLE001 - the others are to go too
                errors.append(error)
        if errors:
            raise errors[0]
