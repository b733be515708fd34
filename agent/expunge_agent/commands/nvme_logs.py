"""NVMe log pages taken apart: health, and the Sanitize Status log with the words of Sanitize (NVM Express Base 2.0)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from expunge_agent.commands.nvme_bytes import enough, number

LOG_BYTES = 512
_NO_ESTIMATE = 0xFFFFFFFF


class Action(IntEnum):
    """SANACT of the Sanitize command (Base figure 304; 5: Base 2.1, exit media verification state)."""

    EXIT_FAILURE = 1
    BLOCK_ERASE = 2
    OVERWRITE = 3
    CRYPTO_ERASE = 4
    EXIT_VERIFICATION = 5

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return self.name.lower().replace("_", " ")


class Sos(IntEnum):
    """Sanitize operation status, SSTAT bits 2:0 (Base figure 267)."""

    NEVER = 0
    DONE = 1
    RUNNING = 2
    FAILED = 3
    DONE_DEALLOCATED = 4
    """Done, and deallocated although no-deallocate had been asked for."""


class Sans(IntEnum):
    """Sanitize state, SSI bits 3:0 (Base 2.1 §8.1.24.3). Zero also where the drive is older than that."""

    IDLE = 0
    RESTRICTED_PROCESSING = 1
    RESTRICTED_FAILURE = 2
    UNRESTRICTED_PROCESSING = 3
    UNRESTRICTED_FAILURE = 4
    MEDIA_VERIFICATION = 5
    POST_VERIFICATION_DEALLOCATION = 6


@dataclass(frozen=True)
class HealthLog:
    """SMART / Health Information, log 02h (Base figure 207). ``celsius`` None when it reports 0 K."""

    warning: int
    celsius: int | None
    spare: int
    used_percent: int
    power_on_hours: int
    unsafe_shutdowns: int
    media_errors: int


@dataclass(frozen=True)
class SanitizeLog:
    """Sanitize Status, log 81h (Base figure 267; ``ssi`` Base 2.1). Estimates in seconds, −1 unknown.

    ``estimates`` and ``estimates_kept`` (for no-deallocate) are by action; overwrite's are for 16 passes.
    """

    sprog: int
    sstat: int
    scdw10: int
    estimates: dict[Action, int]
    estimates_kept: dict[Action, int]
    ssi: int
    deallocation: int = -1
    """The time declared for the deallocation after a media verification (ETPVDS, Base 2.1)."""

    @property
    def sos(self) -> int:
        """The most recent operation, a value of `Sos` (5 to 7: reserved)."""
        return self.sstat & 7

    @property
    def done(self) -> bool:
        """The most recent operation ended well, whoever started it and whenever: 1 and 4 both mean so."""
        return self.sos in (Sos.DONE, Sos.DONE_DEALLOCATED)

    @property
    def passes(self) -> int:
        """Passes of an overwrite that are completed."""
        return self.sstat >> 3 & 0x1F

    @property
    def erased(self) -> bool:
        """Global data erased: nothing was written since the operation (or since manufacture)."""
        return bool(self.sstat & 0x100)

    @property
    def verification_cancelled(self) -> bool:
        """The media verification state was asked for, and a reset ended or prevented it (MVCNCLD, Base 2.1)."""
        return bool(self.sstat & 0x200)

    @property
    def action(self) -> int:
        """SANACT of the command that started the most recent operation."""
        return self.scdw10 & 7

    @property
    def ause(self) -> bool:
        """The most recent operation may be left after a failure (AUSE)."""
        return bool(self.scdw10 & 8)

    @property
    def kept(self) -> bool:
        """The most recent operation was asked not to deallocate."""
        return bool(self.scdw10 & 0x200)

    @property
    def verifying(self) -> bool:
        """A media verification state, which counts as an operation in progress (Base 2.1 §8.1.24). What is older
        than Base 2.1 has zeros there."""
        return self.sos in (Sos.RUNNING, Sos.DONE) and self.state == Sans.MEDIA_VERIFICATION

    @property
    def deallocating(self) -> bool:
        """The deallocation after a media verification is under way."""
        return self.sos == Sos.RUNNING and self.state == Sans.POST_VERIFICATION_DEALLOCATION

    @property
    def state(self) -> int:
        """A value of `Sans`; 0 also where the drive is older than Base 2.1."""
        return self.ssi & 0xF

    @property
    def ppm(self) -> int:
        """Progress of a running operation in parts per million (SPROG / 65536)."""
        return self.sprog * 1_000_000 // 65536

    def seconds(self, action: Action, *, passes: int = 1, no_deallocate: bool = False) -> int:
        """The time the drive declares for such an operation, −1 unknown."""
        estimate = self.estimates.get(action, -1)
        if no_deallocate and self.estimates_kept.get(action, -1) > 0:  # zero: older than Base 1.4
            estimate = self.estimates_kept[action]
        if action is Action.OVERWRITE and estimate > 0:
            return -(-estimate * passes // 16)
        return estimate


def health_log(data: bytes) -> HealthLog:
    """Take log 02h apart. Raises BadAnswer."""
    enough(data, LOG_BYTES, "SMART / Health Information log")
    kelvin = number(data, 1, 2)
    return HealthLog(
        warning=data[0],
        celsius=kelvin - 273 if kelvin else None,
        spare=data[3],
        used_percent=data[5],
        power_on_hours=number(data, 128, 16),
        unsafe_shutdowns=number(data, 144, 16),
        media_errors=number(data, 160, 16),
    )


def sanitize_log(data: bytes) -> SanitizeLog:
    """Take log 81h apart. Raises BadAnswer."""
    enough(data, LOG_BYTES, "Sanitize Status log")
    order = (Action.OVERWRITE, Action.BLOCK_ERASE, Action.CRYPTO_ERASE)
    times = [number(data, at, 4) for at in range(8, 32, 4)]
    times = [-1 if value == _NO_ESTIMATE else value for value in times]
    return SanitizeLog(
        sprog=number(data, 0, 2),
        sstat=number(data, 2, 2),
        scdw10=number(data, 4, 4),
        estimates=dict(zip(order, times[:3], strict=True)),
        estimates_kept=dict(zip(order, times[3:], strict=True)),
        ssi=data[36],
        deallocation=-1 if number(data, 32, 4) == _NO_ESTIMATE else number(data, 32, 4),
    )
