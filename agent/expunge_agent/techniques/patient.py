"""Questions to a drive that may never answer: asked beside us, and not waited for beyond patience.

A command to a drive that has gone can hold its thread in the kernel for minutes, where no signal reaches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from expunge_agent.commands.port import (
    CommandTimeout,
    NvmeCommand,
    NvmePort,
    NvmeReader,
    NvmeReply,
    ScsiPort,
    ScsiReply,
)
from expunge_agent.commands.ufs import UfsPort
from expunge_agent.core.drive import Answer
from expunge_agent.engine.problems import Stalled
from expunge_agent.techniques.hand import Cells, Hand, ShowsCells, Status

T = TypeVar("T")


class Asker:
    """Asks one drive, one question at a time."""

    def __init__(self, patience: float) -> None:
        """`patience` in seconds."""
        self._patience = patience
        self._worker: threading.Thread | None = None
        self._awaited: object | None = None
        self._mine = threading.local()

    @property
    def long(self) -> float:
        """Seconds for a chain of commands, one of which may be a drive's acceptance of an erase (300 s)."""
        return max(3 * self._patience, 400.0) if self._patience >= 60.0 else 3 * self._patience

    @property
    def stuck(self) -> bool:
        """Whether a question is still in the kernel, with the descriptor it was asked through."""
        return self._worker is not None and self._worker.is_alive()

    def ask(self, question: Callable[[], T], patience: float | None = None) -> T:
        """What `question` returns or raises. Raises CommandTimeout when it, or one before it, is not answered."""
        limit = self._patience if patience is None else patience
        if self._worker is not None:
            self._worker.join(limit)
            if self._worker.is_alive():
                raise CommandTimeout("the drive has not answered an earlier question")
        answer: list[T] = []
        trouble: list[BaseException] = []
        token = self._awaited = object()

        def work() -> None:
            self._mine.token = token
            try:
                answer.append(question())
            except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
                trouble.append(error)

        # A daemon: stuck in the kernel it must not keep the program from ending.
        self._worker = threading.Thread(target=work, name="ask", daemon=True)
        self._worker.start()
        self._worker.join(limit)
        if self._worker.is_alive():
            self._awaited = None
            raise CommandTimeout(f"the drive did not answer within {limit:.0f} s")
        self._worker = None
        if trouble:
            raise trouble[0]
        return answer[0]

    def still_awaited(self) -> None:
        """To be asked before each command. Raises CommandTimeout in a question that was given up: whoever
        asked it has gone on, and nothing more may be sent in its name."""
        if getattr(self._mine, "token", None) is not self._awaited:
            raise CommandTimeout("the question was given up")


class GatedScsi:
    """A `ScsiPort` that asks before each command whether it may still be sent."""

    def __init__(self, port: ScsiPort, gate: Callable[[], None]) -> None:
        self._port, self._gate = port, gate

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        """See `ScsiPort`."""
        self._gate()
        return self._port.scsi(cdb, data_in=data_in, data_out=data_out, timeout=timeout)


class GatedNvme:
    """An `NvmePort` that asks before each command whether it may still be sent."""

    def __init__(self, port: NvmePort, gate: Callable[[], None]) -> None:
        self._port, self._gate = port, gate

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        """See `NvmePort`."""
        self._gate()
        return self._port.admin(command, data_in=data_in, data_out=data_out, timeout=timeout)


class GatedReader:
    """An `NvmeReader` that asks before each command whether it may still be sent."""

    def __init__(self, reader: NvmeReader, gate: Callable[[], None]) -> None:
        self._reader, self._gate = reader, gate

    def read(self, command: NvmeCommand, size: int, *, timeout: float = 20.0) -> NvmeReply:
        """See `NvmeReader`."""
        self._gate()
        return self._reader.read(command, size, timeout=timeout)


class GatedUfs:
    """A `UfsPort` that asks before each query whether it may still be sent."""

    def __init__(self, port: UfsPort, gate: Callable[[], None]) -> None:
        self._port, self._gate = port, gate

    def exchange(self, request: bytes) -> bytes:
        """See `UfsPort`."""
        self._gate()
        return self._port.exchange(request)


class PatientHand:
    """A `Hand` whose every question has an end."""

    def __init__(self, hand: Hand, asker: Asker) -> None:
        self._hand, self._asker = hand, asker
        self.technique = hand.technique
        self.waits = hand.waits
        self.timeout = hand.timeout

    def prepare(self) -> list[Answer]:
        """See `Hand`."""
        return self._asker.ask(self._hand.prepare, self._asker.long)

    def start(self) -> list[Answer]:
        """See `Hand`. One that waits for the end is given the time the drive declares."""
        return self._asker.ask(self._hand.start, self.timeout if self.waits else self._asker.long)

    def poll(self) -> Status:
        """See `Hand`."""
        return self._asker.ask(self._hand.poll)

    def settle(self) -> list[Answer]:
        """See `Hand`."""
        return self._asker.ask(self._hand.settle, self._asker.long)

    def cells(self) -> Cells | None:
        """See `ShowsCells`; None also for a hand that is none."""
        if not isinstance(self._hand, ShowsCells):
            return None
        cells = self._asker.ask(self._hand.cells)
        return PatientCells(cells, self._asker) if cells is not None else None


class PatientCells:
    """`Cells` whose every read has an end: Stalled where there is no answer."""

    def __init__(self, cells: Cells, asker: Asker) -> None:
        self._cells, self._asker = cells, asker
        self.size, self.block = cells.size, cells.block
        self.direct, self.memory = cells.direct, cells.memory
        self.reads_medium, self.io_mode = cells.reads_medium, cells.io_mode

    @property
    def from_cells(self) -> int:
        """See `Cells`."""
        return self._cells.from_cells

    def read_into(self, view: memoryview, offset: int) -> None:
        """See `Blocks`."""
        self._ask(lambda: self._cells.read_into(view, offset))

    def write(self, view: memoryview, offset: int) -> None:
        """See `Blocks`."""
        self._ask(lambda: self._cells.write(view, offset))

    def flush(self) -> None:
        """See `Blocks`."""
        self._ask(self._cells.flush)

    def drop_cache(self) -> int | None:
        """See `Blocks`."""
        return self._ask(self._cells.drop_cache)

    def check(self) -> None:
        """See `Blocks`."""
        self._ask(self._cells.check)

    def answers(self) -> bool:
        """See `Blocks`."""
        return self._ask(self._cells.answers)

    def _ask(self, question: Callable[[], T]) -> T:
        try:
            return self._asker.ask(question)
        except CommandTimeout as error:
            raise Stalled(f"reading its cells: {error}") from error
