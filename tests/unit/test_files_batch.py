"""One batch of files: what it keeps in memory."""

from __future__ import annotations

import tracemalloc
from itertools import islice

from expunge_agent.core.file_reach import Part
from expunge_agent.engine.file_pieces import windows, within
from expunge_agent.engine.ranges import Range
from expunge_agent.techniques.files_hold import Held
from expunge_agent.techniques.files_list import Item
from expunge_agent.techniques.files_passes import Passes, Tools

TIB = 1 << 40


def test_a_file_of_terabytes_is_not_cut_up_beforehand() -> None:
    size = 64 * TIB
    item = Item(0, b"big", 7, size, room=size, length=size, batch=0, parts=[Part(0, 0, size, 0)])
    tools = Tools(None, [], lambda _: None)  # type: ignore[arg-type]
    passes = Passes(None, tools, 0, [Held(item, fd=3)])  # type: ignore[arg-type]
    tracemalloc.start()
    try:
        first = next(windows(passes.pieces()))
        far = list(islice(within(passes.pieces(), [Range(100 << 20, 4096)], 0), 1))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert sum(piece.length for piece in first) == 8 << 20
    assert [(piece.offset, piece.length) for piece in far] == [(100 << 20, 4096)]
