"""What is written down of a drive's cells, whatever comes between."""

from __future__ import annotations

import errno
import hashlib
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from expunge_agent.core.erasure_progress import ErasureProgress, Placed
from expunge_agent.core.plan import TargetPlan, VerificationPlan
from expunge_agent.core.technique import Technique
from expunge_agent.engine import canaries
from expunge_agent.engine.buffers import aligned
from expunge_agent.engine.problems import Stalled
from expunge_agent.engine.sources import KeyedStream
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import CellsRead
from expunge_agent.techniques import cell_evidence, erasing

KEY = bytes(range(32))
SIZE = 16 << 20
OLD = b"old data" * 512


class Memory:
    """Cells in memory; ``bad`` offsets cannot be read, and with ``error`` nothing can."""

    size, block, direct, memory, reads_medium, io_mode = SIZE, 512, True, False, True, "memory"

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.bad: set[int] = set()
        self.error: Exception | None = None
        self.from_cells = 0

    def read_into(self, view: memoryview, offset: int) -> None:
        if self.error is not None:
            raise self.error
        if any(offset <= one < offset + len(view) for one in self.bad):
            raise OSError(errno.EIO, "unrecovered read error (281h)")
        self.from_cells += len(view)
        view[:] = self.data[offset : offset + len(view)]

    def check(self) -> None:
        """All there."""

    def answers(self) -> bool:
        return self.error is None


class Kept:
    """A recorder that keeps what it is told of the cells."""

    def __init__(self) -> None:
        self.told: list[CellsRead] = []

    def cells(self, read: CellsRead) -> None:
        self.told.append(read)

    def progress(self, *what: object) -> None:
        """Nobody looks."""


def looked(cells: Memory, *, kind: str = "full", stop: bool = False) -> CellsRead:
    plan = TargetPlan(
        path="/dev/nvme9n1",
        technique=Technique.NVME_SANITIZE_BLOCK,
        earns=Level.PURGE,
        verification=VerificationPlan(kind=kind),  # type: ignore[arg-type]
        key=KEY.hex(),
    )
    place = canaries.sampled_places(SIZE, KEY)[0]
    samples = [(U64(place), hashlib.sha256(OLD).hexdigest())]
    so_far = ErasureProgress(placed=Placed(failed=[], sampled=1, samples=samples, size=U64(SIZE)))
    recorder: Any = Kept()
    watch = erasing.Watch(stop=threading.Event(), now=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    if stop:
        watch.stop.set()
    cell_evidence.look(cells, plan, so_far, recorder, watch)  # type: ignore[arg-type]
    (told,) = recorder.told
    assert isinstance(told, CellsRead)
    return told


def test_erased_cells() -> None:
    told = looked(Memory())
    assert told.looked_for == len(canaries.places(SIZE, KEY))
    assert (told.found, told.unreadable, told.telling, told.kept) == (0, 0, 1, 0)
    assert (told.bytes_read, told.zeros, told.other, told.detail) == (SIZE, SIZE, 0, "")
    assert told.from_cells > SIZE  # the survey, and the single looks


def test_what_is_still_there_is_found() -> None:
    cells, made = Memory(), aligned(canaries.BLOCK)
    first = canaries.places(SIZE, KEY)[0]
    KeyedStream(canaries.CIPHER, KEY).fill(made, first)
    cells.data[first : first + 512] = made[:512]
    place = canaries.sampled_places(SIZE, KEY)[0]
    cells.data[place : place + len(OLD)] = OLD
    told = looked(cells)
    assert (told.found, told.kept) == (1, 1)
    assert told.other > 0


def test_what_cannot_be_read_is_no_erased_cell() -> None:
    cells = Memory()
    cells.bad = {canaries.places(SIZE, KEY)[3]}
    told = looked(cells)
    assert (told.unreadable, told.unreadable_bytes, told.detail) == (1, 512, "")
    assert told.bytes_read == SIZE - 512


def test_a_look_that_was_stopped_says_so() -> None:
    assert looked(Memory(), stop=True).detail == "the look at the cells was stopped"


def test_without_a_read_back_only_canaries_are_looked_for() -> None:
    told = looked(Memory(), kind="none")
    assert (told.bytes_read, told.detail) == (0, "")
    assert told.looked_for


def test_a_drive_that_goes_is_told_and_silence_comes_through() -> None:
    cells = Memory()
    cells.error = OSError(errno.ENODEV, "gone")
    assert "broke off" in looked(cells).detail
    cells.error = Stalled("read: nothing")
    with pytest.raises(Stalled):
        looked(cells)
