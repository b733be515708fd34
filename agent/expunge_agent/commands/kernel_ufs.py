"""UFS query requests through the Linux driver: SG_IO, version 4, on ``/dev/bsg/ufs-bsgN`` (include/uapi/linux/bsg.h)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os

from expunge_agent.commands.kernel_errors import command_error
from expunge_agent.commands.port import CommandError, NoPassThrough
from expunge_agent.commands.ufs import REPLY

SG_IO = 0x2285
_TRANSPORT = 2
"""BSG_SUB_PROTOCOL_SCSI_TRANSPORT"""
_MILLISECONDS = 20_000


class SgIoV4(ctypes.Structure):
    """``struct sg_io_v4``, 160 bytes."""

    _fields_ = (
        ("guard", ctypes.c_int32),
        ("protocol", ctypes.c_uint32),
        ("subprotocol", ctypes.c_uint32),
        ("request_len", ctypes.c_uint32),
        ("request", ctypes.c_uint64),
        ("request_tag", ctypes.c_uint64),
        ("request_attr", ctypes.c_uint32),
        ("request_priority", ctypes.c_uint32),
        ("request_extra", ctypes.c_uint32),
        ("max_response_len", ctypes.c_uint32),
        ("response", ctypes.c_uint64),
        ("dout_iovec_count", ctypes.c_uint32),
        ("dout_xfer_len", ctypes.c_uint32),
        ("din_iovec_count", ctypes.c_uint32),
        ("din_xfer_len", ctypes.c_uint32),
        ("dout_xferp", ctypes.c_uint64),
        ("din_xferp", ctypes.c_uint64),
        ("timeout", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("usr_ptr", ctypes.c_uint64),
        ("spare_in", ctypes.c_uint32),
        ("driver_status", ctypes.c_uint32),
        ("transport_status", ctypes.c_uint32),
        ("device_status", ctypes.c_uint32),
        ("retry_delay", ctypes.c_uint32),
        ("info", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("response_len", ctypes.c_uint32),
        ("din_resid", ctypes.c_int32),
        ("dout_resid", ctypes.c_int32),
        ("generated_tag", ctypes.c_uint64),
        ("spare_out", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


class UfsBsg:
    """A `UfsPort` on the node `path`, which is opened for each question. Needs CAP_SYS_RAWIO."""

    def __init__(self, path: str) -> None:
        self._path = path

    def exchange(self, request: bytes) -> bytes:
        """See `UfsPort`."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise NoPassThrough(f"{self._path}: {error.strerror}") from error
        try:
            return self._exchange(fd, request)
        finally:
            os.close(fd)

    def _exchange(self, fd: int, request: bytes) -> bytes:
        sent = ctypes.create_string_buffer(request, len(request))
        reply = ctypes.create_string_buffer(REPLY.size)
        header = SgIoV4(
            guard=ord("Q"),
            subprotocol=_TRANSPORT,
            request_len=len(request),
            request=ctypes.addressof(sent),
            max_response_len=REPLY.size,
            response=ctypes.addressof(reply),
            timeout=_MILLISECONDS,
        )
        try:
            fcntl.ioctl(fd, SG_IO, header, True)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES):
                raise NoPassThrough(f"{self._path}: {error.strerror}: needs CAP_SYS_RAWIO") from error
            raise command_error(error, f"SG_IO on {self._path}") from error
        bad = header.driver_status or header.transport_status or header.device_status
        if bad:
            raise CommandError(f"the adapter did not carry the UFS query out (status {bad:#x})")
        return reply.raw[: header.response_len]
