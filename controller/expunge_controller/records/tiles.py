"""The static form of a log that anybody may copy (C2SP tlog-tiles): paths, tiles and entry bundles. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from expunge_agent.errors import DocumentError
from expunge_controller.records import merkle

WIDTH = 256
HEIGHT = 8
CHECKPOINT = "checkpoint"


class Tile(NamedTuple):
    """``level`` −1 is a bundle of entries; ``width`` hashes or entries, `WIDTH` when it is full."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Its path under the log's prefix: ``tile/<L>/<N>[.p/<W>]``."""
        level = "entries" if self.level < 0 else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{_number_path(self.number)}{partial}"


def tiles_of(size: int, since: int = 0) -> Iterator[Tile]:
    """The tiles and entry bundles of a tree of `size` leaves that one of `since` leaves had not."""
    for level in (-1, *range(HEIGHT)):
        shift = HEIGHT * max(level, 0)
        now, before = size >> shift, since >> shift
        if not now:
            return
        for number in range(before // WIDTH, (now + WIDTH - 1) // WIDTH):
            width = min(WIDTH, now - number * WIDTH)
            if number * WIDTH + width > before:
                yield Tile(level, number, width)


def tile_bytes(tile: Tile, nodes: merkle.Nodes) -> bytes:
    """The concatenated hashes of a tile."""
    first = tile.number * WIDTH
    return b"".join(nodes(HEIGHT * tile.level, first + place) for place in range(tile.width))


def bundle_bytes(entries: Sequence[bytes]) -> bytes:
    """An entry bundle: each entry behind its length, 16 bits big-endian."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def bundled(data: bytes) -> list[bytes]:
    """The entries of an entry bundle. Raises DocumentError."""
    entries = []
    while data:
        length = struct.unpack(">H", data[:2])[0] if len(data) >= 2 else len(data)
        entry, data = data[2 : 2 + length], data[2 + length :]
        if len(entry) != length:
            raise DocumentError("A bundle of entries ends too early.", "Get the log again from its source.")
        entries.append(entry)
    return entries


def nodes_from(read: Callable[[Tile], bytes], size: int) -> merkle.Nodes:
    """The complete subtrees of a tree of `size` leaves, from its tiles.

    `read` gives a tile's bytes; raises DocumentError where they have not the tile's length.
    """

    def nodes(level: int, number: int) -> bytes:
        over = level % HEIGHT
        first = number << over
        hashes = list(_hashes(read, _tile_with(level // HEIGHT, first, size)))
        place = first % WIDTH
        row = hashes[place : place + (1 << over)]
        while len(row) > 1:
            row = [merkle.node_hash(*row[at : at + 2]) for at in range(0, len(row), 2)]
        return row[0]

    return nodes


def _tile_with(level: int, place: int, size: int) -> Tile:
    number = place // WIDTH
    return Tile(level, number, min(WIDTH, (size >> HEIGHT * level) - number * WIDTH))


def _hashes(read: Callable[[Tile], bytes], tile: Tile) -> Iterator[bytes]:
    data = read(tile)
    if len(data) != tile.width * merkle.HASH_SIZE:
        raise DocumentError(f"{tile.path} has not its length.", "Get the log again from its source.")
    for at in range(0, len(data), merkle.HASH_SIZE):
        yield data[at : at + merkle.HASH_SIZE]


def _number_path(number: int) -> str:
    parts = [f"{number % 1000:03}"]
    while number := number // 1000:
        parts.append(f"x{number % 1000:03}")
    return "/".join(reversed(parts))
