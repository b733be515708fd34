"""What a difference looks like: exact counts, ranges, and a guess at what is there instead."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Iterable

from expunge_agent.engine.problems import Problem, merged
from expunge_agent.engine.sources import Source

GAP = 63
"""Equal bytes that do not end a range: one foreign byte in 256 is right by chance."""

_RUN = re.compile(rb"[^\0]++(?:\0{1,%d}+[^\0]++)*+" % GAP)
_SHORT = 16
_SAMPLE = 4096


def examine(difference: memoryview, offset: int, source: Source) -> tuple[int, list[Problem]]:
    """The number of differing bytes, and where they are, from found XOR expected at `offset`."""
    xor = bytes(difference)
    expected = bytearray(len(xor))
    source.fill(memoryview(expected), offset)
    found = (int.from_bytes(xor, "little") ^ int.from_bytes(expected, "little")).to_bytes(len(xor), "little")
    problems = [
        Problem(
            offset + run.start(),
            run.end() - run.start(),
            looks_like(found[run.start() : run.end()], offset + run.start(), source),
        )
        for run in _RUN.finditer(xor)
    ]
    return len(xor) - xor.count(0), problems


def looks_like(found: bytes, offset: int, source: Source) -> str:
    """What `found` at `offset`, where `source` was expected, seems to be."""
    if len(found) >= _SHORT:
        if found.count(found[0]) == len(found):
            return {0: "zeros", 0xFF: "0xFF"}.get(found[0], f"byte 0x{found[0]:02x} throughout")
        place = source.recognise(found[: 4 * _SHORT], offset)
        if place is not None:
            return f"shifted stream: belongs {place - offset:+d} bytes away"
    if len(found) < _SAMPLE // 4:
        return "other data"
    sample = found[:_SAMPLE]
    return "structured data" if len(zlib.compress(sample, 1)) < len(sample) * 15 // 16 else "noise"


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
        self._lock = threading.Lock()

    def add(self, total: int, problems: Iterable[Problem]) -> None:
        """`total` more differing bytes, in `problems`."""
        with self._lock:
            self.total += total
            self._problems.extend(problems)
            if len(self._problems) > 4 * self._most:
                self._shrink()

    def ranges(self) -> list[Problem]:
        """The ranges, ascending, at most `most`."""
        with self._lock:
            self._shrink()
            return list(self._problems)

    def __len__(self) -> int:
        return len(self._problems)

    def _shrink(self) -> None:
        self._problems = merged(self._problems, GAP)
        if self.gap:
            self._problems = merged(self._problems, self.gap, mix=True)
        while len(self._problems) > self._most:
            self.gap = max(4096, self.gap * 2)
            self._problems = merged(self._problems, self.gap, mix=True)
