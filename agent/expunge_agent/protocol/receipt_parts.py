"""Small parts that several blocks of a receipt are made of."""

from __future__ import annotations

from expunge_agent.protocol.base import Frozen, Text
from expunge_agent.protocol.canonical import U64


class ByteRange(Frozen, frozen=True):
    """Bytes [start, start + length) of the target."""

    start: U64
    length: U64


class RangeProblem(Frozen, frozen=True):
    """A range that could not be written or read, or did not hold what it should, and how it showed."""

    range: ByteRange
    what: Text
