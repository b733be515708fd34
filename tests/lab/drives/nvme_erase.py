"""What sanitize and format do in a simulated NVMe drive, and how they go wrong where a fault says so."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.drives.nvme_pages import Make, Namespace
from lab.drives.nvme_progress import Erasure
from lab.drives.opal import Locking
from lab.drives.store import Store

TAIL = 1 << 20

NEVER, COMPLETED, RUNNING, FAILED, COMPLETED_DEALLOCATED = range(5)
"""SSTAT bits 2:0 (Base 2.0 figure 295)."""
ACTIONS = {2: "block", 3: "overwrite", 4: "crypto"}
"""SANACT of the actions that start something; 1 leaves the failure mode (Base 2.0 §5.24)."""

FAULTS = {
    "stale-status": "sanitize is accepted and never starts; the log shows a completed one of the past",
    "lies-instantly": "sanitize is accepted and reported completed at once; the data stays",
    "lies-success": "sanitize and format show progress and complete; the data stays",
    "fails-at-40": "sanitize and format fail at 40 %",
    "stuck-at-99": "sanitize and format never end",
    "leaves-tail": "the last MiB of every namespace is not erased",
    "forgets-after-power-loss": "a running sanitize is gone after a power cut",
    "disappears-midway": "the drive vanishes at 50 % of an erase",
    "changes-serial": "the serial number is another one after an erase",
    "wrong-sanicap": "SANICAP offers crypto erase, the command is refused as invalid",
    "refuses-while-busy": "during an erase identify and every log page are refused as well",
    "format-ses0-only": "format succeeds and changes the LBA size only; the data stays readable",
    "format-hits-all-namespaces": "format erases all namespaces although FNA says one",
    "garbled-serial": "the serial number is not text",
    "drops-writes": "writes are acknowledged and forgotten",
    "wraps-capacity": "the upper half of a namespace is the lower half again",
    "sp-busy": "the security provider opens no session: it is busy",
    "stays-active": "a revert is reported as done, and the Locking SP stays active",
    "locked": "a locking range refuses reads and writes",
    "rejects-emvs": "SANICAP offers media verification, a sanitize that asks for it is refused as invalid",
    "stuck-in-verification": "the exit from media verification is accepted, and the drive stays there",
    "keeps-cells": "sanitize only drops the map: reads give zeros, the cells keep the data",
    "unreadable-cells": "in media verification the cells cannot be read",
    "forgets-deallocation": "the deallocation after media verification fails",
    "loses-cache": "what was written since the last flush is lost in a power cut",
}
"""Every fault that can be switched on, and what the drive then does."""


VERIFICATION = (
    "rejects-emvs",
    "stuck-in-verification",
    "keeps-cells",
    "unreadable-cells",
    "forgets-deallocation",
)
"""Faults that only a drive with media verification can have, or that nobody sees but in it."""
IDLE, MEDIA_VERIFICATION, DEALLOCATING = 0, 5, 6
"""SANS, log 81h (Base 2.1 §8.1.24.3)."""


class Gone(Exception):
    """The drive is not there: unplugged, or without power."""


@dataclass
class Notes:
    """What the drive remembers over a power loss."""

    serial: str
    namespaces: list[Namespace]
    sstat: int = NEVER
    scdw10: int = 0
    passes: int = 0
    written: bool = False
    """Something was written since the last sanitize."""
    failure_mode: str = ""
    """After a failed sanitize: "restricted" or "unrestricted" until that is left."""
    sanitize: Erasure | None = None
    cells: Erasure | None = None
    """What is done but for its verification, or the deallocation after it."""
    deallocation: float = -1.0
    """Seconds for which it goes on; negative: the state is media verification."""
    cancelled: bool = False
    """Media verification was ended by a reset (MVCNCLD)."""
    before: list[int] = field(default_factory=lambda: [NEVER, 0, 0])
    """SSTAT, SCDW10 and passes as they were before the running sanitize."""
    counts: dict[str, int] = field(default_factory=dict)
    unmapped: list[list[int]] = field(default_factory=list)
    locking: Locking = field(default_factory=Locking)
    revert: Erasure | None = None
    """The data removal after a revert."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Notes:
        raw = dict(raw)
        raw["namespaces"] = [Namespace(**n) for n in raw["namespaces"]]
        raw["sanitize"] = Erasure(**raw["sanitize"]) if raw["sanitize"] else None
        raw["cells"] = Erasure(**raw["cells"]) if raw["cells"] else None
        raw["revert"] = Erasure(**raw["revert"]) if raw["revert"] else None
        raw["locking"] = Locking(**raw["locking"])
        return cls(**raw)


