"""The Security feature set of an ATA drive (ACS-3 §4.18): passwords, SEC1 to SEC6, erase."""

from __future__ import annotations

from lab.drives import faults as fault
from lab.drives.ata_core import Abort, Core, Result, TaskFile

SET_PASSWORD, UNLOCK, ERASE_PREPARE = 0xF1, 0xF2, 0xF3
ERASE_UNIT, FREEZE_LOCK, DISABLE_PASSWORD = 0xF4, 0xF5, 0xF6
COMMANDS = frozenset(range(0xF1, 0xF7))
TRIES = 5
KIND = "security"
UNKNOWN = "75 6e 6b 6e 6f 77 6e 20".replace(" ", "") + "a7" * 24
"""The user password of a drive that came locked."""


class Security:
    """State between commands: ``user`` and ``master`` in hexadecimal, ``maximum``; volatile: locked, frozen, tries."""

    def __init__(self, core: Core) -> None:
        self._core = core
        came_locked = fault.LOCKED in core.faults
        core.kept.setdefault("user", UNKNOWN if came_locked else None)
        core.kept.setdefault("master", UNKNOWN[::-1] if came_locked else bytes(32).hex())
        core.kept.setdefault("master_id", 0xFFFE)
        core.kept.setdefault("maximum", False)

    @property
    def state(self) -> str:
        """SEC1, SEC2 (disabled), SEC4, SEC5, SEC6 (enabled); the standard's names."""
        lost = self._core.lost
        if not self.enabled:
            return "SEC2" if lost["frozen"] else "SEC1"
        return "SEC4" if lost["locked"] else "SEC6" if lost["frozen"] else "SEC5"

    @property
    def enabled(self) -> bool:
        return self._core.kept["user"] is not None

    def power_on(self, *, frozen: bool) -> None:
        """SEC0 to SEC1 or SEC3 to SEC4; then, when `frozen`, the machine's firmware sends FREEZE LOCK."""
        self._core.lost.update(locked=self.enabled, frozen=False, left=TRIES, prepared=False)
        if frozen and not self.enabled:
            self._core.lost["frozen"] = True  # SEC4 aborts the firmware's FREEZE LOCK

    def execute(self, task: TaskFile, data: bytes) -> Result:
        """One of COMMANDS; ERASE UNIT only begins (the drive stays busy with it). Raises Abort."""
        core = self._core
        if not core.model.security:
            raise Abort
        prepared, core.lost["prepared"] = core.lost["prepared"], False
        if task.command == FREEZE_LOCK:
            if self.state == "SEC4":
                raise Abort
            core.lost["frozen"] = True
            return Result()
        if core.lost["frozen"]:
            raise Abort
        if task.command == ERASE_PREPARE:
            core.lost["prepared"] = True
        elif task.command == SET_PASSWORD:
            self._set(data)
        elif task.command == UNLOCK:
            self._unlock(data)
        elif task.command == DISABLE_PASSWORD:
            self._disable(data)
        else:
            self._erase(data, prepared=prepared)
        return Result()

    def _set(self, data: bytes) -> None:
        kept = self._core.kept
        if self.state == "SEC4":
            raise Abort
        if data[0] & 1:
            revision = int.from_bytes(data[34:36], "little")
            kept["master"] = data[2:34].hex()
            if revision not in (0x0000, 0xFFFF):
                kept["master_id"] = revision
        else:
            kept["user"], kept["maximum"] = data[2:34].hex(), bool(data[1] & 1)

    def _right(self, data: bytes, *, master: bool) -> bool:
        """Compare the password; `master`: whether the master password may be used now."""
        kept, given = self._core.kept, data[2:34].hex()
        if data[0] & 1:
            return master and given == kept["master"]
        return kept["user"] is not None and given == kept["user"]

    def _unlock(self, data: bytes) -> None:
        core = self._core
        if self.state != "SEC4":
            if self.enabled and self._right(data, master=not core.kept["maximum"]):
                return
            raise Abort
        if not core.lost["left"]:
            raise Abort
        if not self._right(data, master=not core.kept["maximum"]):
            core.lost["left"] -= 1
            raise Abort
        core.lost.update(locked=False, left=TRIES)

    def _disable(self, data: bytes) -> None:
        core = self._core
        if self.state == "SEC4" or not self._right(data, master=not core.kept["maximum"]):
            raise Abort
        core.kept["user"] = None

    def _erase(self, data: bytes, *, prepared: bool) -> None:
        core = self._core
        enhanced = bool(data[0] & 2)
        if not prepared or not core.lost["left"] or (enhanced and not core.model.enhanced):
            raise Abort
        if not self._right(data, master=True):
            raise Abort
        # Normal: up to the native maximum; enhanced: every sector that ever held user data (ACS-3 §7.39).
        native = core.claimed if core.kept["dco"] is None else core.kept["dco"]
        end = core.store.size if enhanced else min(native * core.model.sector, core.store.size)
        if core.kept["pretends"]:
            end = min(end, (core.lost["max"] or core.kept["dco"] or core.real) * core.model.sector)
        crypto = enhanced and core.model.encrypts
        core.begin(KIND, seconds=core.model.security_seconds, end=end, crypto=crypto)

    def ended(self, *, well: bool) -> None:
        """The erase is over: SEC1 when it went well, else the drive is locked."""
        if well:
            self._core.kept.update(user=None, maximum=False)
            self._core.lost["locked"] = False
        else:
            self._core.lost["locked"] = self.enabled
