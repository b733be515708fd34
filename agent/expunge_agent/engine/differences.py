"""Comparing what was read: exact counts and ranges, and a sampled guess at what is there instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from expunge_agent.engine.buffers import KIB, aligned, same
from expunge_agent.engine.findings import GAP, Examined, Findings
from expunge_agent.engine.likeness import (
    FEWEST,
    NOISE,
    OLD,
    OTHER,
    SAMPLE,
    SECTOR,
    SHORT,
    STRUCTURED,
    UNSURE,
    Look,
    constant,
    look,
)
from expunge_agent.engine.problems import Problem
from expunge_agent.engine.sources import PIECE, KeyedStream, Source

_WIDE = 4095  # the same where a piece holds too many ranges
_MOST_RUNS = 64
_CELL = 64 * KIB  # of a long range, each so many bytes are looked at for themselves
_FEW = 64  # differing bytes of a piece
_JUDGED = 2  # ranges of a piece that are looked at closely; those between are taken for the same
_ZEROS = bytes(_WIDE + 1)
_UNSURE = (NOISE, OLD, STRUCTURED)


class Comparison:
    """Compares with a source, for one worker: its own clones, one small buffer that stays cached."""

    def __init__(self, source: Source, findings: Findings, earlier: Sequence[Source] = ()) -> None:
        """`earlier`: what passes before wrote, newest first, to recognise old data by."""
        self._source = source.for_worker()
        self._earlier = [one.for_worker() for one in earlier]
        self._findings = findings
        # Other streams cannot tell from bytes where they belong.
        self._tells = not isinstance(source, KeyedStream) or source.cipher == "aes-256-ctr"
        self._made = aligned(PIECE)
        self._xor = bytearray(PIECE)

    def check(self, view: memoryview, offset: int) -> None:
        """Compare `view` (writable), read at `offset`, and add what differs to the findings."""
        at = 0
        while at < len(view):
            length = min(PIECE, len(view) - at)
            found, expected = view[at : at + length], self._expected(offset + at, length)
            self._findings.meet(expected, offset + at)
            if not same(found, expected):
                examined = self._examine(found, expected, offset + at)
                self._findings.take(examined)
                if not self._tells and Problem(offset + at, length, NOISE) in examined.problems[:1]:
                    self._findings.remember(bytes(found[:SHORT]), offset + at, length)
            at += length

    def _expected(self, offset: int, length: int) -> memoryview:
        ready = self._source.ready(offset, length)
        if ready is not None:
            return ready
        made = self._made[:length]
        self._source.fill(made, offset)
        return made

    def _examine(self, found: memoryview, expected: memoryview, offset: int) -> Examined:
        xor = self._difference(found, expected, offset)
        result = Examined(len(xor) - xor.count(0))
        plain = _plain(found)
        rule = "" if plain else self._findings.stuck(found, xor, result.total, offset)
        runs, result.gap = _runs(xor, wide=bool(rule))
        if rule:
            for start, end in runs:
                result.add(offset + start, end - start, Look(rule))
        elif result.total < FEWEST or _scattered(runs, result.total):
            for start, end in runs:
                result.add(offset + start, end - start, Look(OTHER))
                result.few += [(offset + at, found[at], xor[at]) for at in range(start, end) if xor[at]]
        elif plain:  # the same everywhere, so looked at once
            seen = self._look(found, offset, 0, len(found), _whole_sectors(offset, offset + len(found)))
            for start, end in runs:
                result.add(offset + start, end - start, seen)
        else:
            self._judge(found, offset, runs, result)
        return result

    def _judge(self, found: memoryview, offset: int, runs: list[tuple[int, int]], result: Examined) -> None:
        """Name what is in `runs`, closely for a few of them, whose names the next ones share."""
        every = -(-len(runs) // _JUDGED)
        latest: Look | None = None
        for number, (start, end) in enumerate(runs):
            sectors = _whole_sectors(offset + start, offset + end)
            cells = list(_cells(start, end))
            alike = True
            if latest is None or number % every == 0:
                latest = self._look(found, offset, *cells[0], sectors)
                final = self._look(found, offset, *cells[-1], sectors, quick=True)
                alike = final == (UNSURE if latest.what in _UNSURE else latest)
            for first, last in cells:
                seen = latest if alike and not _plain(found[first:last]) else None
                result.add(
                    offset + first, last - first, seen or self._look(found, offset, first, last, sectors)
                )

    def _look(
        self, found: memoryview, offset: int, first: int, last: int, sectors: bool, *, quick: bool = False
    ) -> Look:
        """What is in found[first:last]. Unless it is all the same, its first bytes are not."""
        short = min(last, first + SAMPLE)
        if _plain(found[first:last]) or not _plain(found[first:short]):
            last = short
        return look(
            bytes(found[first:last]),
            offset + first,
            self._source,
            sectors=sectors,
            earlier=self._earlier,
            quick=quick,
        )

    def _difference(self, found: memoryview, expected: memoryview, offset: int) -> bytes | bytearray:
        """Found XOR expected, by the quickest way there is for these bytes."""
        if constant(found):
            return _against(bytes(expected), found[0])
        if constant(expected):
            return _against(bytes(found), expected[0])
        if isinstance(self._source, KeyedStream) and self._source.cipher != "aes-256-xts":
            return self._decrypted(self._source, found, offset)
        mixed = int.from_bytes(found, "little") ^ int.from_bytes(expected, "little")
        return mixed.to_bytes(len(found), "little")

    def _decrypted(self, source: KeyedStream, found: memoryview, offset: int) -> bytes | bytearray:
        """XOR with a stream cipher's key stream is decryption, which runs without Python's lock."""
        at, out = 0, memoryview(self._xor)[: len(found)]
        while at < len(found):
            part = found[at : at + PIECE - (offset + at) % PIECE]
            context, skip = source._seek(offset + at)
            if skip:
                context.update(bytes(skip))
            context.update_into(part, out[at : at + len(part)])
            at += len(part)
        return self._xor if len(found) == PIECE else bytes(out)


def _plain(cell: memoryview) -> bool:
    return len(cell) >= SHORT and constant(cell)


def _against(data: bytes, value: int) -> bytes:
    """`data`, each byte XOR `value`."""
    return data.translate(bytes(value ^ byte for byte in range(256))) if value else data


def _runs(xor: bytes | bytearray, *, wide: bool) -> tuple[list[tuple[int, int]], int]:
    """Where `xor` is not zero, as (start, end), and the `gap` beyond `GAP` that was joined."""
    if not wide:
        runs = list(islice(_spans(xor, GAP), _MOST_RUNS + 1))
        if len(runs) <= _MOST_RUNS:
            return runs, 0
    return list(_spans(xor, _WIDE)), _WIDE


def _spans(xor: bytes | bytearray, gap: int) -> Iterator[tuple[int, int]]:
    """(start, end) of what is not zero, up to `gap` zeros inside counting to it."""
    border = _ZEROS[: gap + 1]
    start = _skip_zeros(xor, 0)
    while start < len(xor):
        end = xor.find(border, start)
        if end < 0:
            tail = xor[-_WIDE:].rstrip(b"\0")
            yield start, max(0, len(xor) - _WIDE) + len(tail) if tail else len(xor.rstrip(b"\0"))
            return
        yield start, end
        start = _skip_zeros(xor, end + len(border))


def _skip_zeros(xor: bytes | bytearray, start: int) -> int:
    """The next place from `start` on that is not zero, in strides that get shorter."""
    for stride in (_WIDE + 1, 512, GAP + 1):
        while xor.startswith(_ZEROS[:stride], start) and start + stride <= len(xor):
            start += stride
    rest = xor[start : start + GAP + 1]
    return start + len(rest) - len(rest.lstrip(b"\0"))


def _cells(start: int, end: int) -> Iterable[tuple[int, int]]:
    return ((first, min(first + _CELL, end)) for first in range(start, end, _CELL))


def _scattered(runs: list[tuple[int, int]], total: int) -> bool:
    """Whether too little differs, here and there, to be judged by itself: what is found elsewhere may explain it."""
    return total < _FEW and all(end - start < SHORT for start, end in runs)


def _whole_sectors(start: int, end: int) -> bool:
    """Whether a range fills whole sectors, but for bytes at its ends that may be right by chance."""
    return -start % SECTOR in (0, *range(SECTOR - 2, SECTOR)) and end % SECTOR in (0, SECTOR - 1, SECTOR - 2)
