"""An erase of a SCSI or ATA drive's own: it goes on while the clock goes on, truthfully or with faults.

Standard library only: the same code runs in the lab's guest.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from lab.drives import faults as fault
from lab.drives.clock import Clock
from lab.drives.nvme_progress import Erasure
from lab.drives.store import Store

TAIL = 1 << 20
"""What `leaves-tail` leaves at the end of the medium, in bytes (at most a sixteenth of it)."""
RUNNING, DONE, FAILED = "running", "done", "failed"


class Gone(Exception):
    """The drive is not there any more."""


@dataclass(frozen=True)
class Wait:
    """A command that is still running: ask again (`resume`) in `seconds`."""

    seconds: float


class Eraser:
    """Carries out one erase at a time on `store`. ``kind``: the drive's name for it; ``options``: what else
    the drive has to remember of it."""

    def __init__(self, store: Store, clock: Clock, faults: frozenset[str], *, durable: bool = False) -> None:
        self._store, self._clock, self._faults, self._durable = store, clock, faults, durable
        self._erasure: Erasure | None = None
        self._seen = 0.0
        self.kind = ""
        self.options: dict[str, Any] = {}

    @property
    def runs(self) -> bool:
        """Whether an erase is under way."""
        return self._erasure is not None

    @property
    def fraction(self) -> float:
        """How far the erase says it is, from 0 to 1."""
        if self._erasure is None:
            return 1.0
        part = self._erasure.elapsed / self._erasure.seconds if self._erasure.seconds > 0 else 1.0
        return min(part, self._limit()[0])

    def begin(
        self,
        kind: str,
        *,
        seconds: float,
        end: int,
        patterns: list[bytes] | None = None,
        crypto: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Erase the first `end` bytes in `seconds`: to noise (`crypto`), with `patterns`, or to zeros."""
        action = "crypto" if crypto else "overwrite" if patterns else "block"
        spared = []
        if fault.LIES_SUCCESS in self._faults:
            action = "none"
        if fault.LEAVES_TAIL in self._faults:
            spared = [[self._store.size - min(TAIL, self._store.size // 16), self._store.size]]
        self._erasure = Erasure(
            action=action,
            extents=[[0, end]],
            seconds=seconds,
            key=secrets.token_hex(16) if crypto else "",
            patterns=[pattern.hex() for pattern in patterns or [b""]],
            spared=spared,
        )
        self.kind, self.options, self._seen = kind, options or {}, self._clock.now()

    def advance(self) -> str:
        """Bring the medium to what it holds now: RUNNING, DONE or FAILED (once), "" when nothing runs.

        Raises Gone when the drive vanishes in the middle.
        """
        erasure = self._erasure
        if erasure is None:
            return ""
        now = self._clock.now()
        limit, end = self._limit()
        erasure.advance(self._store, now - self._seen, limit=limit)
        self._seen = now
        if erasure.seconds > 0 and erasure.elapsed / erasure.seconds < limit:
            return RUNNING
        if end == "gone":
            raise Gone
        if end != RUNNING:
            self._settle()  # before anybody notes that it is over
            self._erasure = None
        return end

    def left(self) -> float:
        """Seconds until the erase ends by itself; one second, again and again, when it never does."""
        if self._erasure is None:
            return 0.0
        return max(self._limit()[0] * self._erasure.seconds - self._erasure.elapsed, 0.0) or 1.0

    def kept(self) -> dict[str, Any] | None:
        """What has to be in the non-volatile memory to go on after a power cut; it is on the medium first."""
        if self._erasure is None:
            return None
        self._settle()
        return {"kind": self.kind, "options": self.options, "erasure": self._erasure.as_dict()}

    def load(self, kept: dict[str, Any] | None) -> None:
        """Go on, after a power cut, with what `kept` told."""
        self._erasure = Erasure(**kept["erasure"]) if kept else None
        self.kind, self.options = (kept["kind"], kept["options"]) if kept else ("", {})
        self._seen = self._clock.now()

    def _settle(self) -> None:
        """What the erase did is on the medium, also if the machine crashes that runs this simulator."""
        if self._durable:
            self._store.sync()

    def _limit(self) -> tuple[float, str]:
        if fault.FAILS_AT_40 in self._faults:
            return 0.4, FAILED
        if fault.DISAPPEARS in self._faults:
            return 0.5, "gone"
        if fault.STUCK_AT_99 in self._faults:
            return 0.99, RUNNING
        return 1.0, DONE
