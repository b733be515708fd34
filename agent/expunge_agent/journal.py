"""The journal of one order: append-only, durable before the step it announces, readable after any crash.

One canonical JSON object a line. ``sum`` is the first 32 digits of SHA-256 over the previous
line's sum and this record, so a record changed or lost in the middle shows; only an unfinished
last line (a write cut off by a crash) is dropped.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from expunge_agent.errors import DocumentError, StateError
from expunge_agent.files import explained, sync_folder
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Timestamp


class Record(Frozen, frozen=True):
    """One entry: ``n`` counts from 0, ``boot`` is the kernel's boot id at that time."""

    n: int
    kind: str
    at: Timestamp
    boot: str
    data: dict[str, Any]


class DamagedJournalError(StateError):
    """The journal was altered or lost a record: what happened cannot be known from it."""


class Journal:
    """An open journal; `records` are those found on disk when it was opened, `sums` the sum after
    each record, those appended since included. Use as a context manager."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._sum = ""
        self._size = 0
        self._failed = False
        self._count = 0
        self.records: list[Record] = []
        self.sums: list[str] = []
        with explained(path):
            fresh = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.fchmod(self._descriptor, 0o600)  # it holds keys, and what root goes on from
            if fresh:
                sync_folder(path.parent)
        try:
            self._replay()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def folder(self) -> Path:
        """Where the journal lies, and what belongs to it."""
        return self._path.parent

    def append(self, kind: str, at: Timestamp, data: dict[str, Any]) -> Record:
        """Write one record and wait until it is durable. Raises NoSpaceError when the disk is full.

        After a failure the journal is as it was before and takes no more: whoever shares it must stop
        too, or a step would be taken that is written down nowhere.
        """
        if self._failed:
            raise StateError(f"The journal {self._path} could not be written.", "Start the order again.")
        record = Record(n=self._count, kind=kind, at=at, boot=self._boot, data=data)
        line, total = _line(record, self._sum)
        read = canonical.loads(line, _Line).record  # as a restart will read it
        try:
            with explained(self._path):
                written = 0
                while written < len(line):
                    written += os.write(self._descriptor, line[written:])
                os.fdatasync(self._descriptor)
        except BaseException:
            self._failed = True
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                os.fdatasync(self._descriptor)
            raise
        self._sum, self._size = total, self._size + len(line)
        self._count += 1
        self.sums.append(total)
        return read

    def _replay(self) -> None:
        data = self._path.read_bytes()
        *lines, tail = data.split(b"\n")
        for number, line in enumerate(lines):
            self._sum = self._check(number, line)
        self._size, self._count = len(data) - len(tail), len(lines)
        if tail:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)

    def _check(self, number: int, line: bytes) -> str:
        try:
            read = canonical.loads(line, _Line)
        except DocumentError as error:
            raise self._damaged(number) from error
        expected, total = _line(read.record, self._sum)
        if expected != line + b"\n" or read.record.n != number:
            raise self._damaged(number)
        self.records.append(read.record)
        self.sums.append(total)
        return total

    def _damaged(self, number: int) -> DamagedJournalError:
        return DamagedJournalError(
            f"The journal {self._path} is damaged at record {number}.",
            "The order ends as unknown; check the disk that holds the state folder.",
        )


def replace_damaged(path: Path, boot: str, at: Timestamp, why: str) -> None:
    """Put a journal whose only record says that it was damaged in place of the one at `path`.

    The damaged one is kept beside it. There is no moment at which the order looks untouched.
    """
    fresh = path.with_name("journal.fresh")
    with explained(path):
        fresh.unlink(missing_ok=True)
        with Journal(fresh, boot) as journal:
            journal.append("damaged", at, {"why": why})
        path.with_name(f"journal.damaged.{secrets.token_hex(4)}").hardlink_to(path)
        fresh.replace(path)
        sync_folder(path.parent)


class _Line(Frozen, frozen=True):
    record: Record
    sum: str


def _line(record: Record, previous: str) -> tuple[bytes, str]:
    """The line of `record` with its newline, and its sum."""
    total = canonical.sha256_hex(previous.encode() + canonical.dumps(record))[:32]
    return canonical.dumps(_Line(record=record, sum=total)) + b"\n", total
