"""One batch of files: all of them overwritten, flushed together, looked at; only then are their names taken away.

No name goes before the bytes under it are durable: one flush of the file system serves all files of the batch,
with the same guarantee as one flush a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from expunge_agent.core.files_progress import BatchDone, BatchWritten
from expunge_agent.engine.file_pieces import Checked, cut, uncached, windows
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
    hold,
    hold_again,
    is_opened,
    shorten,
    stamp_of,
    trouble_of,
)
from expunge_agent.techniques.files_list import Item
from expunge_agent.techniques.files_passes import Passes, Tools
from expunge_agent.techniques.files_work import FilesWork


class Batch:
    """Batch `number` of the work, wherever it stands."""

    def __init__(self, work: FilesWork, tools: Tools, number: int, items: Sequence[Item]) -> None:
        self._work = work
        self._tools = tools
        self._number = number
        self._items = items
        self._held: list[Held] = []

    def run(self) -> None:
        """Take every step that is still missing. Raises Stopped, and OSError where the file system gives out."""
        self._work.below.forget()  # what was moved away since is not followed
        try:
            written = self._work.so_far.written
            if written is None or written.batch != self._number:
                self._open()
                self._work.recorder.files_written(self._overwrite())
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

    def _overwrite(self) -> BatchWritten:
        passes = Passes(self._work, self._tools, self._number, self._held)
        passes.run()
        return passes.as_written()

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
            self._tools.engine.check(group, self._tools.sources[-1], seen)
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
                trouble_of(held)
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
