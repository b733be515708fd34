"""The SCSI port of the running kernel: SG_IO on an open descriptor (include/uapi/linux or scsi/sg.h, version 3)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math

from expunge_agent.commands.kernel_errors import command_error
from expunge_agent.commands.port import CommandError, CommandTimeout, DriveGone, NoPassThrough, ScsiReply

SG_IO = 0x2285
_NONE, _TO_DRIVE, _FROM_DRIVE = -1, -2, -3
_SENSE_BYTES = 252
_PAGE = 4096
_LONGEST = 2**31 - 1
"""Milliseconds; the kernel takes a larger number as *no limit* (kernel/time, msecs_to_jiffies)."""

_DID_NO_CONNECT, _DID_TIME_OUT, _DID_BAD_TARGET = 0x01, 0x03, 0x04
_HOST = {
    0x02: "bus busy",
    0x05: "aborted by the host",
    0x06: "parity error",
    0x07: "error in the driver or the bridge",
    0x08: "bus reset",
    0x09: "unexpected interrupt",
    0x0B: "soft error",
    0x0E: "transport disrupted",
    0x0F: "transport failed fast",
    0x10: "target failure",
    0x11: "nexus failure",
}
_DRIVER_TIMEOUT = 0x06


class SgIoHeader(ctypes.Structure):
    """``struct sg_io_hdr``."""

    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


class SgPort:
    """A `ScsiPort` over `fd`, a block node of a whole disk or an sg node, which stays the caller's.

    A write-like command needs it open for writing (block/scsi_ioctl.c), an unlisted one CAP_SYS_RAWIO.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        """Send `cdb` (at most 16 bytes); waits until the drive or the kernel ends it. Raises CommandError."""
        if data_in and data_out:
            raise ValueError("a SCSI command moves data one way")
        length = data_in or len(data_out)
        # Page-aligned, so that no driver has to refuse or bounce it.
        memory = ctypes.create_string_buffer(length + _PAGE)
        offset = -ctypes.addressof(memory) % _PAGE
        ctypes.memmove(ctypes.addressof(memory) + offset, data_out, len(data_out))
        command = ctypes.create_string_buffer(cdb, len(cdb))
        sense = ctypes.create_string_buffer(_SENSE_BYTES)
        header = SgIoHeader(
            interface_id=ord("S"),
            dxfer_direction=_FROM_DRIVE if data_in else _TO_DRIVE if data_out else _NONE,
            cmd_len=len(cdb),
            mx_sb_len=_SENSE_BYTES,
            dxfer_len=length,
            dxferp=ctypes.addressof(memory) + offset if length else None,
            cmdp=ctypes.addressof(command),
            sbp=ctypes.addressof(sense),
            timeout=min(_LONGEST, math.ceil(timeout * 1000)),
        )
        try:
            fcntl.ioctl(self.fd, SG_IO, header, True)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise NoPassThrough(f"SG_IO: {error.strerror}: needs CAP_SYS_RAWIO") from error
            raise command_error(error, "SG_IO") from error
        check_host(header.host_status, header.driver_status)
        residual = min(max(header.resid, 0), length)
        data = memory.raw[offset : offset + length - residual] if data_in else b""
        return ScsiReply(
            status=header.status,
            sense=sense.raw[: header.sb_len_wr],
            data=data,
            residual=residual if not data_in else 0,
            host=header.host_status,
            driver=header.driver_status,
        )


def check_host(host: int, driver: int) -> None:
    """Raise the CommandError that the adapter's and the driver's status stand for (include/scsi/scsi_status.h);
    return where the drive itself answered."""
    if host == _DID_TIME_OUT or driver & 0x0F == _DRIVER_TIMEOUT:
        raise CommandTimeout("the drive did not answer in the time given")
    if host in (_DID_NO_CONNECT, _DID_BAD_TARGET):
        raise DriveGone("the adapter no longer reaches the drive")
    if host:
        raise CommandError(f"the adapter reports {_HOST.get(host, 'an error')} (host status {host:02X}h)")
