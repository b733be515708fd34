"""A drive's blocks up to the end that it was made to lay open, which the kernel does not know of.

What the kernel shows goes the kernel's way, so that the medium is the one of the order to everybody. What lies
beyond its end is read and written with the drive's own commands (READ and WRITE SECTOR(S), ACS-3 §7.28, §7.67).
"""

from __future__ import annotations

import errno

from expunge_agent.commands import ata_features as features
from expunge_agent.commands.ata import BLOCK, Ata, AtaCommand
from expunge_agent.commands.kernel_errors import as_os_error
from expunge_agent.commands.port import ScsiPort
from expunge_agent.engine.blocks import Blocks

_MOST = 128
"""Sectors of one command: 64 KiB, which every bridge carries."""

_SHORT = 1 << 28
"""Sectors that 28-bit addresses reach; a larger drive has 48-bit ones."""


class Beyond:
    """`shown` and what follows it up to `size` bytes, as `Blocks`."""

    def __init__(self, shown: Blocks, port: ScsiPort, size: int) -> None:
        self._shown, self._ata, self._extended = shown, Ata(port), size > _SHORT * BLOCK
        self.size, self.block = size, shown.block

    @property
    def direct(self) -> bool:
        """See Blocks."""
        return self._shown.direct

    @property
    def memory(self) -> bool:
        """See Blocks."""
        return self._shown.memory

    @property
    def reads_medium(self) -> bool:
        """See Blocks: no cache of the host knows what lies beyond."""
        return self._shown.reads_medium

    @property
    def io_mode(self) -> str:
        """See Blocks."""
        return f"{self._shown.io_mode}; from byte {self._shown.size} by the drive's own commands"

    def read_into(self, view: memoryview, offset: int) -> None:
        """See Blocks."""
        here = self._part(view, offset)
        if here:
            self._shown.read_into(view[:here], offset)
        for at, count in self._pieces(len(view), here):
            lba = (offset + at) // BLOCK
            view[at : at + count * BLOCK] = self._run(
                features.read_sectors(lba, count, extended=self._extended)
            )

    def write(self, view: memoryview, offset: int) -> None:
        """See Blocks."""
        here = self._part(view, offset)
        if here:
            self._shown.write(view[:here], offset)
        for at, count in self._pieces(len(view), here):
            data = bytes(view[at : at + count * BLOCK])
            lba = (offset + at) // BLOCK
            self._run(features.write_sectors(lba, count, extended=self._extended), data)

    def flush(self) -> None:
        """See Blocks; the drive has one cache for all of it."""
        self._shown.flush()

    def drop_cache(self) -> int | None:
        """See Blocks."""
        return self._shown.drop_cache()

    def check(self) -> None:
        """See Blocks."""
        self._shown.check()

    def answers(self) -> bool:
        """See Blocks."""
        return self._shown.answers()

    def _part(self, view: memoryview, offset: int) -> int:
        """How many bytes of `view` lie before the end that the kernel shows."""
        if offset < 0 or offset + len(view) > self.size:
            raise ValueError(f"{len(view)} bytes at {offset} are outside the drive's {self.size}")
        return min(max(self._shown.size - offset, 0), len(view))

    def _pieces(self, length: int, done: int) -> list[tuple[int, int]]:
        """(offset in the view, sectors) of each command for what is left of `length` bytes after `done`."""
        step = _MOST * BLOCK
        return [(at, min(step, length - at) // BLOCK) for at in range(done, length, step)]

    def _run(self, command: AtaCommand, data: bytes = b"") -> bytes:
        with as_os_error():
            reply = self._ata.run(command, data_out=data)
        if not reply.ok:
            raise OSError(errno.EIO, reply.words)
        return reply.data
