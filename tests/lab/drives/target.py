"""A simulated drive as the engine's opened target, without a kernel: blocks go through the drive's own
read and write commands, and its errors come as the system's numbers, as a kernel would give them."""

from __future__ import annotations

import errno
import os
from typing import Protocol

from expunge_agent.commands.port import CommandError, DriveGone, ScsiPort
from expunge_agent.engine.problems import TargetGone, TargetShrank
from lab.drives.nvme import Command, Gone, NvmeDrive
from lab.drives.nvme_io import FLUSH, READ, WRITE
from lab.drives.scsi_wire import DATA_PROTECT, ILLEGAL_REQUEST, MEDIUM_ERROR

TRANSFER = 128 * 1024
"""Bytes of one command at most."""
_UNRECOVERED_READ = 0x281


class Disk(Protocol):
    """The block commands of a drive. All raise OSError with the number a kernel would give."""

    block: int

    def capacity(self) -> int:
        """Bytes it says it has now."""
        ...

    def read(self, lba: int, count: int) -> bytes: ...
    def write(self, lba: int, data: bytes) -> None: ...
    def flush(self) -> None: ...


class NvmeDisk:
    """Namespace `nsid` of a simulated NVMe drive (NVM Command Set 1.0 §3.2)."""

    def __init__(self, drive: NvmeDrive, nsid: int = 1) -> None:
        self._drive, self._nsid = drive, nsid
        self.block = 1 << drive._find(nsid).shift

    def capacity(self) -> int:
        """See Disk."""
        if not self._drive.on or self._drive.gone:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return self._drive._find(self._nsid).size

    def read(self, lba: int, count: int) -> bytes:
        """See Disk."""
        return self._do(Command(READ, self._nsid, *_words(lba), count - 1), b"")

    def write(self, lba: int, data: bytes) -> None:
        """See Disk."""
        self._do(Command(WRITE, self._nsid, *_words(lba), len(data) // self.block - 1), data)

    def flush(self) -> None:
        """See Disk."""
        self._do(Command(FLUSH, self._nsid), b"")

    def _do(self, command: Command, data: bytes) -> bytes:
        try:
            reply = self._drive.io(command, data)
        except Gone as error:
            raise OSError(errno.ENODEV, str(error)) from None
        if reply.status:  # drivers/nvme/host/core.c, nvme_error_status
            number = errno.ENODATA if reply.status == _UNRECOVERED_READ else errno.EIO
            raise OSError(number, f"NVMe status {reply.status:03X}h")
        return reply.data


class ScsiDisk:
    """A SCSI disk, or an ATA one behind a translation: READ, WRITE and SYNCHRONIZE CACHE (16) (SBC-4)."""

    def __init__(self, port: ScsiPort, block: int = 512) -> None:
        self._port, self.block = port, block

    def capacity(self) -> int:
        """See Disk."""
        data = self._do(bytes([0x9E, 0x10]) + bytes(8) + (32).to_bytes(4, "big") + bytes(2), 32)
        return (int.from_bytes(data[:8], "big") + 1) % (1 << 64) * int.from_bytes(data[8:12], "big")

    def read(self, lba: int, count: int) -> bytes:
        """See Disk."""
        return self._do(_cdb(0x88, lba, count), count * self.block)

    def write(self, lba: int, data: bytes) -> None:
        """See Disk."""
        self._do(_cdb(0x8A, lba, len(data) // self.block), 0, data)

    def flush(self) -> None:
        """See Disk."""
        self._do(_cdb(0x91, 0, 0), 0)

    def _do(self, cdb: bytes, room: int, data: bytes = b"") -> bytes:
        try:
            reply = self._port.scsi(cdb, data_in=room, data_out=data, timeout=30.0)
        except DriveGone as error:
            raise OSError(errno.ENODEV, str(error)) from None
        except CommandError as error:
            raise OSError(errno.ETIMEDOUT, str(error)) from None
        if reply.status:
            fixed = reply.sense[:1] in (b"\x70", b"\xf0")
            key = reply.sense[2 if fixed else 1] & 0x0F
            # drivers/scsi/scsi_lib.c, scsi_result_to_blk_status
            number = {MEDIUM_ERROR: errno.ENODATA, DATA_PROTECT: errno.EIO, ILLEGAL_REQUEST: errno.EREMOTEIO}
            raise OSError(number.get(key, errno.EIO), f"sense key {key:X}h")
        if len(reply.data) < room:
            raise OSError(errno.EIO, f"{len(reply.data)} of {room} bytes came")
        return reply.data


class DriveTarget:
    """Looks like `expunge_agent.engine.target.Target` to canaries, survey and read-back.

    `size` in bytes is what the drive showed when it was opened; reads and writes are always direct.
    """

    direct, memory, reads_medium, writable = True, False, True, True
    io_mode = "direct"

    def __init__(self, disk: Disk, size: int | None = None) -> None:
        self._disk, self.block = disk, disk.block
        self.size = 0
        if size is None:
            size = self.current_size()
            if not size:
                raise TargetGone("it reports a size of 0 bytes now")
        self.size = size
        self.check()

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fill `view` from `offset`. Raises OSError."""
        self._bounds(len(view), offset)
        for at in range(0, len(view), TRANSFER):
            piece = view[at : at + TRANSFER]
            piece[:] = self._disk.read((offset + at) // self.block, len(piece) // self.block)

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view` at `offset`. Raises OSError."""
        self._bounds(len(view), offset)
        for at in range(0, len(view), TRANSFER):
            self._disk.write((offset + at) // self.block, bytes(view[at : at + TRANSFER]))

    def flush(self) -> None:
        """Empty the drive's write cache. Raises OSError."""
        self._disk.flush()

    def drop_cache(self) -> int:
        """There is none on this side."""
        self.flush()
        return 0

    def forget_cache(self) -> int:
        """There is none on this side."""
        return 0

    def current_size(self) -> int:
        """The size in bytes as the drive tells it now. Raises TargetGone."""
        try:
            return self._disk.capacity()
        except OSError as error:
            if self.size and error.errno != errno.ENODEV:
                return self.size  # a kernel keeps the size that it knew
            raise TargetGone(f"asking its size: {error.strerror}") from error

    def check(self) -> None:
        """Raise TargetGone or TargetShrank if the drive is no longer all there."""
        size = self.current_size()
        if not size:
            raise TargetGone("it reports a size of 0 bytes now")
        if size < self.size:
            raise TargetShrank(f"it has {size} bytes now; it had {self.size}")

    def answers(self) -> bool:
        """Whether a block can be read at the start, the middle or the end."""
        last = self.size // self.block - 1
        for lba in sorted({0, last // 2, last}):
            try:
                self._disk.read(lba, 1)
            except OSError:
                continue
            return True
        return False

    def close(self) -> None:
        """Nothing is held."""

    def _bounds(self, length: int, offset: int) -> None:
        if offset < 0 or offset + length > self.size:
            raise ValueError(f"{length} bytes at {offset} are outside the target's {self.size}")
        if offset % self.block or length % self.block:
            raise ValueError(f"{length} bytes at {offset} are not whole blocks")


def _words(lba: int) -> tuple[int, int]:
    return lba & 0xFFFFFFFF, lba >> 32


def _cdb(opcode: int, lba: int, count: int) -> bytes:
    return bytes([opcode, 0]) + lba.to_bytes(8, "big") + count.to_bytes(4, "big") + bytes(2)
