"""The parts of an ATA drive that its feature sets share: task files, aborts, and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab.drives import faults as fault
from lab.drives.ata_words import AtaModel
from lab.drives.eraser import Eraser
from lab.drives.store import Store

READY = 0x50
"""Status: device ready; bit 4 is seek complete or not specified."""
BUSY, FAULT, ERROR = 0x80, 0x20, 0x01
ABRT, IDNF = 0x04, 0x10


@dataclass(frozen=True)
class TaskFile:
    """A command. With `ext` (48-bit) feature and count have 16 bits and lba 48, else 8, 8 and 28 bits."""

    command: int
    feature: int = 0
    count: int = 0
    lba: int = 0
    device: int = 0x40
    ext: bool = False


@dataclass(frozen=True)
class Result:
    """The registers after a command, and the data for the host."""

    status: int = READY
    error: int = 0
    count: int = 0
    lba: int = 0
    device: int = 0x40
    data: bytes = b""


class Abort(Exception):
    """The command ends with an error; ``lba`` and ``count`` as the command's error outputs say."""

    def __init__(self, error: int = ABRT, *, lba: int = 0, count: int = 0) -> None:
        super().__init__(f"{error:02x}")
        self.error, self.lba, self.count = error, lba, count


@dataclass
class Core:
    """One drive's body. ``kept`` outlives its power, ``lost`` does not."""

    model: AtaModel
    store: Store
    faults: frozenset[str]
    eraser: Eraser
    kept: dict[str, Any] = field(default_factory=dict)
    lost: dict[str, Any] = field(default_factory=dict)

    @property
    def real(self) -> int:
        """Sectors that there are."""
        return self.store.size // self.model.sector

    @property
    def claimed(self) -> int:
        """Sectors that the drive says there are."""
        return self.real * (4 if fault.WRAPS_CAPACITY in self.faults else 1)

    def begin(self, kind: str, *, seconds: float, end: int, **how: Any) -> bool:
        """Start an erase; False when a fault makes the drive forget to."""
        if fault.CHANGES_SERIAL in self.faults:
            self.kept["renamed"] = True
        if fault.DOES_NOTHING in self.faults:
            return False
        if fault.STALE_STATUS in self.faults and kind != "security":
            return False
        self.eraser.begin(kind, seconds=seconds, end=end, **how)
        return True
