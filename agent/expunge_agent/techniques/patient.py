"""Questions to a drive that may never answer: asked beside us, and not waited for beyond patience.

A command to a drive that has gone can hold its thread in the kernel for minutes, where no signal reaches it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from expunge_agent.commands.mmc import MmcCommand, MmcPort
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
from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.problems import Stalled
from expunge_agent.techniques.hand import Cells, Hand, ShowsCells, Status

T = TypeVar("T")


class _Question(Generic[T]):
    """One question, and what came of it. `ended` is held until then."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._answer: list[T] = []
        self._trouble: BaseException | None = None
        self.ended = threading.Lock()
        self.ended.acquire()

    def put(self) -> None:
        """Ask it, in the worker's thread."""
        try:
            self._answer.append(self._call())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            self._trouble = error
        self.ended.release()

    def answer(self) -> T:
        """What the call returned or raised."""
        if self._trouble is not None:
            raise self._trouble
        return self._answer[0]


class Asker:
    """Asks one drive, one question at a time, in a thread of its own. A context manager: the thread ends with it,
    or, where it is stuck, as soon as the kernel lets go of it."""

    def __init__(self, patience: float) -> None:
        """`patience` in seconds."""
        self._patience = patience
        self._asked: SimpleQueue[_Question[Any] | None] = SimpleQueue()
        self._worker: threading.Thread | None = None
        self._pending: _Question[Any] | None = None
        self._awaited: _Question[Any] | None = None
        self._running: _Question[Any] | None = None

    def __enter__(self) -> Asker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._awaited = None  # whoever leaves while a question runs, as by an exception, has given it up
        self._asked.put(None)

    @property
    def long(self) -> float:
        """Seconds for a chain of commands, one of which may be a drive's acceptance of an erase (300 s)."""
        return max(3 * self._patience, 400.0) if self._patience >= 60.0 else 3 * self._patience

    @property
    def stuck(self) -> bool:
        """Whether a question is still in the kernel, with the descriptor it was asked through."""
        return self._pending is not None and self._pending.ended.locked()

    def ask(self, question: Callable[[], T], patience: float | None = None) -> T:
        """What `question` returns or raises. Raises CommandTimeout when it, or one before it, is not answered."""
        limit = self._patience if patience is None else patience
        if self._pending is not None and not self._pending.ended.acquire(timeout=limit):
            raise CommandTimeout("the drive has not answered an earlier question")
        if self._worker is None:
            # A daemon: stuck in the kernel it must not keep the program from ending.
            self._worker = threading.Thread(target=self._work, name="ask", daemon=True)
            self._worker.start()
        asked: _Question[T] = _Question(question)
        self._pending = self._awaited = asked
        self._asked.put(asked)
        if not asked.ended.acquire(timeout=limit):
            self._awaited = None
            raise CommandTimeout(f"the drive did not answer within {limit:.0f} s")
        self._pending = None
        return asked.answer()

    def still_awaited(self) -> None:
        """To be asked before each command. Raises CommandTimeout in a question that was given up: whoever
        asked it has gone on, and nothing more may be sent in its name."""
        if self._running is None or self._running is not self._awaited:
            raise CommandTimeout("the question was given up")

    def _work(self) -> None:
        while (question := self._asked.get()) is not None:
            self._running = question
            question.put()
            self._running = None


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


class GatedMmc:
    """An `MmcPort` that asks before each command whether it may still be sent."""

    def __init__(self, port: MmcPort, gate: Callable[[], None]) -> None:
        self._port, self._gate = port, gate

    def read(self, command: MmcCommand, length: int) -> bytes:
        """See `MmcPort`."""
        self._gate()
        return self._port.read(command, length)

    def send(self, commands: Sequence[MmcCommand]) -> list[int]:
        """See `MmcPort`."""
        self._gate()
        return self._port.send(commands)


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


class PatientBlocks:
    """`Blocks` whose every read, write and flush has an end: Stalled where there is no answer.

    A thread may then still be in the kernel with the descriptor: see `Asker.stuck`.
    """

    def __init__(self, blocks: Blocks, asker: Asker) -> None:
        self._blocks, self._asker = blocks, asker
        self.size, self.block = blocks.size, blocks.block

    @property
    def direct(self) -> bool:
        """See `Blocks`."""
        return self._blocks.direct

    @property
    def memory(self) -> bool:
        """See `Blocks`."""
        return self._blocks.memory

    @property
    def reads_medium(self) -> bool:
        """See `Blocks`."""
        return self._blocks.reads_medium

    @property
    def io_mode(self) -> str:
        """See `Blocks`."""
        return self._blocks.io_mode

    def read_into(self, view: memoryview, offset: int) -> None:
        """See `Blocks`."""
        self._ask("read", lambda: self._blocks.read_into(view, offset))

    def write(self, view: memoryview, offset: int) -> None:
        """See `Blocks`."""
        self._ask("write", lambda: self._blocks.write(view, offset))

    def flush(self) -> None:
        """See `Blocks`."""
        self._ask("flush", self._blocks.flush)

    def drop_cache(self) -> int | None:
        """See `Blocks`."""
        return self._ask("flush", self._blocks.drop_cache)

    def check(self) -> None:
        """See `Blocks`."""
        self._ask("asking its size", self._blocks.check)

    def answers(self) -> bool:
        """See `Blocks`."""
        return self._ask("read", self._blocks.answers)

    def _ask(self, doing: str, question: Callable[[], T]) -> T:
        try:
            return self._asker.ask(question)
        except CommandTimeout as error:
            raise Stalled(f"{doing}: {error}") from error


class PatientCells(PatientBlocks):
    """`Cells` whose every read has an end."""

    def __init__(self, cells: Cells, asker: Asker) -> None:
        super().__init__(cells, asker)
        self._cells = cells

    @property
    def from_cells(self) -> int:
        """See `Cells`."""
        return self._cells.from_cells
