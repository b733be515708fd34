"""A drive that stops answering reads while the evidence is taken is given up, and nothing is closed under the read."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from expunge_agent import erasures
from expunge_agent.core.technique import Technique
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.techniques.patient import Asker
from lab import bench as b
from lab.bench import Bench, Book, Order


class Silent:
    """A target that answers reads until `after` of them, and then no more until it is let go."""

    def __init__(self, target: Any, after: int, go: threading.Event) -> None:
        self._target, self._after, self._go = target, after, go
        self.abandoned = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def read_into(self, view: memoryview, offset: int) -> None:
        self._after -= 1
        if self._after < 0:
            self._go.wait(20)
        self._target.read_into(view, offset)

    def abandon(self) -> None:
        self.abandoned = True


@pytest.mark.parametrize(("opening", "after"), [(0, 0), (0, 40), (1, 0), (1, 130)])
def test_silence_ends_the_order(tmp_path: Path, opening: int, after: int) -> None:
    bench = Bench(tmp_path, Technique.NVME_SANITIZE_BLOCK, b.NVME)
    order, book, go = Order(bench), Book(), threading.Event()
    made: list[Silent] = []
    real = bench.target

    def target(size: int | None = None) -> Any:
        made.append(Silent(real(size), after if len(made) == opening else 1 << 30, go))
        return made[-1]

    bench.target = target  # type: ignore[assignment,method-assign]
    try:
        with mock.patch.object(erasures, "Asker", lambda patience: Asker(1.0)):
            verdict = order.carry_out(book)
        assert made[opening].abandoned
        assert verdict.level is Level.NONE
        assert verdict.outcome is (Outcome.UNKNOWN if opening else Outcome.FAILED)
        assert "did not answer within 1 s" in verdict.failure
        assert ("erase-sending" in book.kinds) is bool(opening)
    finally:
        go.set()
        bench.close()
