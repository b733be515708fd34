"""Status of an NVMe completion in words (NVM Express Base 2.0 §3.3.3.2.1, NVM Command Set 1.0 §3.1).

A status is the status code type in bits 10:8 and the status code in bits 7:0.
"""

from __future__ import annotations

SUCCESS = 0x000
INVALID_OPCODE = 0x001
INVALID_FIELD = 0x002
INVALID_NAMESPACE = 0x00B
SANITIZE_FAILED = 0x01C
SANITIZE_IN_PROGRESS = 0x01D
FORMAT_IN_PROGRESS = 0x084
INVALID_LOG_PAGE = 0x109
VERIFICATION_READ = 0x19C
"""What a read in the media verification state ends with when it gives data (Base 2.1, I/O command specific values)."""
HOST_PATHING_ERROR = 0x370
HOST_ABORTED = 0x371

_WORDS = {
    SUCCESS: "success",
    INVALID_OPCODE: "invalid command opcode",
    INVALID_FIELD: "invalid field in command",
    0x003: "command identifier conflict",
    0x004: "data transfer error",
    0x005: "aborted for loss of power",
    0x006: "internal error",
    0x007: "abort requested",
    0x008: "aborted, submission queue deleted",
    INVALID_NAMESPACE: "invalid namespace or format",
    0x00C: "command sequence error",
    0x015: "operation denied",
    0x01B: "aborted by preempt and abort",
    SANITIZE_FAILED: "sanitize failed",
    SANITIZE_IN_PROGRESS: "sanitize in progress",
    0x020: "namespace is write protected",
    0x021: "command interrupted",
    0x022: "transient transport error",
    0x023: "command prohibited by command and feature lockdown",
    0x024: "admin command media not ready",
    0x080: "LBA out of range",
    0x081: "capacity exceeded",
    0x082: "namespace not ready",
    0x083: "reservation conflict",
    FORMAT_IN_PROGRESS: "format in progress",
    INVALID_LOG_PAGE: "invalid log page",
    0x10A: "invalid format",
    0x10B: "firmware activation requires a conventional reset",
    0x110: "firmware activation requires an NVM subsystem reset",
    0x111: "firmware activation requires a controller level reset",
    0x112: "firmware activation requires a longer maximum time",
    0x11D: "device self-test in progress",
    0x123: "sanitize prohibited while the persistent memory region is enabled",
    VERIFICATION_READ: "successful media verification read",
    0x280: "write fault",
    0x281: "unrecovered read error",
    0x286: "access denied",
    0x287: "deallocated or unwritten logical block",
    0x300: "internal path error",
    0x301: "asymmetric access persistent loss",
    0x302: "asymmetric access inaccessible",
    0x303: "asymmetric access transition",
    0x360: "controller pathing error",
    HOST_PATHING_ERROR: "host pathing error",
    HOST_ABORTED: "command aborted by host",
}
_TYPES = {0: "generic", 1: "command specific", 2: "media", 3: "path", 7: "vendor specific"}

_REFUSALS = frozenset(
    code
    for code in _WORDS
    if code
    not in (
        SUCCESS,
        VERIFICATION_READ,
        0x004,
        0x005,
        0x006,
        0x007,
        0x008,
        0x01B,
        0x021,
        0x022,
        0x280,
        0x281,
        0x287,
    )
    and code < 0x300
)


def words(status: int) -> str:
    """`status` as a person reads it, with its number: ``sanitize in progress (01Dh)``."""
    known = _WORDS.get(status)
    if known is None:
        known = f"{_TYPES.get(status >> 8 & 7, 'reserved')} status"
    return f"{known} ({status:03X}h)"


def refused(status: int) -> bool:
    """Whether `status` says that the controller did not begin the command.

    False for success, for what may strike in the middle of the work (internal error, loss of power,
    abort, media errors, paths) and for every status that is not known here.
    """
    return status in _REFUSALS
