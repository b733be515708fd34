"""What a verification found, gathered from all workers: exact totals, ranges bounded in number, lies named."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from expunge_agent.engine.likeness import NOISE, SAMPLE, SHORT, Look, StuckBits, stuck_bits
from expunge_agent.engine.problems import VARIOUS, Problem, merged

GAP = 63
"""Equal bytes that do not end a range: one foreign byte in 256 is right by chance."""


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
        self._joined = 0
        self._most = most
        self._problems: list[Problem] = []
        self._kinds: Counter[str] = Counter()
        self._shifts: Counter[int] = Counter()
        self._stuck: list[StuckBits] = []
        self._few: list[Examined] = []
        self._strangers: dict[bytes, tuple[int, int]] = {}
        self._met = False
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
                    place, length = self._strangers.pop(head, (offset + at, 0))
                    self._shifts[offset + at - place] += length
                    self._met = True

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
            problems = [_with_note(one, note, self._met) for one in problems]
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
        much = (size - start) * _WORTH_A_NAME >= size  # less may be no more than a bad end
        return start if much and wrong * of * size >= (size - start) * read * part else 0

    def __len__(self) -> int:
        return len(self._problems) + len(self._few)

    def _shrink(self) -> None:
        self._problems = merged(self._problems, GAP)
        if self._joined:
            self._problems = merged(self._problems, self._joined, mix=True)
        while len(self._problems) > self._most:
            self._joined = max(4096, self._joined * 2)
            self._problems = merged(self._problems, self._joined, mix=True)
        self.gap = max(self.gap, self._joined)


_SHIFTED = "shifted stream"
_NEARLY = 9, 10  # share of the bytes that a lie must explain before it is named
_WORTH_A_NAME = 64
_MOST_STRANGERS = 65536
_MOST_STUCK = 4


def _with_note(problem: Problem, note: str, noise: bool) -> Problem:
    """The problem of a medium that wraps its addresses; `noise`: what seemed noise is the stream too."""
    if problem.what == NOISE and noise:
        return replace(problem, what=f"{_SHIFTED}: {note}")
    if _kind(problem.what) == _SHIFTED:
        return replace(problem, what=f"{problem.what}; {note}")
    return problem


def _kind(what: str) -> str:
    """`what` without the numbers of the one place."""
    return what.partition(":")[0] if what.startswith((_SHIFTED, "stuck bits:")) else what
