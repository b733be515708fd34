"""The journal of one order: append-only, durable before the step it announces, readable after any crash.

One canonical JSON object a line. ``sum`` is the first 32 digits of SHA-256 over the previous
line's sum and this record, so a record changed or lost in the middle shows; only an unfinished
last line (a write cut off by a crash) is dropped.
"""

from __future__ import annotations

import os
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
    """An open journal; `records` are those on disk. Use as a context manager."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot
        self._sum = ""
        self.records: list[Record] = []
        with explained(path):
            fresh = not path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
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

    def append(self, kind: str, at: Timestamp, data: dict[str, Any]) -> Record:
        """Write one record and wait until it is durable. Raises NoSpaceError when the disk is full."""
        record = Record(n=len(self.records), kind=kind, at=at, boot=self._boot, data=data)
        line, total = _line(record, self._sum)
        with explained(self._path):
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fdatasync(self._descriptor)
        self._sum = total
        self.records.append(canonical.loads(line, _Line).record)
        return self.records[-1]

    def _replay(self) -> None:
        size = os.fstat(self._descriptor).st_size
        data = os.pread(self._descriptor, size, 0)
        *lines, tail = data.split(b"\n")
        for number, line in enumerate(lines):
            self._sum = self._check(number, line)
        if tail:
            os.ftruncate(self._descriptor, size - len(tail))
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
        return total

    def _damaged(self, number: int) -> DamagedJournalError:
        return DamagedJournalError(
            f"The journal {self._path} is damaged at record {number}.",
            "The order ends as unknown; check the disk that holds the state folder.",
        )


class _Line(Frozen, frozen=True):
    record: Record
    sum: str


def _line(record: Record, previous: str) -> tuple[bytes, str]:
    """The line of `record` with its newline, and its sum."""
    total = canonical.sha256_hex(previous.encode() + canonical.dumps(record))[:32]
    return canonical.dumps(_Line(record=record, sum=total)) + b"\n", total
