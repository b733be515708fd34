"""A passphrase on its way: in one place, locked in memory where that may be done, zeroed when it is done with.

It goes from there into a pipe, and from the pipe into such a place again, so that no copy of it is left to Python's own
bytes, which nobody can zero.
"""

from __future__ import annotations

import ctypes
import hmac
import os
import termios
from pathlib import Path

from expunge_agent.errors import UsageError
from expunge_agent.files import explained

MOST = 1024
"""Bytes of a passphrase."""
_TOO_LONG_OR_SHORT = f"A passphrase has 1 to {MOST} bytes."
_TERMINAL = Path("/dev/tty")
_ENDS = (0x0A, 0x0D)


class Secret:
    """Up to `MOST` bytes in a place of their own."""

    def __init__(self) -> None:
        self._place = bytearray(MOST + 2)
        self._length = 0
        held = (ctypes.c_char * len(self._place)).from_buffer(self._place)  # so that it is never moved
        self._held = held
        ctypes.CDLL(None).mlock(ctypes.byref(held), len(self._place))

    @classmethod
    def first_line(cls, path: Path) -> Secret:
        """The first line of the file at `path`, a pipe or a regular file. Raises UsageError, StateError."""
        found = cls()
        with explained(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found._fill(fd)
            finally:
                os.close(fd)
        return found._cut()

    @classmethod
    def typed(cls, ask: str) -> Secret:
        """A line of the terminal, not shown, whatever bytes it sends. Raises UsageError, StateError."""
        found = cls()
        with explained(_TERMINAL):
            fd = os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                before = termios.tcgetattr(fd)
                silent = termios.tcgetattr(fd)
                silent[3] &= ~termios.ECHO
                try:
                    termios.tcsetattr(fd, termios.TCSAFLUSH, silent)
                    os.write(fd, f"{ask}: ".encode())
                    found._fill(fd, line=True)
                finally:
                    termios.tcsetattr(fd, termios.TCSAFLUSH, before)
                    os.write(fd, b"\n")
            finally:
                os.close(fd)
        return found._cut()

    def same_as(self, other: Secret) -> bool:
        """Whether both are the same bytes."""
        return hmac.compare_digest(self.view, other.view)

    @classmethod
    def from_pipe(cls, fd: int) -> Secret:
        """All that comes out of the pipe `fd`, which is closed."""
        found = cls()
        try:
            found._fill(fd)
        finally:
            os.close(fd)
        return found

    def into_pipe(self) -> int:
        """The reading end of a pipe with the secret in it and nothing more to come (it holds more than `MOST` bytes)."""
        reading, writing = os.pipe()
        try:
            os.write(writing, self.view)
        finally:
            os.close(writing)
        return reading

    @property
    def view(self) -> memoryview:
        """The bytes themselves, no copy."""
        return memoryview(self._place)[: self._length]

    def wipe(self) -> None:
        """Zero it. Again is harmless."""
        self._place[:] = bytes(len(self._place))
        self._length = 0

    def _fill(self, fd: int, *, line: bool = False) -> None:
        """Read until the place is full or the end of what comes, or of its first `line`."""
        room = memoryview(self._place)
        while self._length < len(room) and (got := os.readv(fd, [room[self._length :]])):
            self._length += got
            if line and self._place.find(b"\n", 0, self._length) >= 0:
                break

    def _cut(self) -> Secret:
        """Leave the first line only; carriage returns at its end are none of it."""
        end = self._place.find(b"\n", 0, self._length)
        length = self._length if end < 0 else end
        while length and self._place[length - 1] in _ENDS:
            length -= 1
        self._place[length:] = bytes(len(self._place) - length)
        self._length = length
        return self._checked()

    def _checked(self) -> Secret:
        if not 0 < self._length <= MOST:
            self.wipe()
            raise UsageError(_TOO_LONG_OR_SHORT, "Choose another one.")
        return self
