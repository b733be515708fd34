"""Files of the controller's folder: private, written as a whole or not at all, locked; and small ones that a user names."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge_agent.errors import BusyError, DocumentError, NotFoundError


def write_private(path: Path, data: bytes) -> None:
    """Put `data` at `path` with mode 0600, durably; a crash leaves the old file or the new one."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise
    sync_folder(path.parent)


def read_small(path: Path, most: int, what: str) -> bytes:
    """The file at `path`. Raises NotFoundError, and DocumentError where it has more than `most` bytes, too many for `what`."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError as error:
        raise NotFoundError(f"There is no file {path}.", "Check the path.") from error
    if len(data) > most:
        raise DocumentError(f"{path} is too large for {what}.", "Check the path.")
    return data


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, message: str, remedy: str, *, patience: float = 0.0) -> Iterator[None]:
    """Hold `path` alone. Raises BusyError with `message` when another process has it for `patience` seconds.

    The file stays: removing it would let two processes hold two files of one name.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise BusyError(message, remedy) from error
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)  # gives up the lock


def is_held(path: Path) -> bool:
    """Whether some process holds `path` by `locked`. Several may ask at once."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
