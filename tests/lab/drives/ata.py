"""An ATA drive as a machine of task files (ACS-3, ACS-4; HPA and DCO after ATA8-ACS)."""

from __future__ import annotations

from collections.abc import Iterable

from lab.drives import ata_hidden, ata_sanitize, ata_security, ata_words
from lab.drives import faults as fault
from lab.drives.ata_core import ABRT, ERROR, FAULT, IDNF, READY, Abort, Core, Result, TaskFile
from lab.drives.ata_words import AtaModel, hdd, ssd
from lab.drives.clock import Clock, RealClock
from lab.drives.eraser import DONE, FAILED, RUNNING, Eraser, Gone, Wait
from lab.drives.store import StateFile, Store

__all__ = ["AtaDrive", "AtaModel", "Result", "TaskFile", "hdd", "ssd"]

IDENTIFY, FLUSH, FLUSH_EXT = 0xEC, 0xE7, 0xEA
READS_28, READS_48 = frozenset({0x20, 0xC4, 0xC8}), frozenset({0x24, 0x25, 0x29})
WRITES_28 = frozenset({0x30, 0xC5, 0xCA})
WRITES_48 = frozenset({0x34, 0x35, 0x39, 0x3D, 0xCE})
VERIFIES = frozenset({0x40, 0x42})
READ_LOG, READ_LOG_DMA = 0x2F, 0x47
SMART, TRIM, SET_FEATURES, CHECK_POWER, SET_MULTIPLE = 0xB0, 0x06, 0xEF, 0xE5, 0xC6
QUIET = frozenset({0x10, 0xE0, 0xE1, 0xE2, 0xE3})
"""Commands without effect here: standby and idle, and the obsolete recalibrate."""

MEDIA = READS_28 | READS_48 | WRITES_28 | WRITES_48 | VERIFIES | {TRIM, FLUSH, FLUSH_EXT}
LOCKED_OUT = MEDIA | {ata_hidden.SET_MAX, ata_hidden.SET_MAX_EXT, ata_hidden.AMA}
"""Aborted while locked (ACS-3 table 11, ATA8-ACS table 8); DCO RESTORE and SET too."""
WHILE_SANITIZING = frozenset(
    {
        IDENTIFY,
        0xE0,
        0xE1,
        CHECK_POWER,
        0x0B,
        ata_sanitize.COMMAND,
        ata_security.UNLOCK,
        READ_LOG,
        READ_LOG_DMA,
        SMART,
    }
)
"""Not aborted in SD2 and SD3 (ACS-3 §4.17.4); of SMART only RETURN STATUS, of the logs only 10h, 30h, E0h."""


