"""An erase in the background: what part of the medium it has gone over after so much time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lab.drives.spans import Spans
from lab.drives.store import Store

GRAIN = 4096


@dataclass
class Erasure:
    """Goes over `extents` ([start, length] in bytes), once for each pattern, in `seconds` of power-on time.

    `action`: "block" (leaves zeros), "crypto" (leaves noise of the new `key`), "overwrite" (leaves the
    last of `patterns`), "none" (touches nothing). Everything in it can be saved and loaded, so it goes on
    after a power cut where it was; time without power does not count.
    """

    action: str
    extents: list[list[int]]
    seconds: float
    key: str = ""
    """Hexadecimal."""
    patterns: list[str] = field(default_factory=lambda: [""])
    """Hexadecimal, one a pass; without meaning but for "overwrite"."""
    spared: list[list[int]] = field(default_factory=list)
    """Ranges [start, end) that are left as they are, although they should not be."""
    elapsed: float = 0.0
    done: int = 0
    """Bytes of all passes gone over."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def total(self) -> int:
        """Bytes of all passes."""
        return sum(length for _, length in self.extents) * len(self.patterns)

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.done / self.total if self.total else 1.0

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def passes_done(self) -> int:
        return self.done * len(self.patterns) // self.total if self.total else len(self.patterns)

    def advance(self, store: Store, seconds: float, *, limit: float = 1.0) -> None:
        """`seconds` more went by; work up to where that leads, but not beyond the part `limit` of it all."""
        self.elapsed = min(self.elapsed + seconds, limit * self.seconds)
        part = self.elapsed / self.seconds if self.seconds > 0 else 1.0
        goal = int(self.total * min(1.0, part, limit))
        if goal < self.total:
            goal -= goal % GRAIN
        while self.done < goal:
            start, length, number = self._place(self.done)
            length = min(length, goal - self.done)
            self._work(store, start, length, number)
            self.done += length

    def unmap(self, store: Store) -> None:
        """Deallocate everything it went over (but what it spared)."""
        for start, length in self.extents:
            for a, b in self._touched(start, length):
                store.unmap(a, b - a)

    def map(self, store: Store) -> None:
        """Let the host see what it left."""
        for start, length in self.extents:
            for a, b in self._touched(start, length):
                store.unmapped.remove(a, b)

    def _place(self, done: int) -> tuple[int, int, int]:
        """Where the byte number `done` is: its address, how much follows in one piece, in which pass."""
        number, rest = divmod(done, sum(length for _, length in self.extents))
        for start, length in self.extents:
            if rest < length:
                return start + rest, length - rest, number
            rest -= length
        raise AssertionError("beyond the last extent")

    def _touched(self, start: int, length: int) -> list[tuple[int, int]]:
        left = Spans([[start, start + length]])
        for a, b in self.spared:
            left.remove(a, b)
        return [(a, b) for a, b in left.as_list()]

    def _work(self, store: Store, start: int, length: int, number: int) -> None:
        for a, b in self._touched(start, length):
            if self.action == "block":
                store.fill(a, b - a, b"\0")
            elif self.action == "crypto":
                store.scramble(a, b - a, bytes.fromhex(self.key))
            elif self.action == "overwrite":
                store.fill(a, b - a, bytes.fromhex(self.patterns[number]))
