"""Stand back for others: the I/O priority of this process (ioprio_set(2)) and its processor share (nice(2))."""

from __future__ import annotations

import ctypes
import os
import platform

CLASSES = {"normal": 0, "low": 2 << 13 | 7, "idle": 3 << 13}
"""ioprio values (linux/ioprio.h): none; best effort, lowest level; idle."""
_SYSCALL = {"x86_64": 251, "aarch64": 30, "riscv64": 30}
_WHO_PROCESS = 1


def set_io_priority(name: str) -> bool:
    """Set the I/O class of the calling thread and of those it starts from now on; False where it cannot be.

    ``low`` and ``idle`` give up processor time too. Whether the kernel's I/O scheduler heeds it
    depends on the scheduler of the device (bfq and mq-deadline do).
    """
    number = _SYSCALL.get(platform.machine())
    if CLASSES[name] == 0:
        return True
    os.nice(10)
    if number is None:
        return False
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, _WHO_PROCESS, 0, CLASSES[name])
    return result == 0
