"""The journal of an order together with the progress it tells, kept in step; targets share it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from expunge_agent.core.progress import RunProgress, TargetProgress, apply, fold
from expunge_agent.errors import DocumentError
from expunge_agent.journal import DamagedJournalError, Journal
from expunge_agent.protocol.base import timestamp


class Ledger:
    """Write with `record`; read the state of the order from `progress`."""

    def __init__(self, journal: Journal, now: Callable[[], datetime]) -> None:
        self._journal = journal
        self._now = now
        self._lock = threading.Lock()
        found, journal.records = journal.records, []  # a long run would otherwise keep them all
        try:
            self.progress: RunProgress = fold(found)
        except (DocumentError, KeyError, TypeError, ValueError) as error:
            raise DamagedJournalError(
                f"The journal holds a record that this version does not understand ({error}).",
                "The order ends as unknown.",
            ) from error
        self.empty = not found
        """Whether nothing had been journalled when the ledger was opened."""
        self.last_boot = found[-1].boot if found else ""
        """The boot id of the newest record found when the ledger was opened."""

    @property
    def folder(self) -> Path:
        """The order's own folder, for lists too long for the journal."""
        return self._journal.folder

    def record(self, kind: str, **data: Any) -> None:
        """Journal, durable on return, then take it into `progress`."""
        with self._lock:
            apply(self.progress, self._journal.append(kind, timestamp(self._now()), data))

    def target(self, index: int) -> TargetProgress:
        """The progress of one target; it grows as records of that target are taken in."""
        with self._lock:
            return self.progress.target(index)
