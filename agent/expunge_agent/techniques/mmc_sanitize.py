"""eMMC: sanitize and secure erase (JESD84-B51 §6.6.12 Sanitize, §6.6.9 Erase, §6.6.10 Secure Erase).

Both reach the user area only: boot, RPMB and general purpose partitions keep their data, which the plan
and the receipt say (`expunge_agent.commands.mmc.ExtCsd.outside`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge_agent.commands import mmc
from expunge_agent.commands.port import CommandError
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status

_SANITIZE_SECONDS = 3600
"""JESD84-B51 declares no time for it; the kernel's own limit of 240 seconds is short for a large device."""
_GROUPS_AT_ONCE = 256
_MARGIN_SECONDS = 10


@dataclass
class MmcErase:
    """A `Hand` for MMC_SANITIZE and MMC_SECURE_ERASE; `address` is the device's RCA (sysfs ``device/rca``).

    Sanitize removes what the user area no longer maps, so that everything is erased first, which
    unmaps it; this order is why `start` and not `prepare` does both.
    """

    port: mmc.MmcPort
    technique: Technique
    address: int
    stop: Callable[[], bool] = lambda: False
    waits: bool = True
    timeout: float = 2.0 * _SANITIZE_SECONDS
    _state: State = State.IDLE
    _ppm: int = -1

    def prepare(self) -> list[Answer]:
        """Check that the device offers it and waits for commands. Raises Rejected, CommandError."""
        raw, csd = self._look()
        answers = [_register(raw), *self._idle()]
        offered = {one.technique: one for one in csd.abilities()}
        ability = offered.get(self.technique)
        if ability is None or not ability.offered:
            raise Rejected(ability.why if ability else "not an eMMC technique", answers)
        if not csd.erase_group:
            raise Rejected("the device does not tell the size of its erase groups", answers)
        if astray := csd.astray():
            raise Rejected(astray, answers)
        return answers

    def start(self) -> list[Answer]:
        """Erase every group of the user area, then sanitize if that is the technique; returns at the end.

        Raises Rejected when the device does not offer it; CommandError for all that fails once erasing began.
        """
        answers = self.prepare()
        _raw, csd = self._look()
        self._state = State.RUNNING
        try:
            answers += self._erase_all(csd)
            if self.technique is Technique.MMC_SANITIZE:
                answers += self._sanitize()
            answers += self._idle()
        except BaseException:
            self._state = State.FAILED
            raise
        self._state, self._ppm = State.DONE, 1_000_000
        return answers

    def poll(self) -> Status:
        """How far `start` is; the device itself remembers nothing of an operation that ended."""
        return Status(self._state, ppm=self._ppm)

    def settle(self) -> list[Answer]:
        """Nothing is left behind."""
        return []

    def _look(self) -> tuple[bytes, mmc.ExtCsd]:
        raw = self.port.read(mmc.MmcCommand(mmc.SEND_EXT_CSD, 0), mmc.EXT_CSD_BYTES)
        try:
            return raw, mmc.parse_ext_csd(raw)
        except mmc.NotExtCsd as error:
            raise Rejected(f"EXT_CSD: {error}", [_register(raw)]) from error

    def _erase_all(self, csd: mmc.ExtCsd) -> list[Answer]:
        secure = self.technique is Technique.MMC_SECURE_ERASE
        argument = mmc.SECURE_ERASE_ARG if secure else mmc.ERASE_ARG
        seconds = csd.secure_erase_seconds if secure else csd.erase_seconds
        limit = 1000 * (_MARGIN_SECONDS + seconds * _GROUPS_AT_ONCE)
        share = 500_000 if self.technique is Technique.MMC_SANITIZE else 1_000_000
        answers: list[Answer] = []
        for first in range(0, csd.size, csd.erase_group * _GROUPS_AT_ONCE):
            if self.stop():
                raise CommandError(f"the erase was stopped after {first} of {csd.size} bytes")
            end = min(first + csd.erase_group * _GROUPS_AT_ONCE, csd.size)
            # the addresses of the first and the last sector
            ends = (first // csd.unit, (end - mmc.SECTOR) // csd.unit)
            statuses = self.port.send(mmc.erase(*ends, argument, milliseconds=limit))
            for status in statuses:
                if trouble := mmc.trouble(status):
                    raise CommandError(f"erase of bytes {first} to {end}: {trouble}")
            answers.append(_statuses(f"erase of bytes {first} to {end}", statuses))
            self._ppm = end * share // csd.size
        return answers[:1] + answers[1:][-1:]  # the first and the last stand for those between

    def _sanitize(self) -> list[Answer]:
        command = mmc.switch(mmc.SANITIZE_START, 1, milliseconds=1000 * _SANITIZE_SECONDS)
        statuses = self.port.send([command])
        for status in statuses:
            if trouble := mmc.trouble(status):
                raise CommandError(f"sanitize: {trouble}")
        if statuses == [0]:  # Linux does this one itself and fills in no response (drivers/mmc/core/block.c)
            return [
                Answer(name="SANITIZE_START, ended well by the kernel's account, which has no R1", hex="")
            ]
        return [_statuses("SANITIZE_START", statuses)]

    def _idle(self) -> list[Answer]:
        """The device's status, which must be that of one that is done. Raises CommandError."""
        statuses = self.port.send([mmc.MmcCommand(mmc.SEND_STATUS, self.address << 16)])
        if trouble := mmc.trouble(statuses[0]):
            raise CommandError(f"the device reports: {trouble}")
        if not mmc.is_ready(statuses[0]):
            raise CommandError(f"the device is not ready (status {statuses[0]:#010x})")
        return [_statuses("SEND_STATUS", statuses)]


def _register(raw: bytes) -> Answer:
    return Answer(name="EXT_CSD", hex=raw.hex())


def _statuses(name: str, statuses: list[int]) -> Answer:
    return Answer(name=f"{name}, R1", hex="".join(f"{status:08x}" for status in statuses))
