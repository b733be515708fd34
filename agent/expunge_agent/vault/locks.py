"""Two locks of a vault: one for its keystore and journal, held briefly; one for whoever streams objects."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.errors import BusyError
from expunge_agent.files import explained, locked

STORE_PATIENCE = 30.0
"""Seconds to wait for another keystore change."""
USE_PATIENCE = 5.0
"""Seconds to wait, before a shredding, for objects being written or read."""


@contextmanager
def store_lock(folder: Path) -> Iterator[None]:
    """Hold keystore and journal. Raises BusyError."""
    with locked(folder / "lock", STORE_PATIENCE, "The vault is being changed"):
        yield


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else holds a data key of this vault. Raises BusyError."""
    with locked(folder / "use.lock", USE_PATIENCE, "Objects of the vault are being written or read"):
        yield


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Others may stream too, but nobody shreds. Raises BusyError."""
    path = folder / "use.lock"
    with explained(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + USE_PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > end:
                    raise BusyError("A subject of the vault is being shredded.", "Wait for it.") from error
                time.sleep(0.02)
        yield
    finally:
        os.close(fd)
