"""The part of a receipt about a file system's free space: what was taken of it, and what was left."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_parts import ByteRange

MaybeDigest = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z")]
"""SHA-256, lower-case hexadecimal; empty where there is none."""


SPARE_INODES = 64
"""Free inodes that were made anew and given back, for the files that take the space: they hold nothing old."""


class Taken(Frozen, frozen=True):
    """Where the filling files lay, from the kernel's own list (FIEMAP), in bytes of the device.

    ``ranges`` are the first of ``count``, in the files' order; ``digest`` is SHA-256 over all of them, a line
    ``START+LENGTH`` each. On btrfs places are those of its own address space, not of a device.
    """

    bytes: U64
    count: U64
    digest: MaybeDigest
    ranges: list[ByteRange]


class Left(Frozen, frozen=True):
    """What was free while the space was as full as it got.

    ``map``: listed by the file system's own map of its device (FS_IOC_GETFSMAP), ``ranges`` being the first of
    ``count``; ``count``: only the number of bytes is known. Reserve and root's blocks are in it.
    """

    by: Literal["map", "count"]
    bytes: U64
    count: U64
    ranges: list[ByteRange]


class Rest(Frozen, frozen=True):
    """Small pieces that were taken when nothing large was left: written with every pass, then all read back.

    ``verified``: bytes that came back as written; ``checked``: bytes read back with direct I/O, 0 where the
    profile asks for no verification.
    """

    bytes: U64
    pieces: int
    checked: U64
    verified: U64


class FreeSpace(Frozen, frozen=True):
    """How the free space of a mounted file system was filled; numbers are bytes unless they say otherwise.

    ``free_before`` as statfs(2) counts it, root's blocks included. ``filled``: bytes of the files that the
    passes wrote; None: it did not come to that. ``names``: empty or inline files made to use up free inodes
    (``inodes_left`` of them were left; −1: the file system makes them as it needs them). ``moved``: the
    filling files did not stay where they were, so that not every pass reached every place. ``cleaned_up``: nothing
    of expunge is left on it.
    """

    filesystem: Name
    options: Text
    size: U64
    free_before: U64
    reserve: U64
    reserve_why: Text
    ended: Literal["full", "reserve", "quota", "broken-off"]
    filled: U64 | None
    taken: Taken | None
    rest: Rest | None
    left: Left | None
    names: U64
    inodes_left: int
    moved: bool
    cleaned_up: bool
    cleaning: Text
    trimmed: U64 | None
    trim: Text
    not_reached: list[Text]
    """What filling free space cannot reach on this file system, whatever is left of it."""
