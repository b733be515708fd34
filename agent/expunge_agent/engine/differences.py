"""Comparing what was read: exact counts and ranges, and a sampled guess at what is there instead."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from expunge_agent.engine.buffers import KIB, aligned, same
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
    StuckBits,
    constant,
    look,
    stuck_bits,
)
from expunge_agent.engine.problems import VARIOUS, Problem, merged
from expunge_agent.engine.sources import PIECE, KeyedStream, Source

GAP = 63
"""Equal bytes that do not end a range: one foreign byte in 256 is right by chance."""

_WIDE = 4095  # the same where a piece holds too many ranges
_MOST_RUNS = 64
_CELL = 64 * KIB  # of a long range, each so many bytes are looked at for themselves
_JUDGED = 2  # ranges of a piece that are looked at closely; those between are taken for the same
_ZEROS = bytes(_WIDE + 1)
_NEARLY = 9, 10  # share of the bytes that a lie must explain before it is named


def looks_like(found: bytes, offset: int, source: Source) -> str:
    """What `found` at `offset`, where `source` was expected, seems to be."""
    return look(found, offset, source).what


@dataclass(slots=True)
class Examined:
    """One piece that differs: the number of differing bytes, the ranges that hold them.

    `gap` as in `Findings`; `shifts`: bytes of the ranges that are the stream of so many bytes further on;
    `few`: (offset, found, xor) of each differing byte where they are too few to tell anything by.
    """

    total: int
    problems: list[Problem] = field(default_factory=list)
    gap: int = 0
    shifts: Counter[int] = field(default_factory=Counter)
    few: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, start: int, length: int, what: Look) -> None:
        """One more range, ascending; joined to the last if it touches it and looks the same."""
        if what.shift:
            self.shifts[what.shift] += length
        last = self.problems[-1] if self.problems else None
        if last is not None and last.end == start and last.what == what.what:
            self.problems[-1] = Problem(last.start, last.length + length, what.what)
        else:
            self.problems.append(Problem(start, length, what.what))


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
        rule = "" if constant(found) else self._findings.stuck(found, xor, result.total, offset)
        runs, result.gap = _runs(xor, wide=bool(rule))
        if rule:
            for start, end in runs:
                result.add(offset + start, end - start, Look(rule))
        elif result.total < FEWEST:
            for start, end in runs:
                result.add(offset + start, end - start, Look(OTHER))
                result.few += [(offset + at, found[at], xor[at]) for at in range(start, end) if xor[at]]
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


def _whole_sectors(start: int, end: int) -> bool:
    """Whether a range fills whole sectors, but for bytes at its ends that may be right by chance."""
    return -start % SECTOR in (0, *range(SECTOR - 2, SECTOR)) and end % SECTOR in (0, SECTOR - 1, SECTOR - 2)


class Findings:
    """Mismatched ranges of one run: exact in number of bytes, bounded in memory.

    Beyond `most` ranges neighbours are joined, ever wider apart (``gap`` bytes): the list still covers
    every difference. Several threads may add.
    """

    def __init__(self, most: int = 1024) -> None:
        self.total = 0
        """Differing bytes."""
        self.gap = 0
        """Sound bytes between differences that may lie inside a listed range beyond `GAP`; 0: none."""
        self._most = most
        self._problems: list[Problem] = []
        self._kinds: Counter[str] = Counter()
        self._shifts: Counter[int] = Counter()
        self._stuck: list[StuckBits] = []
        self._few: list[Examined] = []
        self._strangers: dict[bytes, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def take(self, examined: Examined) -> None:
        """Add a piece that differs."""
        with self._lock:
            self.total += examined.total
            self.gap = max(self.gap, examined.gap)
            self._shifts.update(examined.shifts)
            if examined.few and len(self._few) < self._most:
                self._few.append(examined)  # named when more is known
            else:
                self._list(examined.problems)

    def add(self, total: int, problems: Iterable[Problem]) -> None:
        """`total` more differing bytes, in `problems`."""
        self.take(Examined(total, list(problems)))

    def _list(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._problems.append(problem)
            self._kinds[_kind(problem.what)] += problem.length
        if len(self._problems) > 4 * self._most:
            self._shrink()

    def _list_few(self) -> None:
        """List what had too few differences, by the name of stuck bits if those explain it."""
        few, self._few = self._few, []
        for examined in few:
            names = [
                one.in_words()
                for one in self._stuck
                if all(one.explains_byte(*byte) for byte in examined.few)
            ]
            self._list(replace(one, what=names[0]) if names else one for one in examined.problems)

    def stuck(self, found: memoryview, xor: bytes | bytearray, total: int, offset: int) -> str:
        """The name of the stuck bits that explain all that differs here, or an empty string."""
        for one in self._stuck:  # found elsewhere: here there may be too few differences to tell
            if one.explains(found, xor, total, offset):
                return one.in_words()
        new = stuck_bits(found, xor, total, offset)
        if new is None:
            return ""
        with self._lock:
            if len(self._stuck) < _MOST_STUCK and new not in self._stuck:
                self._stuck.append(new)
        return new.in_words()

    def remember(self, head: bytes, offset: int, length: int) -> None:
        """What `length` bytes of noise at `offset` begin with, to be met again if they belong further on.

        Not every keyed stream can tell from bytes where they belong; but it comes by there.
        """
        with self._lock:
            if len(self._strangers) < _MOST_STRANGERS:
                self._strangers[head] = (offset, length)

    def meet(self, expected: memoryview, offset: int) -> None:
        """Look for what was remembered at every 4 KiB of what belongs at `offset`."""
        if not self._strangers:
            return
        for at in range(0, len(expected), SAMPLE):
            head = bytes(expected[at : at + SHORT])
            if head in self._strangers:
                with self._lock:
                    place, length = self._strangers.pop(head)
                    self._shifts[offset + at - place] += length

    def ranges(self) -> list[Problem]:
        """The ranges, ascending, at most `most`."""
        with self._lock:
            self._list_few()
            self._shrink()
            return list(self._problems)

    def named(self, size: int, read: int) -> tuple[list[Problem], list[str]]:
        """The ranges, and in words what is wrong with a target of `size` bytes of which `read` were read.

        The words name a lie where one explains nine tenths of what differs ("wrapped capacity of …"),
        then every kind of difference with the bytes of its ranges, the most first.
        """
        problems = self.ranges()
        words = []
        if capacity := self._wrapped(size, read):
            note = f"wrapped capacity of {capacity} bytes"
            words.append(note)
            problems = [_with_note(one, note) for one in problems]
        elif end := self._nothing_after(problems, size, read):
            words.append(f"nothing is kept from byte {end} on")
        kinds = Counter[str]()
        for one in problems:
            kinds[_kind(one.what)] += one.length
        if VARIOUS in kinds:  # joined until the names were lost; the pieces had them
            kinds = self._kinds
        return problems, words + [f"{kind} ({length} bytes)" for kind, length in kinds.most_common(8)]

    def _wrapped(self, size: int, read: int) -> int:
        """The real capacity of a medium that wraps its addresses, 0 if it does not look like one.

        Byte o then holds what was written last to o + k × capacity: every place that is not in the last
        round is shifted by a multiple of the capacity, and everything else is right.
        """
        if not self._shifts or min(self._shifts) <= 0:
            return 0
        capacity = math.gcd(*self._shifts)
        shifted, part, of = self._shifts.total(), *_NEARLY
        explains = shifted * of >= sum(self._kinds.values()) * part
        everywhere = shifted * of * size >= (size - capacity) * read * part
        return capacity if capacity < size and explains and everywhere else 0

    def _nothing_after(self, problems: list[Problem], size: int, read: int) -> int:
        """From where on everything to the end is wrong, with nothing wrong before; 0 if it is not so."""
        if not problems or problems[-1].end != size:
            return 0
        start = problems[0].start
        part, of = _NEARLY
        wrong = sum(one.length for one in problems)
        return start if wrong * of * size >= (size - start) * read * part else 0

    def __len__(self) -> int:
        return len(self._problems) + len(self._few)

    def _shrink(self) -> None:
        self._problems = merged(self._problems, GAP)
        if self.gap:
            self._problems = merged(self._problems, self.gap, mix=True)
        while len(self._problems) > self._most:
            self.gap = max(4096, self.gap * 2)
            self._problems = merged(self._problems, self.gap, mix=True)


_SHIFTED = "shifted stream"
_MOST_STRANGERS = 65536
_MOST_STUCK = 4
_UNSURE = (NOISE, OLD, STRUCTURED)


def _with_note(problem: Problem, note: str) -> Problem:
    """The problem of a medium that wraps its addresses."""
    if problem.what == NOISE:
        return Problem(problem.start, problem.length, f"{_SHIFTED}: {note}")
    if _kind(problem.what) == _SHIFTED:
        return Problem(problem.start, problem.length, f"{problem.what}; {note}")
    return problem


def _kind(what: str) -> str:
    """`what` without the numbers of the one place."""
    return what.partition(":")[0] if what.startswith((_SHIFTED, "stuck bits:")) else what
