"""The cells of a sanitized NVMe namespace, read in the media verification state (Base 2.1 §8.1.24.3.6).

Reads go past the block layer: what they end with when they give data (NVM Command Set 1.1 §5.10.1, status 19Ch) is
no success to it, and the data would be dropped. The controller then gives what the cells hold, integrity errors
or not, and may give something else at the next read.
"""

from __future__ import annotations

import errno

from expunge_agent.commands import nvme
from expunge_agent.commands.kernel_errors import as_os_error
from expunge_agent.commands.nvme_status import SUCCESS, VERIFICATION_READ, words
from expunge_agent.commands.port import NvmeReader

_MOST = 64 * 1024
"""Bytes of one command: within what every controller and the driver take at once."""


class NvmeCells:
    """`size` bytes of namespace `nsid` in blocks of `block` bytes, as `Blocks` that can only be read.

    ``from_cells``: bytes of reads that the drive called media verification reads. It answers with an ordinary
    success where nothing is allocated.
    """

    direct = True
    memory = False
    reads_medium = True
    io_mode = "the drive's own reads in its media verification state"

    def __init__(self, reader: NvmeReader, nsid: int, size: int, block: int) -> None:
        self._reader, self._nsid = reader, nsid
        self.size, self.block = size, block
        self.from_cells = 0

    def read_into(self, view: memoryview, offset: int) -> None:
        """See `Blocks`."""
        if offset < 0 or offset % self.block or len(view) % self.block or offset + len(view) > self.size:
            raise ValueError(f"{len(view)} bytes at {offset} are not blocks of the namespace")
        for at in range(0, len(view), _MOST):
            length = min(_MOST, len(view) - at)
            view[at : at + length] = self._read(offset + at, length)

    def _read(self, offset: int, length: int) -> bytes:
        command = nvme.read_blocks(self._nsid, offset // self.block, length // self.block)
        with as_os_error():
            reply = self._reader.read(command, length)
        if reply.status not in (SUCCESS, VERIFICATION_READ):
            raise OSError(errno.EIO, words(reply.status))
        if len(reply.data) < length:
            raise OSError(errno.EIO, f"{len(reply.data)} of {length} bytes came")
        if reply.status == VERIFICATION_READ:
            self.from_cells += length
        return reply.data

    def write(self, view: memoryview, offset: int) -> None:
        """Nothing is written in this state. Raises OSError."""
        raise OSError(errno.EROFS, f"{len(view)} bytes at {offset}: cells are only looked at")

    def flush(self) -> None:
        """See `Blocks`: nothing was written."""

    def drop_cache(self) -> int | None:
        """See `Blocks`: no cache of the host is asked."""
        return 0

    def check(self) -> None:
        """See `Blocks`: that the drive is gone is told by its reads."""

    def answers(self) -> bool:
        """See `Blocks`."""
        try:
            self._read(0, self.block)
        except OSError:
            return False
        return True
