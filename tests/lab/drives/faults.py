"""The faults that can be switched on in the SCSI and ATA drives, by name."""

from __future__ import annotations

from collections.abc import Iterable

FROZEN = "frozen"
"""ATA: the firmware of the machine sends SECURITY FREEZE LOCK at every power-on."""
SANITIZE_FROZEN = "sanitize-frozen"
"""ATA: the same with SANITIZE FREEZE LOCK EXT."""
LOCKED = "locked"
"""ATA: an unknown user password is set. SCSI: no access rights to the medium (a locked range)."""
STALE_STATUS = "stale-status"
"""The drive takes an erase, and its status speaks of another one that ended well. ATA: nothing runs and
"completed without error" is an old one. SCSI: the erase runs, but the drive says at once that it is idle."""
FAILS_AT_40 = "fails-at-40"
"""Every erase stops at 40 % and fails."""
LIES_SUCCESS = "lies-success"
"""Progress and success are reported; the data stays."""
DOES_NOTHING = "exit-0-does-nothing"
"""Every erase is accepted with good status, and nothing follows."""
LEAVES_TAIL = "leaves-tail"
"""An erase leaves the end of the medium."""
FORGETS = "forgets-after-power-loss"
"""A power cut ends an erase that runs, and nothing of it is left in the drive's memory."""
WRONG_CAPABILITIES = "wrong-capabilities"
"""Crypto erase is claimed, and refused."""
GARBLED_SERIAL = "garbled-serial"
"""The serial number holds bytes that no serial number holds."""
GARBLED_IDENTIFY = "garbled-identify"
"""ATA: a bridge in between damages IDENTIFY DEVICE; its checksum shows it."""
CHANGES_SERIAL = "changes-serial"
"""The serial number is another one after an erase was started."""
REFUSES_WHILE_BUSY = "refuses-while-busy"
"""While an erase runs the drive answers nothing, not even questions for its state."""
STUCK_AT_99 = "stuck-at-99"
"""Progress comes to 99 % and stays there."""
DROPS_WRITES = "drops-writes"
"""Writes return good status and are not kept."""
WRAPS_CAPACITY = "wraps-capacity"
"""Four times the capacity is claimed; addresses wrap."""
HPA_LIES = "hpa-lies"
"""ATA: hidden areas are restored with good status, and everything stays as it was."""
HPA_LIES_DEEP = "hpa-lies-deep"
"""ATA: the same, and IDENTIFY DEVICE claims the full capacity; the sectors answer ID not found."""
DISAPPEARS = "disappears-midway"
"""In the middle of an erase the drive is gone, and does not come back."""
CAPACITY_ZERO = "capacity-zero-while-sanitizing"
"""While it erases the drive's capacity is 0, and reads end well with no data."""

BOTH = frozenset(
    {
        LOCKED,
        STALE_STATUS,
        FAILS_AT_40,
        LIES_SUCCESS,
        DOES_NOTHING,
        LEAVES_TAIL,
        FORGETS,
        WRONG_CAPABILITIES,
        GARBLED_SERIAL,
        CHANGES_SERIAL,
        REFUSES_WHILE_BUSY,
        STUCK_AT_99,
        DROPS_WRITES,
        WRAPS_CAPACITY,
        DISAPPEARS,
        CAPACITY_ZERO,
    }
)
SCSI = BOTH
ATA = BOTH | {FROZEN, SANITIZE_FROZEN, GARBLED_IDENTIFY, HPA_LIES, HPA_LIES_DEEP}


def checked(faults: Iterable[str], known: frozenset[str]) -> frozenset[str]:
    """`faults` as a set; ValueError names those that are not `known`."""
    chosen = frozenset(faults)
    if unknown := chosen - known:
        raise ValueError(f"no such fault of this drive: {', '.join(sorted(unknown))}")
    return chosen


def garble(serial: str) -> bytes:
    """A serial number as a bad bridge passes it on: as long as before, with bytes that are not printable."""
    raw = bytearray(serial.encode("ascii"))
    for index in range(1, len(raw), 3):
        raw[index] = (raw[index] * 7 + index) % 32 if index % 2 else 0x80 | raw[index]
    return bytes(raw)


def other(serial: str) -> str:
    """A serial number like `serial`, and not the same."""
    return serial[:-1] + ("X" if serial[-1:] != "X" else "Y")
