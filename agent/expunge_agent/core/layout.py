"""Where a file's bytes lie, and whether an overwrite went to the same place."""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.protocol.base import Frozen, Text
from expunge_agent.protocol.canonical import U64

MOST_EXTENTS = 20_000
"""Extents of one file that are followed; the journal keeps them."""


class Layout(Frozen, frozen=True):
    """``extents``: (first byte, bytes) on the device under the file system, in the file's order.

    ``doubts``: why an overwrite of the file may not reach what it holds now; then the extents do not count.
    """

    extents: list[tuple[U64, U64]]
    doubts: list[Text] = []


def left_behind(before: Layout, after: Layout) -> int:
    """Bytes that belonged to the file in `before` and no longer do in `after`: no write to the file reaches them."""
    kept = _merged(after.extents)
    lost, at = 0, 0
    for start, end in _merged(before.extents):
        while at < len(kept) and kept[at][1] <= start:
            at += 1
        place, here = start, at
        while place < end and here < len(kept) and kept[here][0] < end:
            lost += max(kept[here][0] - place, 0)
            place = max(place, min(kept[here][1], end))
            here += 1
        lost += max(end - place, 0)
    return lost


def _merged(extents: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """As (first byte, end), ascending, none touching the next."""
    found: list[tuple[int, int]] = []
    for start, length in sorted(extents):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], start + length))
        else:
            found.append((int(start), int(start + length)))
    return found