class AtaDrive:
    """A drive in the image `store`, remembering in `notes`, living by `clock`, with `faults` (names of faults.py).

    `execute` ends a command or returns Wait: SECURITY ERASE UNIT keeps the drive busy; then `resume`. Both
    raise Gone when the drive vanished. `power_cut` is a cut and a restart, the firmware of the machine
    included; `sleep` is one without that firmware (it does not freeze). A new object over the same
    `store` and `notes` is a restart, too.
    """

    def __init__(
        self,
        store: Store,
        notes: StateFile,
        *,
        model: AtaModel | None = None,
        clock: Clock | None = None,
        faults: Iterable[str] = (),
        durable: bool = False,
    ) -> None:
        self.faults = fault.checked(faults, fault.ATA)
        self.clock = clock or RealClock()
        self._notes, self._durable = notes, durable
        eraser = Eraser(store, self.clock, self.faults, durable=durable)
        self.core = Core(model or ssd(), store, self.faults, eraser, kept=notes.load() or {})
        self.hidden = ata_hidden.Hidden(self.core)
        self.security = ata_security.Security(self.core)
        self.sanitize = ata_sanitize.Sanitize(self.core)
        for span in self.core.kept.get("unmapped", []):
            store.unmap(span[0], span[1] - span[0])
        self._queued: tuple[TaskFile, bytes] | None = None
        self._power_on(firmware=True)

    @property
    def store(self) -> Store:
        return self.core.store

    def hide(self, *, accessible: int | None = None, configured: int | None = None) -> None:
        """Make the drive come with a host protected area (or AMA) or a configuration overlay, in sectors."""
        self.core.kept.update(max=accessible, dco=configured)
        self._power_on(firmware=True)

    def power_cut(self) -> None:
        """The power goes and comes back."""
        self.settle()
        self.store.lose_cache()
        self._power_on(firmware=True)

    def sleep(self) -> None:
        """Suspend and resume: a power cycle of the drive without the firmware that freezes it."""
        self.settle()
        self._power_on(firmware=False)

    def _power_on(self, *, firmware: bool) -> None:
        core = self.core
        kept = core.kept.get("erase")
        if kept and (kept["kind"] == ata_security.KIND or fault.FORGETS in self.faults):
            if fault.FORGETS in self.faults and kept["kind"] == ata_security.KIND:
                core.kept.update(user=None, maximum=False)
            kept = None
        core.eraser.load(kept)
        core.lost.clear()
        core.lost.update(write_cache=True, smart=True)
        self._queued = None
        self.hidden.power_on()
        self.security.power_on(frozen=firmware and fault.FROZEN in self.faults)
        self.sanitize.power_on(frozen=firmware and fault.SANITIZE_FROZEN in self.faults)
        self._save()

    def execute(self, task: TaskFile, data: bytes = b"") -> Result | Wait:
        """Carry out one command; `data` is what the host sends with it."""
        self.settle()
        if self._busy:
            self._queued = (task, data)
            return Wait(self.core.eraser.left())
        self._queued = None
        result = self._answer(task, data)
        self._save()
        return Wait(self.core.eraser.left()) if self._busy else result

    def resume(self) -> Result | Wait:
        """What has become of the command that was told to wait."""
        ended = self.settle()
        if self._busy:
            return Wait(self.core.eraser.left())
        if self._queued is not None:
            return self.execute(*self._queued)
        return Result(status=READY | ERROR, error=ABRT) if ended == FAILED else Result()

    @property
    def _busy(self) -> bool:
        return self.core.eraser.runs and self.core.eraser.kind == ata_security.KIND

    def settle(self) -> str:
        """Bring the medium and the state to now."""
        core = self.core
        if core.kept.get("gone"):
            raise Gone
        kind = core.eraser.kind
        try:
            ended = core.eraser.advance()
        except Gone:
            core.kept["gone"] = True
            self._save()
            raise
        if ended in (DONE, FAILED):
            part = self.security if kind == ata_security.KIND else self.sanitize
            part.ended(well=ended == DONE)
        if ended:
            self._save()
        return ended if ended != RUNNING else ""

    def _save(self) -> None:
        self.core.kept["erase"] = self.core.eraser.kept()
        self.core.kept["unmapped"] = self.store.unmapped.as_list()
        self._notes.save(self.core.kept, durable=self._durable)

    def _answer(self, task: TaskFile, data: bytes) -> Result:
        core = self.core
        if task.command not in (ata_security.ERASE_UNIT, ata_security.ERASE_PREPARE):
            core.lost["prepared"] = False
        if task.command not in (ata_hidden.SET_MAX, ata_hidden.SET_MAX_EXT):
            core.lost["native_read"] = False
        try:
            self._admit(task)
            return self._dispatch(task, data)
        except Abort as abort:
            return Result(status=READY | ERROR, error=abort.error, lba=abort.lba, count=abort.count)

    def _admit(self, task: TaskFile) -> None:
        """Abort what the state of the drive does not let through."""
        core, command = self.core, task.command
        if self.sanitize.running and fault.REFUSES_WHILE_BUSY in self.faults:
            raise Abort
        if self.sanitize.running or self.sanitize.failed:
            zero = fault.CAPACITY_ZERO in self.faults and command in MEDIA and self.sanitize.running
            if not zero and not self._allowed(task):
                raise Abort
        if core.lost["locked"]:
            restore = command == ata_hidden.DCO and task.feature & 0xFF in (0xC0, 0xC3)
            if command in LOCKED_OUT or restore:
                raise Abort

    def _allowed(self, task: TaskFile) -> bool:
        if task.command == SMART:
            return task.feature & 0xFF == 0xDA
        if task.command in (READ_LOG, READ_LOG_DMA):
            return task.lba & 0xFF in (0x10, 0x30, 0xE0)
        return task.command in WHILE_SANITIZING

    def _dispatch(self, task: TaskFile, data: bytes) -> Result:
        command = task.command
        if command in MEDIA and fault.CAPACITY_ZERO in self.faults and self.sanitize.running:
            return Result()
        if command == IDENTIFY:
            return Result(data=self._identify())
        if command in ata_security.COMMANDS:
            return self.security.execute(task, data.ljust(512, b"\0"))
        if command == ata_sanitize.COMMAND:
            return self.sanitize.execute(task)
        if command in ata_hidden.COMMANDS:
            return self.hidden.execute(task, data)
        if command in MEDIA:
            return self._media(task, data)
        if command in (READ_LOG, READ_LOG_DMA):
            return self._log(task)
        if command == SMART:
            return self._smart(task)
        return self._small(task)

    # What the drive says of itself

    def now(self) -> ata_words.Now:
        """What of IDENTIFY DEVICE changes, as it is now."""
        core, lost = self.core, self.core.lost
        zero = fault.CAPACITY_ZERO in self.faults and self.sanitize.running
        serial = fault.other(core.model.serial) if core.kept.get("renamed") else core.model.serial
        return ata_words.Now(
            sectors=0 if zero else self.hidden.shown,
            serial=fault.garble(serial) if fault.GARBLED_SERIAL in self.faults else serial.encode(),
            write_cache=lost["write_cache"],
            smart=lost["smart"],
            enabled=self.security.enabled,
            locked=lost["locked"],
            frozen=lost["frozen"],
            expired=not lost["left"],
            maximum=core.kept["maximum"],
            master_id=core.kept["master_id"],
            claims_crypto=fault.WRONG_CAPABILITIES in self.faults,
        )

    def _identify(self) -> bytes:
        data = ata_words.identify(self.core.model, self.now())
        if fault.GARBLED_IDENTIFY not in self.faults:
            return data
        return (
            data[:200] + b"\xff" * 8 + data[208:256] + b"\x29\x00" + data[258:511] + bytes([data[511] ^ 0x5A])
        )

    def _log(self, task: TaskFile) -> Result:
        """READ LOG (DMA) EXT: log in LBA 7:0, first page in LBA 39:32 and 15:8, number of pages in count."""
        if not task.ext or not task.count:
            raise Abort
        log, first = task.lba & 0xFF, (task.lba >> 8 & 0xFF) | (task.lba >> 32 & 0xFF) << 8
        pages = []
        for number in range(first, first + task.count):
            page: bytes | None = None
            if log == ata_words.LOG_DIRECTORY and number == 0:
                page = ata_words.log_directory({ata_words.STATISTICS: 8, ata_words.IDENTIFY_LOG: 9})
            elif log == ata_words.STATISTICS and number < 8:
                page = ata_words.statistics(self.core.model, number) or bytes(512)
            elif log == ata_words.IDENTIFY_LOG and number < 9:
                page = ata_words.identify_log(self.core.model, self.now(), number) or bytes(512)
            if page is None:
                raise Abort
            pages.append(page)
        return Result(data=b"".join(pages))

    def _smart(self, task: TaskFile) -> Result:
        """SMART (ACS-3 §7.48): the signature C24Fh in LBA 23:8 is required."""
        lost, action = self.core.lost, task.feature & 0xFF
        if task.lba >> 8 & 0xFFFF != 0xC24F or (not lost["smart"] and action != 0xD8):
            raise Abort
        if action in (0xD8, 0xD9):
            lost["smart"] = action == 0xD8
            return Result(lba=0xC24F00)
        if action == 0xDA:
            return Result(lba=0xC24F00)
        if action == 0xD0:
            return Result(lba=0xC24F00, data=ata_words.smart_data(self.core.model))
        if action == 0xD1:
            return Result(lba=0xC24F00, data=ata_words.smart_thresholds())
        if action == 0xD5 and (task.lba & 0xFF) in (0, 1, 6):
            return Result(lba=0xC24F00, data=ata_words.smart_log(task.lba & 0xFF))
        if action in (0xD2, 0xD4):
            return Result(lba=0xC24F00)
        raise Abort

    def _small(self, task: TaskFile) -> Result:
        lost, action = self.core.lost, task.feature & 0xFF
        if task.command == CHECK_POWER:
            return Result(count=0xFF)
        if task.command == SET_FEATURES:
            if action in (0x02, 0x82):
                lost["write_cache"] = action == 0x02
            elif action not in (0x03, 0x55, 0xAA, 0x10, 0x90, 0x66, 0xCC):
                raise Abort
            return Result()
        if task.command in QUIET or task.command == SET_MULTIPLE:
            return Result()
        raise Abort

    # The medium

    def _media(self, task: TaskFile, data: bytes) -> Result:
        command = task.command
        if command in (FLUSH, FLUSH_EXT):
            self.store.flush()
            if self._durable:
                self.store.sync()
            return Result()
        if command == TRIM:
            return self._trim(task, data)
        wide = command in READS_48 | WRITES_48 or command == 0x42
        count = task.count or (65536 if wide else 256)
        lba = task.lba if wide else task.lba & 0x0FFFFFFF
        if lba + count > self.hidden.accessible:
            raise Abort(IDNF, lba=lba)
        size = self.core.model.sector
        if command in VERIFIES:
            return Result()
        if command in READS_28 | READS_48:
            return Result(data=b"".join(self.store.read(at, n) for at, n in self._places(lba, count)))
        if len(data) < count * size:
            return Result(status=READY | ERROR | FAULT, error=ABRT)
        if fault.DROPS_WRITES not in self.faults:
            done = 0
            for at, length in self._places(lba, count):
                self.store.write(at, data[done : done + length])
                done += length
        return Result()

    def _places(self, lba: int, count: int) -> list[tuple[int, int]]:
        """Where sectors lie: (offset, length) in bytes; more than one piece when addresses wrap."""
        size, pieces = self.core.model.sector, []
        while count:
            at = lba % self.core.real
            here = min(count, self.core.real - at)
            pieces.append((at * size, here * size))
            lba, count = lba + here, count - here
        return pieces

    def _trim(self, task: TaskFile, data: bytes) -> Result:
        """DATA SET MANAGEMENT (ACS-3 §7.6): entries of 48 bit address and 16 bit count."""
        if not self.core.model.trim or not task.feature & 1:
            raise Abort
        ranges = []
        for at in range(0, min(len(data), (task.count or 65536) * 512) & ~7, 8):
            entry = int.from_bytes(data[at : at + 8], "little")
            first, count = entry & (1 << 48) - 1, entry >> 48
            if first + count > self.hidden.accessible:
                raise Abort(IDNF | ABRT)
            ranges.append((first, count))
        if fault.DROPS_WRITES not in self.faults:
            for first, count in ranges:
                for offset, length in self._places(first, count):
                    self.store.unmap(offset, length)
        return Result()
