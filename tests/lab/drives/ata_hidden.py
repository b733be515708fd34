"""Hidden sectors of an ATA drive: host protected area, accessible max address, device configuration overlay."""

from __future__ import annotations

from lab.drives import faults as fault
from lab.drives.ata_core import ABRT, IDNF, Abort, Core, Result, TaskFile
from lab.drives.ata_words import dco_identify

READ_NATIVE_MAX, READ_NATIVE_MAX_EXT = 0xF8, 0x27
SET_MAX, SET_MAX_EXT = 0xF9, 0x37
DCO, AMA = 0xB1, 0x78
COMMANDS = frozenset({READ_NATIVE_MAX, READ_NATIVE_MAX_EXT, SET_MAX, SET_MAX_EXT, DCO, AMA})
LIMIT_28 = 0x0FFFFFFF


class Hidden:
    """HPA and DCO after ATA8-ACS §4.10 and §4.8, AMA after ACS-3 §4.3."""

    def __init__(self, core: Core) -> None:
        self._core = core
        core.kept.setdefault("max", None)
        core.kept.setdefault("dco", None)
        core.kept.setdefault("pretends", False)

    def power_on(self) -> None:
        """What is volatile is as it was: a volatile HPA is gone, locks are open."""
        self._core.lost.update(
            max=self._core.kept["max"],
            native_read=False,
            max_set=False,
            max_lock="",
            dco_frozen=False,
            ama_frozen=False,
        )
        self._core.lost.update(password=b"", tries=5)

    @property
    def native(self) -> int:
        """Sectors that a configuration overlay leaves."""
        core = self._core
        return core.claimed if core.kept["dco"] is None else min(core.kept["dco"], core.claimed)

    @property
    def accessible(self) -> int:
        """Sectors that can be read and written."""
        limit = self._core.lost["max"]
        return self.native if limit is None else min(limit, self.native)

    @property
    def shown(self) -> int:
        """Sectors that IDENTIFY DEVICE shows."""
        return self._core.claimed if self._core.kept["pretends"] else self.accessible

    def execute(self, task: TaskFile, data: bytes) -> Result:
        """One of COMMANDS. Raises Abort."""
        core = self._core
        if task.command == DCO:
            return self._dco(task)
        if task.command == AMA:
            return self._ama(task)
        if core.model.hidden != "hpa":
            raise Abort
        if task.command in (READ_NATIVE_MAX, READ_NATIVE_MAX_EXT):
            core.lost["native_read"] = True
            last = (core.claimed if core.kept["pretends"] else self.native) - 1
            return Result(lba=last if task.command == READ_NATIVE_MAX_EXT else min(last, LIMIT_28))
        if task.command == SET_MAX and task.feature & 0xFF:
            return self._max_security(task, data)
        return self._set_max(task)

    def _set_max(self, task: TaskFile) -> Result:
        core = self._core
        asked, core.lost["native_read"] = core.lost["native_read"], False
        if core.lost["max_lock"] or not asked:
            raise Abort  # ATA8-ACS §7.53: immediately after READ NATIVE MAX ADDRESS only
        if task.lba >= self.native:
            raise Abort(IDNF | ABRT)
        if task.count & 1 and core.lost["max_set"]:
            raise Abort(IDNF)  # once in a power cycle
        self._restrict(task.lba + 1, keep=bool(task.count & 1))
        core.lost["max_set"] |= bool(task.count & 1)
        return Result(lba=task.lba)

    def _restrict(self, sectors: int, *, keep: bool) -> None:
        core = self._core
        if core.faults & {fault.HPA_LIES, fault.HPA_LIES_DEEP} and sectors > self.accessible:
            core.kept["pretends"] = fault.HPA_LIES_DEEP in core.faults
            return
        core.lost["max"] = sectors if sectors < self.native else None
        if keep:
            core.kept["max"] = core.lost["max"]

    def _max_security(self, task: TaskFile, data: bytes) -> Result:
        """SET MAX SET PASSWORD, LOCK, UNLOCK, FREEZE LOCK (ATA8-ACS §7.53)."""
        lost, action = self._core.lost, task.feature & 0xFF
        if lost["max_lock"] == "frozen" or action not in (1, 2, 3, 4):
            raise Abort
        if lost["max_lock"] and action == 1:
            raise Abort
        if action == 1:
            lost["password"] = data[2:34]
        elif action == 4:
            lost["max_lock"] = "frozen"
        elif not lost["password"]:
            raise Abort
        elif action == 2:
            lost["max_lock"] = "locked"
        elif lost["tries"] and data[2:34] == lost["password"]:
            lost.update(max_lock="", tries=5)
        else:
            lost["tries"] = max(lost["tries"] - 1, 0)
            raise Abort
        return Result()

    def _ama(self, task: TaskFile) -> Result:
        core = self._core
        if core.model.hidden != "ama" or task.feature not in (0, 1, 2):
            raise Abort
        if task.feature == 0:
            return Result(lba=(core.claimed if core.kept["pretends"] else self.native) - 1)
        if core.lost["ama_frozen"]:
            raise Abort
        if task.feature == 2:
            core.lost["ama_frozen"] = True
            return Result()
        if core.lost["max_set"]:
            raise Abort  # ACS-3 §7.1.4: once in a power cycle
        if task.lba >= self.native:
            raise Abort(IDNF)
        self._restrict(task.lba + 1, keep=True)
        core.lost["max_set"] = True
        return Result(lba=task.lba)

    def _dco(self, task: TaskFile) -> Result:
        """RESTORE C0h, FREEZE LOCK C1h, IDENTIFY C2h (DMA C4h) (ATA8-ACS §7.9)."""
        core, action = self._core, task.feature & 0xFF
        if not core.model.dco or core.lost["dco_frozen"]:
            raise Abort
        if action == 0xC1:
            core.lost["dco_frozen"] = True
            return Result()
        if action in (0xC2, 0xC4):
            return Result(data=dco_identify(core.model, core.claimed - 1))
        if action != 0xC0 or core.lost["max"] is not None:
            raise Abort  # a host protected area has to go first
        if core.faults & {fault.HPA_LIES, fault.HPA_LIES_DEEP}:
            core.kept["pretends"] = fault.HPA_LIES_DEEP in core.faults
        else:
            core.kept["dco"] = None
        return Result()
