"""Discard, secure discard and zero-out through the block layer, a range at a time.

None of them earns anything (`expunge_agent.core.technique`): the drive may keep the data, and what reads
as zeros afterwards is no evidence. So no order is carried out by one of them alone. Discard is the unmapping before a
UFS purge (`techniques.table`); no other technique has a step of this kind, before or after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge_agent.commands.kernel_block import RangeIoctl, apply
from expunge_agent.commands.port import CommandError, NoPassThrough
from expunge_agent.core.drive import Answer
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status

IOCTLS = {
    Technique.DISCARD: RangeIoctl.BLKDISCARD,
    Technique.SECURE_DISCARD: RangeIoctl.BLKSECDISCARD,
    Technique.ZERO_OUT: RangeIoctl.BLKZEROOUT,
}
STEP = 256 * 1024 * 1024
"""Bytes handed to the kernel at once: a stop is heeded after each."""
_SECONDS_PER_STEP = 120


class Stopped(CommandError):  # noqa: N818 - it says what happened
    """Told to stop: what lies before ``done`` (bytes) has been handled, the rest not."""

    def __init__(self, what: str, done: int, size: int) -> None:
        super().__init__(f"{what} was stopped after {done} of {size} bytes")
        self.done = done


@dataclass
class RangeHand:
    """A `Hand` for one of the ioctls of `IOCTLS` on the open block device `fd`, from byte `done` on.

    `fd` must be open for writing; `size` in bytes, `sector` its logical sector. `stop` is asked before
    each step. `poll` tells how far it is while `start` runs in another thread; of what was done before
    a restart it knows nothing.
    """

    technique: Technique
    fd: int
    size: int
    sector: int = 512
    stop: Callable[[], bool] = lambda: False
    step: int = STEP
    done: int = 0
    waits: bool = True
    _state: State = State.IDLE
    _trouble: str = ""

    def __post_init__(self) -> None:
        if self.technique not in IOCTLS:
            raise ValueError(f"{self.technique} is no operation of the block layer")
        if self.sector < 1 or self.step < self.sector or self.step % self.sector:
            raise ValueError("the step must be a multiple of the logical sector")

    @property
    def timeout(self) -> float:
        """Seconds for all of it: two minutes a step, as a drive declares none."""
        return float(_SECONDS_PER_STEP * max(1, -(-self._whole // self.step)))

    @property
    def _whole(self) -> int:
        """Bytes in whole sectors; what is left over nobody can address."""
        return self.size - self.size % self.sector

    def prepare(self) -> list[Answer]:
        """Nothing to prepare."""
        return []

    def start(self) -> list[Answer]:
        """Handle every range up to the end.

        Raises Rejected when the device has no such operation, Stopped, or CommandError for a range
        that failed: ``done`` then tells what is behind it.
        """
        ioctl, first = IOCTLS[self.technique], self.done
        self._state, self._trouble = State.RUNNING, ""
        try:
            while self.done < self._whole:
                if self.stop():
                    raise Stopped(ioctl.name, self.done, self._whole)
                length = min(self.step - self.done % self.step, self._whole - self.done)
                apply(self.fd, ioctl, self.done, length)
                self.done += length
        except NoPassThrough as error:
            self._fail(error)
            if self.done == first:
                raise Rejected(f"the device has no such operation ({error})") from error
            raise
        except BaseException as error:
            self._fail(error)
            raise
        self._state = State.DONE
        return [Answer(name=f"{ioctl.name} of bytes {first} to {self.done}", hex="")]

    def poll(self) -> Status:
        """How far `start` is."""
        ppm = self.done * 1_000_000 // self._whole if self._whole else 1_000_000
        return Status(
            state=self._state, ppm=ppm if self._state is not State.IDLE else -1, detail=self._trouble
        )

    def settle(self) -> list[Answer]:
        """Nothing is left behind."""
        return []

    def _fail(self, error: BaseException) -> None:
        self._state, self._trouble = State.FAILED, str(error) or type(error).__name__
