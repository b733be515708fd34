"""The kernel's own sessions with self-encrypting drives (include/uapi/linux/sed-opal.h, block/sed-opal.c).

They reach drives of Opal 1 and 2 whose driver registered them: NVMe, and ATA and SCSI disks behind sd.
"""

from __future__ import annotations

import fcntl
import struct
from enum import IntFlag

from expunge_agent.commands.kernel_errors import command_error

IOC_OPAL_PSID_REVERT_TPR = 0x410870E8
"""``_IOW('p', 232, struct opal_key)``"""
IOC_OPAL_GET_STATUS = 0x800870EC
"""``_IOR('p', 236, struct opal_status)``, since Linux 6.1."""
_KEY_MAX = 256


class OpalFlags(IntFlag):
    """``OPAL_FL_…`` of struct opal_status."""

    SUPPORTED = 0x01
    LOCKING_SUPPORTED = 0x02
    LOCKING_ENABLED = 0x04
    LOCKED = 0x08
    MBR_ENABLED = 0x10
    MBR_DONE = 0x20


def status(fd: int) -> OpalFlags:
    """What the kernel knows of the drive. Raises CommandError (NoPassThrough on kernels without it)."""
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, IOC_OPAL_GET_STATUS, buffer)
    except OSError as error:
        raise command_error(error, "IOC_OPAL_GET_STATUS") from error
    return OpalFlags(struct.unpack_from("=I", buffer)[0] & 0x3F)


def psid_revert(fd: int, psid: bytes) -> int:
    """Have the kernel revert the drive by the PSID of its label; the TCG status, 0 for success.

    The ioctl returns the TCG status of the drive as a positive number, which fcntl only hands out for
    a mutable argument: with bytes, a refusal would look like success. Raises CommandError, and
    ValueError for a PSID that does not fit.
    """
    if not 0 < len(psid) <= _KEY_MAX - 1:
        raise ValueError("a PSID has between 1 and 255 bytes")
    key = bytearray(struct.pack(f"=BB6x{_KEY_MAX}s", 0, len(psid), psid))
    try:
        return int(fcntl.ioctl(fd, IOC_OPAL_PSID_REVERT_TPR, key))
    except OSError as error:
        raise command_error(error, "IOC_OPAL_PSID_REVERT_TPR") from error
    finally:
        key[:] = bytes(len(key))
