"""The passes over one batch of files: written, flushed together, looked at for changes, read back. Every file stays open."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from expunge_agent.core.files_progress import BatchWritten, Checkpoint
from expunge_agent.engine.buffers import MIB
from expunge_agent.engine.file_pieces import (
    Checked,
    Piece,
    PieceEngine,
    cut,
    uncached,
    windows,
    within,
    write_direct,
)
from expunge_agent.engine.sources import Source
from expunge_agent.engine.syncing import sync_filesystem
from expunge_agent.protocol.canonical import U64
from expunge_agent.techniques.files_hold import Held, has_size_of_pass, settle, stamp_of, trouble_of
from expunge_agent.techniques.files_work import FilesWork
from expunge_agent.techniques.read_back import places

LARGE = 4 * MIB
"""Files from here on are written past the page cache."""
MILLISECOND = 1_000_000


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The run was told to stop within a batch."""


class Tools(NamedTuple):
    """What all batches are written with, a source for each pass. `tell` is called with bytes that were moved."""

    engine: PieceEngine
    sources: Sequence[Source]
    tell: Callable[[int], None]


class Passes:
    """All passes over what is `held` of batch `number`, one file at least."""

    def __init__(self, work: FilesWork, tools: Tools, number: int, held: Sequence[Held]) -> None:
        self._work = work
        self._engine, self._sources, self._tell = tools
        self._number = number
        self._held = held
        self._took = [0] * len(tools.sources)
        self._checked = Checked()
        self._verify_ms = 0
        self._direct = True
        self._from_medium = True

    def run(self) -> None:
        """Take every pass that is still missing. Raises Stopped, and OSError where the file system gives out."""
        plan, checkpoint = self._work.plan, self._work.so_far.checkpoint
        first, durable = (0, 0)
        if checkpoint is not None and checkpoint.batch == self._number and self._holds(checkpoint):
            first, durable = checkpoint.index, int(checkpoint.durable)
        for held in self._held:
            if held.fd >= 0 and held.item.length >= LARGE and not self._work.ground.memory:
                write_direct(held.fd, True)
        for index in range(len(plan.passes)):
            if index >= first:
                self._pass(index, durable if index == first else 0)
                self._stamp()
            if index in plan.verify_after and index >= first:
                self._check(index)
        for held in self._held:
            if held.fd >= 0 and not held.is_out:
                settle(held)

    def as_written(self) -> BatchWritten:
        """What came of them; all of it is durable."""
        whole = sum(
            end - start
            for held in self._held
            if held.fd >= 0 and not held.is_out
            for start, end in held.item.ranges()
        )
        return BatchWritten(
            batch=self._number,
            written=[U64(whole)] * len(self._sources),
            took_ms=[U64(one) for one in self._took],
            troubles=[trouble_of(held) for held in self._held if held.is_out],
            expected=U64(self._checked.expected),
            read=U64(self._checked.read),
            mismatched=U64(sum(self._checked.wrong.values())),
            unreadable=U64(self._checked.unreadable),
            verify_ms=U64(self._verify_ms),
            io_mode=self._io_mode() if self._checked.expected else "",
            reads_medium=self._from_medium,
        )

    @property
    def _base(self) -> int:
        """Where the batch begins in the stream, whichever of its files are out."""
        return self._held[0].item.at

    def pieces(self) -> Iterator[Piece]:
        """All that is to be written; one by one, as a large file has millions."""
        return (
            piece
            for index, held in enumerate(self._held)
            if held.fd >= 0 and not held.is_out
            for piece in cut(held.item.ranges(), index, held.fd, held.item.at)
        )

    @property
    def _end_of_pieces(self) -> int:
        """Where the last of them ends in the stream; the batch's begin where there is none."""
        ends = (held.item.at + held.item.length for held in self._held if held.fd >= 0 and not held.is_out)
        return max(ends, default=self._base)

    def _stamp(self) -> None:
        """What each is like before it is read back: whatever is changed from now on shows."""
        for held in self._held:
            if held.fd >= 0:
                held.stamp = stamp_of(held.fd)

    def _holds(self, checkpoint: Checkpoint) -> bool:
        """Whether what was durable still is: a file that was given its size back lost the end of its last block, and
        another program may have written to it since."""
        durable = self._base + int(checkpoint.durable)
        if not all(
            held.fd >= 0 and has_size_of_pass(held)
            for held in self._held
            if held.item.length and held.item.at < durable
        ):
            return False
        seen = Checked()
        for group in windows(takewhile(lambda piece: piece.at < durable, self.pieces())):
            if self._work.stop.is_set():
                raise Stopped
            self._engine.check(group, self._sources[checkpoint.index], seen)
        return not seen.wrong and not seen.failed

    def _pass(self, index: int, durable: int) -> None:
        """Write one pass and flush it; `durable` counts bytes of the stream from the batch's start."""
        began = flushed = time.monotonic_ns()
        failed, base = dict[int, str](), self._base
        for group in windows(piece for piece in self.pieces() if piece.at - base >= durable):
            length = sum(piece.length for piece in group)
            self._work.pace.wait(length, self._work.stop.is_set)
            if self._work.stop.is_set():
                raise Stopped
            self._engine.write(group, self._sources[index], failed)
            self._tell(length)
            now = time.monotonic_ns()
            if now - flushed > self._work.checkpoint_seconds * 1e9 and not failed and self._may_go_on:
                self._flush(failed)
                if not failed:
                    end = group[-1].at + group[-1].length - base
                    self._work.recorder.files_checkpoint(
                        Checkpoint(batch=self._number, index=index, durable=U64(end))
                    )
                flushed = now
        if self._end_of_pieces > base:
            self._flush(failed)
        for place, why in failed.items():
            self._held[place].fail(why)
        self._took[index] += (time.monotonic_ns() - began) // MILLISECOND

    @property
    def _may_go_on(self) -> bool:
        """Whether a batch can be taken up within a pass: not where a read-back before it would be forgotten."""
        return len(self._work.plan.verify_after) <= 1

    def _flush(self, failed: dict[int, str]) -> None:
        """Flush them all at once; where that fails, one by one, to know which."""
        try:
            sync_filesystem(self._work.below.fd)
        except OSError:
            for index, held in enumerate(self._held):
                if held.fd < 0:
                    continue
                try:
                    os.fsync(held.fd)
                except OSError as error:
                    failed[index] = f"it could not be flushed: {os.strerror(error.errno or 0)}"
            sync_filesystem(self._work.below.fd)

    def _check(self, index: int) -> None:
        """Read back what the profile asks for; places are drawn only now."""
        began = time.monotonic_ns()
        base, total = self._base, self._end_of_pieces - self._base
        if not total:
            return
        self._prepare_reading()
        pieces, plan = self.pieces(), self._work.plan.verification
        if plan.kind != "full":
            drawn = places(plan, total, self._work.ground.block, secrets.token_bytes(16))
            pieces = within(pieces, drawn, base)
        seen = Checked()
        for group in windows(pieces):
            if self._work.stop.is_set():
                raise Stopped
            self._engine.check(group, self._sources[index], seen)
            self._tell(sum(piece.length for piece in group))
        for place, wrong in seen.wrong.items():
            self._held[place].fail(f"read-back found {wrong} bytes that are not what was written")
        for place, why in seen.failed.items():
            self._held[place].fail(why)
        self._checked.expected += seen.expected
        self._checked.read += seen.read
        self._checked.unreadable += seen.unreadable
        self._checked.wrong[index] = sum(seen.wrong.values())
        self._verify_ms += (time.monotonic_ns() - began) // MILLISECOND

    def _prepare_reading(self) -> None:
        """From now on what is read comes from the medium."""
        for held in self._held:
            if held.fd < 0 or held.is_out or not held.item.length or self._work.ground.memory:
                continue
            gone = uncached(held.fd, held.item.room)
            direct = held.item.parts is not None and write_direct(held.fd, True)
            self._direct = self._direct and direct
            self._from_medium = self._from_medium and (gone or direct)

    def _io_mode(self) -> str:
        if self._work.ground.memory:
            return "memory file system: the cache is the medium"
        return "direct, cache dropped" if self._direct else "buffered, cache dropped"
