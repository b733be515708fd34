"""Files that survive a power cut: written beside, synced, renamed into place, folder synced."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.errors import BusyError, NoSpaceError, PermissionProblemError, StateError


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the usual failures of the operating system at `path` into sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"The disk that holds {path} is full.", "Free some space there; unfinished orders then go on."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise PermissionProblemError(
                f"This user may not use {path}.", "Run the command as root, or as the owner of that folder."
            ) from error
        raise StateError(f"{path}: {error.strerror or error}.", "Check the disk and the folder.") from error


def sync_folder(folder: Path) -> None:
    """Make renames and unlinks in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durable(path: Path, data: bytes, mode: int = 0o640) -> None:
    """Replace `path` by `data`, whole or not at all, durable on return."""
    with explained(path), _beside(path, data, mode) as beside:
        beside.replace(path)
        sync_folder(path.parent)


def sweep(folder: Path, name: str) -> None:
    """Remove what killed writes of files `name` (a pattern) left beside them; nobody else may be at it."""
    with explained(folder):
        for beside in folder.glob(f".{name}.*.new"):
            beside.unlink(missing_ok=True)


def create_folder(folder: Path, files: dict[str, bytes], mode: int = 0o640, folder_mode: int = 0o770) -> bool:
    """Make `folder` with these `files` in it, durable on return; False, and nothing done, where it exists.

    It is built under another name and renamed, so that it is there whole or not at all.
    """
    beside = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}")
    with explained(folder):
        beside.mkdir(mode=folder_mode)
        try:
            for name, data in files.items():
                _write(beside / name, data, mode)
            sync_folder(beside)
            beside.rename(folder)
            sync_folder(folder.parent)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return True


def create_durable(path: Path, data: bytes, mode: int = 0o640) -> bool:
    """Make `path` with `data`, durable on return; False, and nothing done, where it exists already."""
    with explained(path), _beside(path, data, mode) as beside:
        try:
            path.hardlink_to(beside)
        except FileExistsError:
            return False
        sync_folder(path.parent)
        return True


@contextmanager
def _beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A durable file with `data` in the same folder, gone afterwards unless renamed.

    Its name cannot be foreseen, so that nobody who may write there can put something in its way.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    try:
        _write(beside, data, mode)
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _write(path: Path, data: bytes, mode: int) -> None:
    """A new file with `data`, its content durable on return (its name is when the folder is synced)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, mode), "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def read_limited(path: Path, limit: int, folder: int | None = None) -> bytes:
    """The bytes of a regular file that is no link and no longer than `limit`. Raises StateError.

    With `folder`, an open descriptor, `path` is a name in it.
    """
    with explained(path):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as handle:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise StateError(f"{path} is not a regular file.", "Remove it.")
            data = handle.read(limit + 1)
    if len(data) > limit:
        raise StateError(f"{path} is longer than {limit} bytes.", "It is not what it should be; remove it.")
    return data


def exists(path: Path) -> bool:
    """Whether there is something at `path`. Raises PermissionProblemError where one may not look."""
    with explained(path):
        return path.exists()


@contextmanager
def locked(path: Path, patience: float, what: str) -> Iterator[None]:
    """Hold the lock file at `path`, waiting for it at most `patience` seconds. Raises BusyError.

    The file is for its owner alone: whoever could open it could hold it.
    """
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise BusyError(f"{what} by another process.", "Wait for it.") from error
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)
