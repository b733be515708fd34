"""An opened medium: aligned direct reads and writes, the odd tail, flushing, and dropping the cache."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from expunge_agent.engine import pagecache
from expunge_agent.engine.buffers import KIB, PAGE, aligned
from expunge_agent.engine.problems import TargetGone, TargetShrank, describe, fatal, is_medium_error

_BLKSSZGET = 0x1268  # linux/fs.h: logical block size of a block device
_PROBE = 64 * KIB


class Target:
    """A block device or regular file of `size` bytes behind an open, identity-checked descriptor.

    Ranges given to `write` and `read_into` begin at a multiple of `block` and end at one or at
    `size`; nothing is ever written beyond `size`, and a file never grows. Several threads may use
    one target at once. OSError comes through as the system gave it.
    """

    def __init__(self, fd: int, size: int, *, block: int | None = None) -> None:
        """Take over `fd` (O_RDWR, or O_RDONLY for verification); `close` closes it.

        `block` is the logical block size in bytes; left out, the device is asked, or for a file the
        smallest that direct I/O takes is found by trying. On an exception `fd` stays the caller's.
        Raises ValueError for anything that is not a medium, TargetShrank if it is smaller than `size`,
        TargetGone or TargetRefused where the system does not even let it be looked at.
        """
        try:
            self._take(fd, size, block)
        except OSError as error:
            raise fatal(error, "opening") from error

    def _take(self, fd: int, size: int, block: int | None) -> None:
        status = os.fstat(fd)
        self._regular = stat.S_ISREG(status.st_mode)
        if not self._regular and not stat.S_ISBLK(status.st_mode):
            raise ValueError("a target is a regular file or a block device")
        if size <= 0:
            raise ValueError(f"a target of {size} bytes cannot be overwritten")
        self._fd = fd
        self.size = size
        self.writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        self.memory = self._regular and pagecache.in_memory(fd)
        self._cached: int | None = None
        self._dropped = False
        self.check()
        self._direct = -1
        self.block = block or self._ask_block()
        if not self.memory:
            self._direct, self.block = self._open_direct(block)

    def _ask_block(self) -> int:
        if self._regular:
            return 512
        answer = fcntl.ioctl(self._fd, _BLKSSZGET, bytes(4))
        return int.from_bytes(answer, "little") or 512

    def _open_direct(self, block: int | None) -> tuple[int, int]:
        """A second descriptor with O_DIRECT and the block size it takes, or −1 and the present one."""
        flags = (os.O_RDWR if self.writable else os.O_RDONLY) | os.O_DIRECT | os.O_CLOEXEC
        try:
            direct = os.open(f"/proc/self/fd/{self._fd}", flags)
        except OSError:
            return -1, self.block
        try:
            for candidate in (self.block,) if block or not self._regular else (512, 4096):
                if self._takes(direct, candidate) and self._bypasses_cache(direct, candidate):
                    return direct, candidate
        except BaseException:
            os.close(direct)
            raise
        os.close(direct)
        return -1, self.block

    def _takes(self, direct: int, block: int) -> bool:
        """Whether direct reads work at multiples of `block`. A bad sector there is no reason against it."""
        offset = block if self.size >= 2 * block else 0
        if self.size < block or not os.path.samestat(os.fstat(direct), os.fstat(self._fd)):
            return False
        try:
            return os.preadv(direct, [aligned(block)], offset) > 0
        except OSError as error:
            return error.errno not in (errno.EINVAL, errno.EOPNOTSUPP)

    def _bypasses_cache(self, direct: int, block: int) -> bool:
        """Whether a direct read leaves the page cache alone; some file systems quietly use it."""
        length = min(_PROBE, self.size - self.size % block)
        for _ in range(3):  # somebody else may be reading just now
            os.posix_fadvise(self._fd, 0, length, os.POSIX_FADV_DONTNEED)
            if pagecache.resident(self._fd, 0, length):
                self._settle()  # dirty pages are not dropped
                os.posix_fadvise(self._fd, 0, length, os.POSIX_FADV_DONTNEED)
                if pagecache.resident(self._fd, 0, length):
                    return True  # mapped or locked by somebody: it cannot be told, so the flag is believed
            try:
                os.preadv(direct, [aligned(length)], 0)
            except OSError:
                return True
            if not pagecache.resident(self._fd, 0, length):
                return True
        return False

    def _settle(self) -> None:
        """Bring to the medium what others wrote before. What it loses of that is none of our bytes."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if not is_medium_error(error):
                raise

    @property
    def direct(self) -> bool:
        """Whether reads and writes go past the page cache."""
        return self._direct >= 0

    @property
    def reads_medium(self) -> bool:
        """Whether reads from now on are known to come from the medium, not from the page cache.

        True with direct I/O, on a memory file system, and after `drop_cache` left nothing behind.
        """
        return self.direct or self.memory or (self._dropped and self._cached == 0)

    @property
    def io_mode(self) -> str:
        """How bytes travel, and what could be assured of reads; one line for receipts."""
        if self.memory:
            return "memory file system: the cache is the medium"
        if self.direct:
            return "direct, tail buffered" if self.size % self.block and self.writable else "direct"
        if not self._dropped:
            return "buffered"
        if self._cached == 0:
            return "buffered, cache dropped"
        if self._cached is None:
            return "buffered, cache dropped but not checked"
        return f"buffered, {self._cached} pages stayed in the cache"

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view` at `offset`. Raises OSError, and TargetShrank rather than grow a file.

        A file that is cut in the instant between the look at its size and the write grows again (Linux
        has no write that does not); the next look notices that it is shorter than it was.
        """
        end = self._bounds(view, offset)
        if self._regular and os.fstat(self._fd).st_size < self.size:
            self.check()
        self._dropped = False
        split = end - end % self.block if self.direct else end
        if offset < split:
            write_all(self._direct if self.direct else self._fd, view[: split - offset], offset, self.block)
        if split < end:
            write_all(self._fd, view[split - offset :], split, 1)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`. Raises OSError, and TargetShrank where bytes are missing."""
        end = self._bounds(view, offset)
        if not self.direct:
            self._read_all(self._fd, view, offset)
            return
        split = end - end % self.block
        if offset < split:
            self._read_all(self._direct, view[: split - offset], offset)
        if split < end:
            # A direct read has to ask for a whole block; the system stops at the end of the file.
            tail = aligned(self.block)
            got = os.preadv(self._direct, [tail], split)
            if got < end - split:
                self._missing(split + got)
            view[split - offset :] = tail[: end - split]

    def _bounds(self, view: memoryview, offset: int) -> int:
        end = offset + len(view)
        if offset < 0 or end > self.size:
            raise ValueError(f"bytes {offset} to {end} are outside the target's {self.size}")
        if offset % self.block or (end % self.block and end != self.size):
            raise ValueError(f"bytes {offset} to {end} are not aligned to {self.block}")
        return end

    def _read_all(self, fd: int, view: memoryview, offset: int) -> None:
        done = 0
        while done < len(view):
            got = os.preadv(fd, [view[done:]], offset + done)
            if got <= 0:
                self._missing(offset + done)
            done += got
            if done < len(view) and self.direct:
                done -= done % self.block  # go on aligned
                if got < self.block:
                    self._missing(offset + done)

    def _missing(self, offset: int) -> None:
        """A read ended early at `offset`."""
        self.check()
        raise OSError(errno.EIO, f"the target ended at byte {offset}")

    def flush(self) -> None:
        """Bring data and metadata to the medium, and for a block device empty the drive's write cache.

        Raises OSError; then nothing written since the last good flush may be called durable, and a
        second flush proves nothing (the kernel reports a write error once).
        """
        os.fsync(self._fd)

    def drop_cache(self) -> int | None:
        """Flush and empty the page cache of this target; the pages that stayed (None: cannot be told).

        Raises OSError.
        """
        self.flush()
        return self.forget_cache()

    def forget_cache(self) -> int | None:
        """Empty the page cache of what was flushed; the pages that stayed (None: cannot be told)."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._cached = pagecache.resident(self._fd, 0, self.size)
        self._dropped = True
        return self._cached

    def current_size(self) -> int:
        """The size in bytes as the system sees it now. Raises OSError."""
        if self._regular:
            return os.fstat(self._fd).st_size
        return os.lseek(self._fd, 0, os.SEEK_END)

    def check(self) -> None:
        """Raise TargetGone or TargetShrank if the target is no longer all there."""
        try:
            size = self.current_size()
        except OSError as error:
            raise TargetGone(f"asking its size: {describe(error)}") from error
        if size == 0 and not self._regular:
            raise TargetGone("it reports a size of 0 bytes now")
        if size < self.size:
            raise TargetShrank(f"it has {size} bytes now; it had {self.size}")
        if not self._regular and not self._still_there():
            raise TargetGone("the system has removed the device")

    def _still_there(self) -> bool:
        """Whether sysfs still lists the device; an unplugged disk keeps its size for those who hold it open."""
        number = os.fstat(self._fd).st_rdev
        folder = Path("/sys/dev/block")
        return not folder.exists() or (folder / f"{os.major(number)}:{os.minor(number)}").exists()

    def answers(self) -> bool:
        """Whether a block can be read at the start, the middle or the end; tells dead from damaged."""
        last = (self.size - 1) // self.block * self.block
        for offset in sorted({0, last // 2 // self.block * self.block, last}):
            try:
                self.read_into(aligned(max(PAGE, self.block))[: min(self.block, self.size - offset)], offset)
            except OSError:
                continue
            return True
        return False

    def abandon(self) -> None:
        """Leave the descriptors of a stalled target open for the life of the process; `close` then does nothing.

        A thread stuck in the kernel still knows them by number and goes on with them when it wakes up.
        Were they closed, the number could by then be another file's, and that file would be overwritten.
        The exclusive claim and the lock stay with them, so no other order takes a medium with a write
        under way.
        """
        self._fd = self._direct = -1

    def close(self) -> None:
        """Close the descriptors; safe to call twice."""
        for fd in (self._direct, self._fd):
            if fd >= 0:
                os.close(fd)
        self._direct = self._fd = -1


def write_all(fd: int, view: memoryview, offset: int, block: int) -> None:
    """Write all of `view`, going on after short writes at a multiple of `block`."""
    done = 0
    while done < len(view):
        put = os.pwrite(fd, view[done:], offset + done)
        if put < min(block, len(view) - done):
            raise OSError(errno.EIO, f"wrote {put} of {len(view) - done} bytes")
        done += put - put % block if done + put < len(view) else put
