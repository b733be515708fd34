"""Files that survive a power cut: written beside, synced, renamed into place, folder synced."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.errors import NoSpaceError, PermissionProblemError, StateError


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
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    with explained(path):
        try:
            descriptor = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode
            )
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            beside.replace(path)
            sync_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that is no link and no longer than `limit`. Raises StateError."""
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as handle:
            data = handle.read(limit + 1)
    if len(data) > limit:
        raise StateError(f"{path} is longer than {limit} bytes.", "It is not what it should be; remove it.")
    return data