@dataclass
class Format:
    """A format that is being carried out; it does not outlive a power loss."""

    erasure: Erasure
    nsids: list[int]
    shift: int
    failed: bool = False


def overwrite_patterns(cdw10: int, cdw11: int) -> list[str]:
    """The pattern of each pass: OWPASS of them (0 is 16), inverted in between with OIPBP, so that the last
    is OVRPAT itself (Base 2.0 §8.21, figure of the overwrite mechanism)."""
    count = cdw10 >> 4 & 0xF or 16
    pattern = cdw11.to_bytes(4, "little")
    inverse = bytes(b ^ 0xFF for b in pattern)
    turned = bool(cdw10 & 1 << 8)
    return [(inverse if turned and (count - 1 - i) % 2 else pattern).hex() for i in range(count)]


class Eraser:
    """Carries sanitize and format on as the time goes by."""

    def __init__(
        self, make: Make, notes: Notes, store: Store, faults: set[str], announce: Callable[[str], None]
    ) -> None:
        self.make, self.notes, self.store, self.faults = make, notes, store, faults
        self._announce = announce
        self.format: Format | None = None

    @property
    def busy(self) -> bool:
        working = self.notes.sanitize is not None or self.state == DEALLOCATING
        return working or self.format is not None or self.notes.revert is not None

    @property
    def state(self) -> int:
        """SANS of a drive with media verification, but for the states of processing and failure."""
        if self.notes.cells is None:
            return IDLE
        return MEDIA_VERIFICATION if self.notes.deallocation < 0 else DEALLOCATING

    def exit_verification(self) -> None:
        """The host has seen enough; the caller has checked the state."""
        if "stuck-in-verification" not in self.faults:
            self.notes.deallocation = 0.0

    def start_revert(self) -> None:
        """The media key is being replaced; the caller has checked who asks."""
        self.notes.locking.interrupted = False
        self.notes.revert = self._erasure("crypto", [[0, self.store.size]], self.make.revert_seconds, [""])

    def start_sanitize(self, cdw10: int, cdw11: int) -> None:
        """Begin; the caller has checked everything."""
        action, notes = ACTIONS[cdw10 & 7], self.notes
        notes.failure_mode, notes.cancelled = "", False
        if "stale-status" in self.faults:
            if notes.sstat == NEVER:
                notes.sstat, notes.scdw10 = COMPLETED, 4
            return
        notes.before = [notes.sstat, notes.scdw10, notes.passes]
        notes.scdw10, notes.passes = cdw10, 0
        if "lies-instantly" in self.faults:
            notes.sstat = COMPLETED
            return
        passes = overwrite_patterns(cdw10, cdw11) if action == "overwrite" else [""]
        seconds = {
            "block": self.make.block_seconds,
            "crypto": self.make.crypto_seconds,
            "overwrite": self.make.overwrite_seconds * len(passes),
        }[action]
        notes.sstat = RUNNING
        notes.sanitize = self._erasure(action, [[0, self.store.size]], seconds, passes)

    def start_format(self, targets: list[Namespace], shift: int, ses: int) -> Format:
        """Begin; `ses` 0 erases nothing (the map is dropped), 1 the blocks, 2 the key."""
        if "format-hits-all-namespaces" in self.faults:
            targets = self.notes.namespaces
        action = ("none", "block", "crypto")[ses]
        extents = [[ns.base, ns.size] for ns in targets]
        erasure = self._erasure(action, extents, self.make.format_seconds, [""])
        if "format-ses0-only" in self.faults:
            erasure.action = "none"
        self.format = Format(erasure, [ns.nsid for ns in targets], shift)
        return self.format

    def advance(self, seconds: float) -> None:
        """`seconds` of power-on time went by. Raises Gone when the drive vanishes now."""
        running, formatting = self.notes.sanitize, self.format
        if running:
            self._step(running, seconds)
            self.notes.passes = running.passes_done if running.action == "overwrite" else 0
            if running.finished:
                self._sanitized(running)
            elif self._fails(running):
                self._sanitize_failed()
        if (cells := self.notes.cells) and self.state == DEALLOCATING:
            self.notes.deallocation += seconds
            if self.notes.deallocation >= self.make.deallocate_seconds:
                self._deallocated(cells)
        if reverting := self.notes.revert:
            self._step(reverting, seconds)
            if reverting.finished:
                self.notes.revert = None
                self._new_serial()
            elif self._fails(reverting):
                self.notes.revert, self.notes.locking.interrupted = None, True
        if formatting:
            self._step(formatting.erasure, seconds)
            if formatting.erasure.finished:
                self._formatted(formatting)
            elif self._fails(formatting.erasure):
                formatting.failed, self.format = True, None

    def power_lost(self) -> None:
        """A format and a data removal are cut off where they were; a sanitize goes on when power is back, unless
        forgotten."""
        self.format = None
        if self.state == MEDIA_VERIFICATION:
            self.notes.deallocation, self.notes.cancelled = 0.0, True
        if self.notes.revert:
            forgets = "forgets-after-power-loss" in self.faults
            self.notes.revert, self.notes.locking.interrupted = None, not forgets
            self.notes.locking.active = forgets
        if self.notes.sanitize and "forgets-after-power-loss" in self.faults:
            self.notes.sanitize = None
            self.notes.sstat, self.notes.scdw10, self.notes.passes = self.notes.before

    def _erasure(self, action: str, extents: list[list[int]], seconds: float, passes: list[str]) -> Erasure:
        spared: list[list[int]] = []
        if "leaves-tail" in self.faults:
            ends = [ns.base + ns.size for ns in self.notes.namespaces]
            spared = [[end - TAIL, end] for end in ends]
        if "lies-success" in self.faults:
            spared = [[start, start + length] for start, length in extents]
        if "keeps-cells" in self.faults:
            action = "none"
        return Erasure(action, extents, seconds, os.urandom(32).hex(), passes, spared)

    def _step(self, erasure: Erasure, seconds: float) -> None:
        limits = {"fails-at-40": 0.4, "disappears-midway": 0.5, "stuck-at-99": 0.99}
        limit = min([part for name, part in limits.items() if name in self.faults], default=1.0)
        erasure.advance(self.store, seconds, limit=limit)
        if "disappears-midway" in self.faults and erasure.elapsed >= erasure.seconds * 0.5:
            raise Gone("the drive is gone")

    def _fails(self, erasure: Erasure) -> bool:
        return "fails-at-40" in self.faults and erasure.elapsed >= erasure.seconds * 0.4

    def _sanitized(self, erasure: Erasure) -> None:
        notes = self.notes
        if notes.scdw10 & 1 << 10:
            erasure.map(self.store)
            notes.sanitize, notes.cells, notes.deallocation = None, erasure, -1.0
            return
        asked_to_keep = bool(notes.scdw10 & 1 << 9)
        notes.sstat = COMPLETED_DEALLOCATED if asked_to_keep and self.make.ndi else COMPLETED
        if not asked_to_keep or self.make.ndi:
            erasure.unmap(self.store)
        else:
            erasure.map(self.store)
        self._completed()

    def _deallocated(self, cells: Erasure) -> None:
        """Media verification is over, and what was allocated is not any more."""
        notes = self.notes
        notes.cells = None
        if "forgets-deallocation" in self.faults:
            self._sanitize_failed()
            return
        cells.unmap(self.store)
        notes.sstat = COMPLETED
        self._completed()

    def _completed(self) -> None:
        notes = self.notes
        for ns in notes.namespaces:
            ns.bad.clear()
        notes.sanitize, notes.written = None, False
        self._new_serial()
        self._announce("deallocated" if notes.sstat == COMPLETED_DEALLOCATED else "sanitized")

    def _sanitize_failed(self) -> None:
        notes = self.notes
        notes.sstat, notes.sanitize = FAILED, None
        notes.failure_mode = "unrestricted" if notes.scdw10 & 1 << 3 else "restricted"
        self._announce("sanitized")  # the event says "completed", well or not

    def _formatted(self, job: Format) -> None:
        self.format = None
        for ns in self.notes.namespaces:
            if ns.nsid in job.nsids:
                ns.shift = job.shift
                ns.bad.clear()
        if "format-ses0-only" not in self.faults:
            job.erasure.unmap(self.store)
        self._new_serial()
        self._announce("namespaces")

    def _new_serial(self) -> None:
        if "changes-serial" in self.faults and not self.notes.serial.startswith("R"):
            self.notes.serial = "R" + self.notes.serial
