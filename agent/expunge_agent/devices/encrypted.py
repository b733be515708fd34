"""Looking for encryption at the start of a medium, for the notes about it. Opened for reading only."""

from __future__ import annotations

import os
from dataclasses import replace

from expunge_agent.bounded import NoAnswer, within
from expunge_agent.core import luks
from expunge_agent.core.encrypted import HEAD, recognised
from expunge_agent.core.medium import Medium

PATIENCE = 30.0
"""Seconds: a drive may take as long for a bad sector."""


def with_encryption(medium: Medium, patience: float = PATIENCE) -> Medium:
    """`medium` with a note for each kind of encryption that shows; as it was where it cannot be read."""
    found = encryption_at(medium.path, patience)
    return replace(medium, notes=(*medium.notes, *found)) if found else medium


def encryption_at(path: str, patience: float = PATIENCE) -> list[str]:
    """See `recognised`; empty where `path` cannot be read. It is a note: whatever stands there, nothing else breaks on
    it, and it is not waited for longer than `patience` seconds."""
    try:
        return within(patience, lambda: _encryption_at(path))
    except NoAnswer as error:
        return [f"its first bytes could not be read: {error}"]


def _encryption_at(path: str) -> list[str]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        os.posix_fadvise(
            fd, 0, 0, os.POSIX_FADV_RANDOM
        )  # nothing is read ahead: a failing drive has few reads left
        head = os.pread(fd, HEAD, 0)
        if luks.begins_like_luks(head):
            head = os.pread(fd, luks.HEAD, 0)
        return recognised(head, os.lseek(fd, 0, os.SEEK_END))
    except OSError:
        return []
    except Exception as error:  # noqa: BLE001
        return [f"begins with something that could not be recognised ({type(error).__name__})"]
    finally:
        os.close(fd)
