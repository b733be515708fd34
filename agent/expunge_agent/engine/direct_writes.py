"""Files on btrfs: direct writes stay direct there, direct reads may quietly go through the page cache.

Observed with Linux 6.18: a direct read of a written extent leaves its pages in the cache. Buffered writes are no way
out: on a full btrfs each of them first tries to find new space, which makes them a hundred times slower.
"""

from __future__ import annotations

import os

from expunge_agent.engine import pagecache
from expunge_agent.engine.buffers import PAGE
from expunge_agent.engine.target import Target, write_all


class DirectWrites(Target):
    """A file of a multiple of `block` bytes, written with O_DIRECT and read after its pages were dropped."""

    def __init__(self, fd: int, size: int, block: int) -> None:
        """Take over `fd`; as `Target`. Raises OSError too, where the file cannot be opened for direct I/O."""
        self._writer = -1
        self._stayed = 0
        super().__init__(fd, size, block=block)
        if self._direct >= 0:
            os.close(self._direct)
            self._direct = -1
        self.block = block
        self._writer = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)

    @property
    def reads_medium(self) -> bool:
        """Whether no page was left in the cache before any of the reads."""
        return self._stayed == 0

    @property
    def io_mode(self) -> str:
        """How bytes travel; one line for receipts."""
        stayed = f", {self._stayed} pages stayed in it" if self._stayed else ""
        return f"written directly; cache dropped before each read{stayed}"

    def write(self, view: memoryview, offset: int) -> None:
        """As `Target.write`."""
        self._bounds(view, offset)
        if os.fstat(self._fd).st_size < self.size:
            self.check()
        write_all(self._writer, view, offset, self.block)

    def read_into(self, view: memoryview, offset: int) -> None:
        """As `Target.read_into`; what of the range is in the cache is dropped first, and counted if it stays."""
        os.posix_fadvise(self._fd, offset, len(view), os.POSIX_FADV_DONTNEED)
        stayed = pagecache.resident(self._fd, offset - offset % PAGE, len(view))
        self._stayed += 1 if stayed is None else stayed
        super().read_into(view, offset)

    def abandon(self) -> None:
        """As `Target.abandon`."""
        self._writer = -1
        super().abandon()

    def close(self) -> None:
        """As `Target.close`."""
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = -1
        super().close()
