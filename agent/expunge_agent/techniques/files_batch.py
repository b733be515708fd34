"""One batch of files: all of them overwritten, flushed together, looked at; only then are their names taken away.

No name goes before the bytes under it are durable: one flush of the file system serves all files of the batch,
with the same guarantee as one flush a file.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile

from expunge_agent.core.files_progress import BatchDone, BatchWritten, Checkpoint, Trouble
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
from expunge_agent.protocol.receipt_files import FileTally
from expunge_agent.techniques.files_attributes import overwrite_attributes, own_attributes
from expunge_agent.techniques.files_ends import Ends
from expunge_agent.techniques.files_hold import (
    CHANGED,
    OPENED,
    Held,
    changed_since,
    has_size_of_pass,
    hold,
    hold_again,
    is_opened,
    settle,
    shorten,
    stamp_of,
)
from expunge_agent.techniques.files_list import Item
from expunge_agent.techniques.files_work import FilesWork
from expunge_agent.techniques.read_back import places

LARGE = 4 * MIB
"""Files from here on are written past the page cache."""
MILLISECOND = 1_000_000


class Stopped(Exception):  # noqa: N818 - an end, not an error
    """The run was told to stop within a batch."""


class Batch:
    """Batch `number` of the work, wherever it stands. `tell` is called with bytes that were moved."""

    def __init__(
        self,
        work: FilesWork,
        number: int,
        items: Sequence[Item],
        engine: PieceEngine,
        sources: Sequence[Source],
        tell: Callable[[int], None],
    ) -> None:
        self._work = work
        self._number = number
        self._engine = engine
        self._sources = sources
        self._tell = tell
        self._items = items
        self._held: list[Held] = []
        self._took = [0] * len(sources)
        self._checked = Checked()
        self._verify_ms = 0
        self._direct = True
        self._from_medium = True

    def run(self) -> None:
        """Take every step that is still missing. Raises Stopped, and OSError where the file system gives out."""
        self._work.below.forget()  # what was moved away since is not followed
        try:
            written = self._work.so_far.written
            if written is None or written.batch != self._number:
                self._open()
                self._overwrite()
                self._work.recorder.files_written(self._as_written())
            else:
                self._take_up(written)
            self._end()
        finally:
            for held in self._held:
                shorten(held)
                held.close()

    def _open(self) -> None:
        resumed = self._work.so_far.resumed
        self._held = [
            Held(item) if item.other else hold(item, self._work.below, resumed=resumed)
            for item in self._items
        ]
        if resumed and self._number == self._work.so_far.done:
            for held in self._held:
                held.was_begun()

    @property
    def _base(self) -> int:
        """Where the batch begins in the stream, whichever of its files are out."""
        return self._items[0].at

    def _pieces(self) -> Iterator[Piece]:
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

    def _overwrite(self) -> None:
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
        for group in windows(takewhile(lambda piece: piece.at < durable, self._pieces())):
            if self._work.stop.is_set():
                raise Stopped
            self._engine.check(group, self._sources[checkpoint.index], seen)
        return not seen.wrong and not seen.failed

    def _pass(self, index: int, durable: int) -> None:
        """Write one pass and flush it; `durable` counts bytes of the stream from the batch's start."""
        began = flushed = time.monotonic_ns()
        failed, base = dict[int, str](), self._base
        for group in windows(piece for piece in self._pieces() if piece.at - base >= durable):
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
        pieces, plan = self._pieces(), self._work.plan.verification
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

    def _as_written(self) -> BatchWritten:
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
            troubles=[self._trouble(held) for held in self._held if held.is_out],
            expected=U64(self._checked.expected),
            read=U64(self._checked.read),
            mismatched=U64(sum(self._checked.wrong.values())),
            unreadable=U64(self._checked.unreadable),
            verify_ms=U64(self._verify_ms),
            io_mode=self._io_mode() if self._checked.expected else "",
            reads_medium=self._from_medium,
        )

    def _trouble(self, held: Held) -> Trouble:
        return Trouble(
            number=held.item.number,
            path=held.item.shown,
            outcome=held.outcome,
            why=held.why[:4000],
            remedy=held.remedy,
        )

    def _take_up(self, written: BatchWritten) -> None:
        """The bytes were durable when an earlier run ended: only names may be missing.

        A name that is still there may lead to a new file by now, even with the same inode number: what it
        holds is compared once more, and a file that holds anything else keeps its name.
        """
        out = {one.number: one for one in written.troubles}
        for item in self._items:
            trouble = out.get(item.number)
            held = Held(item) if item.other or trouble else hold_again(item, self._work.below)
            self._held.append(held)
            if trouble:
                held.outcome, held.why, held.remedy = trouble.outcome, trouble.why, trouble.remedy
            elif held.fd >= 0:
                uncached(held.fd, held.item.room)
                if self._work.keep and item.size and not os.fstat(held.fd).st_size:
                    held.fail(CHANGED)
        self._compare(index for index, held in enumerate(self._held) if held.fd >= 0 and not held.is_out)

    def _compare(self, places: Iterable[int]) -> None:
        """What these open files hold, with the last pass: one that holds anything else has failed."""
        pieces = (
            piece
            for index in places
            for held in (self._held[index],)
            for piece in cut(
                _up_to(held.item.ranges(), os.fstat(held.fd).st_size), index, held.fd, held.item.at
            )
        )
        seen = Checked()
        for group in windows(pieces):
            self._engine.check(group, self._sources[-1], seen)
        for place in (*seen.wrong, *seen.failed):
            self._held[place].fail(CHANGED)

    def _look_again(self) -> None:
        """Before names go: what was touched after the last pass is compared with it once more."""
        touched = []
        for index, held in enumerate(self._held):
            if held.fd < 0 or held.is_out:
                continue
            if is_opened(held):
                held.fail(OPENED)
            elif held.stamp is not None and (now := stamp_of(held.fd)) != held.stamp:
                if now[0] != held.stamp[0]:
                    held.fail(CHANGED)
                    continue
                held.stamp = now
                uncached(held.fd, held.item.room)
                touched.append(index)
        self._compare(touched)

    def _end(self) -> None:
        """Take names away, or give sizes back, and make it durable."""
        listing = self._work.so_far.listing
        if listing is None:
            raise AssertionError("a batch without a list")
        ends = Ends(self._work.below, bytes.fromhex(listing.secret))
        others = 0
        self._look_again()
        self._overwrite_attributes()
        for held in self._held:
            if held.fd >= 0 and not held.is_out and (why := changed_since(held)):
                held.fail(why)
            if held.is_out:
                continue
            if held.item.why or held.noted:
                held.outcome = "sanitized-with-exceptions"
                held.why = "; ".join((*held.item.why, *held.noted))
            if self._work.keep:
                self._give_back(held)
                continue
            before = ends.removed
            problem = ends.remove(held.item, held.fd)
            if held.item.other:
                others += ends.removed - before
            if problem:
                held.outcome = "sanitized-with-exceptions"
                held.why = "; ".join(one for one in (held.why, problem) if one)
        if self._work.keep:
            sync_filesystem(self._work.below.fd)  # the sizes
        ends.sync()
        self._work.recorder.files_removed(self._as_done(ends.removed - others, others))

    def _overwrite_attributes(self) -> None:
        """Random bytes in place of extended attributes, durable before they are taken away. Raises OSError."""
        found = False
        for held in self._held:
            if held.fd < 0 or held.is_out or self._work.keep or not own_attributes(held.fd):
                continue
            try:
                held.noted += overwrite_attributes(held.fd)
            except OSError as error:
                held.fail(
                    f"its extended attributes could not be overwritten: {os.strerror(error.errno or 0)}"
                )
                continue
            before, held.stamp = held.stamp, stamp_of(held.fd)
            if before is not None and before[:2] != held.stamp[:2]:
                held.fail(CHANGED)
            found = True
        if found:
            sync_filesystem(self._work.below.fd)

    def _give_back(self, held: Held) -> None:
        if held.item.other:
            return
        if held.fd < 0:
            held.outcome = "sanitized-with-exceptions"
            held.why = "its size could not be given back: another file, or none, has its name now"
            return
        shorten(held)

    def _as_done(self, removed: int, others: int) -> BatchDone:
        tallies = {
            outcome: _tally(held for held in self._held if held.outcome == outcome and not held.item.other)
            for outcome in ("sanitized", "sanitized-with-exceptions", "refused", "failed")
        }
        known = {one.number for one in (self._work.so_far.written or _NOTHING).troubles}
        return BatchDone(
            batch=self._number,
            sanitized=tallies["sanitized"],
            exceptions=tallies["sanitized-with-exceptions"],
            refused=tallies["refused"],
            failed=tallies["failed"],
            names_removed=U64(removed),
            other_removed=U64(others),
            troubles=[
                self._trouble(held)
                for held in self._held
                if held.outcome != "sanitized" and held.item.number not in known
            ],
        )


def _up_to(ranges: Iterable[tuple[int, int]], end: int) -> Iterator[tuple[int, int]]:
    """`ranges` without what lies beyond `end`."""
    return ((first, min(last, end)) for first, last in ranges if first < end)


_NOTHING = BatchWritten(batch=0, written=[], took_ms=[])


def _tally(those: Iterable[Held]) -> FileTally:
    sizes = [held.item.size for held in those]
    return FileTally(files=U64(len(sizes)), bytes=U64(sum(sizes)))
