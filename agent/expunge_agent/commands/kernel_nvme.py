"""NVMe admin commands through the Linux driver (include/uapi/linux/nvme_ioctl.h) on an open descriptor.

libc's ioctl is called directly: a wrapper that tries again after EINTR would send a Format twice,
since EINTR is how the driver tells that it gave a command up.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct

from expunge_agent.commands.nvme_status import (
    HOST_ABORTED,
    HOST_PATHING_ERROR,
    SUCCESS,
    VERIFICATION_READ,
    words,
)
from expunge_agent.commands.port import (
    CommandError,
    CommandTimeout,
    DriveGone,
    NoPassThrough,
    NvmeCommand,
    NvmeReply,
)

NVME_IOCTL_ID = 0x4E40
NVME_IOCTL_ADMIN_CMD = 0xC0484E41
NVME_IOCTL_IO_CMD = 0xC0484E43
NVME_IOCTL_ADMIN64_CMD = 0xC0504E47
NVME_IOCTL_IO64_CMD = 0xC0504E48
# opcode, flags, reserved, nsid, cdw2, cdw3, metadata, addr, metadata_len, data_len, cdw10 to 15, timeout
_HEAD = "=BBHIIIQQIIIIIIIII"
PASSTHRU_CMD = struct.Struct(_HEAD + "I")
PASSTHRU_CMD64 = struct.Struct(_HEAD + "IQ")
_STATUS = 0x7FF
"""Type and code; what lies above tells about retries (Base 2.0 §3.3.3.2)."""
_ADMIN = (NVME_IOCTL_ADMIN64_CMD, NVME_IOCTL_ADMIN_CMD)
_IO = (NVME_IOCTL_IO64_CMD, NVME_IOCTL_IO_CMD)
_libc = ctypes.CDLL(None, use_errno=True)


class KernelNvme:
    """An `NvmePort` and an `NvmeReader` on `fd`: a namespace's block device, or the controller's character device.

    The descriptor stays the caller's. Sending needs CAP_SYS_ADMIN.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._wide = True

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        """See `NvmePort.admin`. Data goes through a buffer of whole pages."""
        if data_in and data_out:
            raise ValueError("a command carries data one way")
        return self._carry(_ADMIN, command, data_in, data_out, timeout)

    def read(self, command: NvmeCommand, size: int, *, timeout: float = 20.0) -> NvmeReply:
        """See `NvmeReader.read`."""
        return self._carry(_IO, command, size, b"", timeout)

    def _carry(
        self, ways: tuple[int, int], command: NvmeCommand, data_in: int, data_out: bytes, timeout: float
    ) -> NvmeReply:
        length = data_in or len(data_out)
        if not length:
            return self._send(ways, command, 0, 0, timeout)
        with mmap.mmap(-1, -(-length // mmap.PAGESIZE) * mmap.PAGESIZE) as pages:
            pages[: len(data_out)] = data_out
            view = ctypes.c_char.from_buffer(pages)
            try:
                reply = self._send(ways, command, ctypes.addressof(view), length, timeout)
            finally:
                del view  # or the pages cannot be given back
            data = bytes(pages[:length]) if data_in and reply.status in (SUCCESS, VERIFICATION_READ) else b""
        return NvmeReply(status=reply.status, result=reply.result, data=data)

    def _send(
        self, ways: tuple[int, int], command: NvmeCommand, address: int, length: int, timeout: float
    ) -> NvmeReply:
        fields = (
            *(command.opcode, 0, 0, command.nsid, 0, 0, 0, address, 0, length),
            *(command.cdw10, command.cdw11, command.cdw12, command.cdw13, command.cdw14, command.cdw15),
            min(max(1, round(timeout * 1000)), 0xFFFFFFFF),
        )
        if self._wide:
            try:
                return self._ioctl(ways[0], PASSTHRU_CMD64, (*fields, 0, 0))
            except NoPassThrough:
                self._wide = False  # Linux before 5.4
        return self._ioctl(ways[1], PASSTHRU_CMD, (*fields, 0))

    def _ioctl(self, request: int, layout: struct.Struct, fields: tuple[int, ...]) -> NvmeReply:
        block = ctypes.create_string_buffer(layout.pack(*fields), layout.size)
        ended = _call(self._fd, request, block)
        return NvmeReply(status=answered(ended), result=layout.unpack(block.raw)[-1] & 0xFFFFFFFF)


def nsid_of(fd: int) -> int:
    """The number of the namespace whose block device `fd` is. Raises CommandError, NoPassThrough."""
    return _call(fd, NVME_IOCTL_ID, None)


def answered(returned: int) -> int:
    """The controller's status in what the ioctl `returned`.

    Raises CommandError for the two that the driver makes up itself: the controller did not answer.
    """
    status = returned & _STATUS
    if status == HOST_ABORTED:
        raise CommandTimeout(f"The driver gave the command up: {words(status)}.")
    if status == HOST_PATHING_ERROR:
        raise CommandError(f"The driver did not reach the controller: {words(status)}.")
    return status


def failure(code: int) -> CommandError:
    """What the error number `code` of the ioctl means."""
    why = os.strerror(code)
    if code in (errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS):
        return NoPassThrough(f"The driver carries no NVMe admin commands here ({why}).")
    if code in (errno.ENODEV, errno.ENXIO, errno.ESHUTDOWN):
        return DriveGone(f"The drive is gone ({why}).")
    if code in (errno.ETIMEDOUT, errno.ETIME, errno.EINTR):
        return CommandTimeout(f"The drive did not answer in time; the driver gave the command up ({why}).")
    if code in (errno.EACCES, errno.EPERM):
        return CommandError(f"The kernel does not let this process send NVMe commands ({why}): run as root.")
    return CommandError(f"The driver did not carry the command out ({why}).")


def _call(fd: int, request: int, block: ctypes.Array[ctypes.c_char] | None) -> int:
    returned = int(_libc.ioctl(ctypes.c_int(fd), ctypes.c_ulong(request), block))
    if returned < 0:
        raise failure(ctypes.get_errno())
    return returned
