"""Where the kernel's own accounts are read: /sys, /proc, /dev, or a recording of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Roots:
    """The folders to look in. A recorded tree takes the place of the real ones in tests."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    etc: Path = Path("/etc")
    run: Path = Path("/run")

    @cached_property
    def live(self) -> bool:
        """Whether this is the machine itself: only then may device nodes be asked."""
        return self.sys == Path("/sys") and self.proc == Path("/proc") and self.dev == Path("/dev")


LIVE = Roots()


def read_bytes(path: str | Path) -> bytes:
    """The attribute's bytes; empty when it is missing, unreadable, or its device has just gone.

    In four system calls rather than nine: a look reads hundreds of attributes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    except OSError:
        return b""
    finally:
        os.close(fd)


def read_text(path: Path) -> str:
    """The attribute as one clean line: printable, without NUL and outer spaces; empty when missing.

    What is not ASCII or not printable becomes ``\\xNN``, the same way every time: a garbled serial
    number must stay comparable.
    """
    return clean(read_bytes(path))


def read_int(path: Path, default: int = -1) -> int:
    """The attribute as a decimal number, `default` when it is missing or none."""
    try:
        return int(read_bytes(path).strip() or b"x")
    except ValueError:
        return default


def clean(raw: bytes) -> str:
    """`raw` as text that may stand in a document."""
    text = raw.rstrip(b"\0 \n\t").lstrip(b"\0 \n\t").decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)[:1000]


def names(folder: Path) -> list[str]:
    """The entries of `folder`, sorted; none when it is missing or unreadable."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208 - names only, one call
    except OSError:
        return []


def link_name(path: Path) -> str:
    """The last component of what the link at `path` points to; empty when there is no link."""
    try:
        return path.readlink().name
    except OSError:
        return ""
