"""Several files, one after the other, as one target: a file system's files may be smaller than its space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from expunge_agent.engine.target import Target


class Joined(Target):
    """`parts` in this order; each but the last has a multiple of its block in bytes. Closes them."""

    def __init__(self, parts: Sequence[Target]) -> None:
        """Raises ValueError for none at all, or parts that do not fit together."""
        if not parts:
            raise ValueError("a joined target has at least one part")
        self._parts = tuple(parts)
        self.block = max(part.block for part in parts)
        self.size = sum(part.size for part in parts)
        self.writable = all(part.writable for part in parts)
        self.memory = all(part.memory for part in parts)
        if any(part.size % self.block for part in parts[:-1]):
            raise ValueError("a part that another one follows ends within a block")

    @property
    def direct(self) -> bool:
        """Whether reads and writes of all parts go past the page cache."""
        return all(part.direct for part in self._parts)

    @property
    def reads_medium(self) -> bool:
        """As `Target.reads_medium`, of all parts."""
        return all(part.reads_medium for part in self._parts)

    @property
    def io_mode(self) -> str:
        """How bytes travel; the parts may differ."""
        return "; ".join(dict.fromkeys(part.io_mode for part in self._parts))

    def write(self, view: memoryview, offset: int) -> None:
        """As `Target.write`, across borders of parts."""
        for part, at, first, last in self._pieces(offset, len(view)):
            part.write(view[first:last], at)

    def read_into(self, view: memoryview, offset: int) -> None:
        """As `Target.read_into`, across borders of parts."""
        for part, at, first, last in self._pieces(offset, len(view)):
            part.read_into(view[first:last], at)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[Target, int, int, int]]:
        """(part, offset in it, first and last place in the buffer) for bytes [offset, offset + length)."""
        if offset < 0 or offset + length > self.size:
            raise ValueError(f"bytes {offset} to {offset + length} are outside the target's {self.size}")
        begin = 0
        for part in self._parts:
            first, last = max(offset, begin), min(offset + length, begin + part.size)
            if first < last:
                yield part, first - begin, first - offset, last - offset
            begin += part.size

    def flush(self) -> None:
        """Bring all parts to the medium. Raises OSError."""
        for part in self._parts:
            part.flush()

    def forget_cache(self) -> int | None:
        """Empty the page cache of all parts; the pages that stayed (None: cannot be told)."""
        counts = [part.forget_cache() for part in self._parts]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def current_size(self) -> int:
        """The size in bytes as the system sees it now. Raises OSError."""
        return sum(part.current_size() for part in self._parts)

    def check(self) -> None:
        """Raise TargetGone or TargetShrank if a part is no longer all there."""
        for part in self._parts:
            part.check()

    def answers(self) -> bool:
        """Whether any part can be read."""
        return any(part.answers() for part in self._parts)

    def abandon(self) -> None:
        """As `Target.abandon`, all parts."""
        for part in self._parts:
            part.abandon()

    def close(self) -> None:
        """Close all parts; safe to call twice."""
        for part in self._parts:
            part.close()
