"""Reading numbers out of NVMe data."""

from __future__ import annotations

from expunge_agent.commands.port import CommandError


class BadAnswer(CommandError):  # noqa: N818 - named like the other ends of a command
    """The controller refused the data asked for, or it is shorter than its structure."""


def enough(data: bytes, size: int, what: str) -> bytes:
    """`data` as it is, if it is at least `size` bytes long. Raises BadAnswer."""
    if len(data) < size:
        raise BadAnswer(f"{what}: {len(data)} bytes came, {size} belong there")
    return data


def number(data: bytes, at: int, size: int) -> int:
    """The little-endian number of `size` bytes at `at` (Base 2.0 §1.6)."""
    return int.from_bytes(data[at : at + size], "little")
