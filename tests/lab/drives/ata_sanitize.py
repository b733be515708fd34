"""The Sanitize Device feature set of an ATA drive (ACS-3 §4.17 and §7.36), states SD0 to SD4."""

from __future__ import annotations

from lab.drives import faults as fault
from lab.drives.ata_core import Abort, Core, Result, TaskFile

COMMAND = 0xB4
STATUS, CRYPTO, BLOCK, OVERWRITE, FREEZE, ANTIFREEZE = 0x0000, 0x0011, 0x0012, 0x0014, 0x0020, 0x0040
KEYS = {CRYPTO: 0x43727970, BLOCK: 0x426B4572, FREEZE: 0x46724C6B, ANTIFREEZE: 0x416E7469}
"""What has to stand in the LBA field: "Cryp", "BkEr", "FrLk", "Anti"."""
OVERWRITE_KEY = 0x4F57
"""The same for OVERWRITE EXT, in bits 47:32: "OW"; bits 31:0 are the pattern."""
NAMES = {CRYPTO: "crypto", BLOCK: "block", OVERWRITE: "overwrite"}

UNREPORTED, UNSUCCESSFUL, UNSUPPORTED, IS_FROZEN, IS_ANTIFREEZE = range(5)
"""The reasons in LBA bits 7:0 of an aborted command."""


class Sanitize:
    """``completed`` and ``failed`` outlive the power, the two locks do not."""

    def __init__(self, core: Core) -> None:
        self._core = core
        core.kept.setdefault("completed", fault.STALE_STATUS in core.faults)
        core.kept.setdefault("failed", None)

    @property
    def running(self) -> bool:
        """SD2."""
        return self._core.eraser.runs and self._core.eraser.kind in NAMES.values()

    @property
    def failed(self) -> bool:
        """SD3."""
        return self._core.kept["failed"] is not None

    def power_on(self, *, frozen: bool) -> None:
        """Locks are open; then, when `frozen`, the machine's firmware sends SANITIZE FREEZE LOCK EXT."""
        self._core.lost.update(sanitize_frozen=frozen and not self.running, antifreeze=False)

    def execute(self, task: TaskFile) -> Result:
        """Any SANITIZE DEVICE command. Raises Abort."""
        core = self._core
        if not core.model.sanitize and fault.WRONG_CAPABILITIES not in core.faults:
            raise Abort
        if task.feature == STATUS:
            return self._status(task)
        if task.feature not in (*KEYS, OVERWRITE):
            raise Abort(lba=UNSUPPORTED)
        if task.feature == OVERWRITE:
            if task.lba >> 32 != OVERWRITE_KEY:
                raise Abort(lba=UNREPORTED)
        elif task.lba != KEYS[task.feature]:
            raise Abort(lba=UNREPORTED)
        if task.feature == ANTIFREEZE:
            return self._antifreeze()
        if self.running:
            raise Abort(lba=UNREPORTED)
        if task.feature == FREEZE:
            return self._freeze()
        return self._begin(task)

    def _begin(self, task: TaskFile) -> Result:
        core, name = self._core, NAMES[task.feature]
        if name not in core.model.sanitize:
            claimed = name == "crypto" and fault.WRONG_CAPABILITIES in core.faults
            raise Abort(lba=UNREPORTED if claimed else UNSUPPORTED)
        if core.faults & {fault.WRONG_CAPABILITIES} and name == "crypto":
            raise Abort(lba=UNREPORTED)
        if core.lost["sanitize_frozen"]:
            raise Abort(lba=IS_FROZEN)
        if core.lost["locked"]:
            raise Abort(lba=UNREPORTED)
        mode = bool(task.count & 0x10)
        if self.failed and not core.kept["failed"]["mode"] and mode:
            raise Abort(lba=UNREPORTED)
        began = core.begin(
            name,
            seconds=core.model.sanitize_seconds,
            end=core.store.size,
            crypto=name == "crypto",
            patterns=_patterns(task) if name == "overwrite" else None,
            options={"mode": mode},
        )
        if began:
            core.kept.update(completed=False, failed=None)
        return self._outputs()

    def _status(self, task: TaskFile) -> Result:
        core = self._core
        if self.failed:
            if not task.count & 1 or not core.kept["failed"]["mode"]:
                raise Abort(lba=UNSUCCESSFUL)
            core.kept["failed"] = None
        return self._outputs()

    def _freeze(self) -> Result:
        lost = self._core.lost
        if lost["antifreeze"]:
            raise Abort(lba=IS_ANTIFREEZE)
        if self.failed:
            raise Abort(lba=UNREPORTED)
        lost["sanitize_frozen"] = True
        return self._outputs()

    def _antifreeze(self) -> Result:
        core = self._core
        if not core.model.antifreeze:
            raise Abort(lba=UNSUPPORTED)
        if core.lost["sanitize_frozen"]:
            raise Abort(lba=IS_FROZEN)
        core.lost["antifreeze"] = True
        return self._outputs()

    def _outputs(self) -> Result:
        """Normal outputs of every command of the set (ACS-3 §7.36.1)."""
        core, running = self._core, self.running
        count = (0x8000 if core.kept["completed"] and not running else 0) | (0x4000 if running else 0)
        count |= (0x2000 if core.lost["sanitize_frozen"] else 0) | (0x1000 if core.lost["antifreeze"] else 0)
        progress = min(int(core.eraser.fraction * 65536), 0xFFFF) if running else 0xFFFF
        return Result(count=count, lba=progress)

    def ended(self, *, well: bool) -> None:
        """SD2 to SD4 or SD3."""
        kept = self._core.kept
        kept["completed"] = well
        kept["failed"] = None if well else {"mode": self._core.eraser.options.get("mode", False)}


def _patterns(task: TaskFile) -> list[bytes]:
    """The pattern of each pass of OVERWRITE EXT (ACS-3 §7.36.5); count 0 means 16 passes.

    The lowest byte of the pattern is the first in the sector. With DEFINITIVE ENDING PATTERN (bit 6) the
    last pass, without it the first one, writes the pattern as it stands.
    """
    passes = task.count & 0x0F or 16
    plain = (task.lba & 0xFFFFFFFF).to_bytes(4, "little")
    turned = bytes(byte ^ 0xFF for byte in plain)
    if not task.count & 0x80:
        return [plain] * passes
    odd_last = [(turned if (passes - 1 - i) % 2 else plain) for i in range(passes)]
    return odd_last if task.count & 0x40 else [(turned if i % 2 else plain) for i in range(passes)]
