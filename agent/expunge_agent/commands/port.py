"""The two ports through which a drive is spoken to, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class CommandError(Exception):
    """A command did not reach the drive, or its answer did not come back: nothing is known of its effect."""


class NoPassThrough(CommandError):  # noqa: N818 - named like the other ends
    """The driver, or a bridge in between, does not carry this command."""


class DriveGone(CommandError):  # noqa: N818
    """The drive is not there any more."""


class CommandTimeout(CommandError):  # noqa: N818
    """The drive did not answer in the time given."""


class Evasive(CommandError):  # noqa: N818
    """The drive answers, but not what it was asked: it is busy, and does not say with what, or how far it is."""


@dataclass(frozen=True)
class ScsiReply:
    """What a SCSI command ended with (SAM-5 §5.3: ``status``; SPC-5 §4.4: ``sense``, both formats).

    ``host`` and ``driver`` are those of ``struct sg_io_hdr``: anything but 0 in ``host`` says that the
    answer is the driver's. ``residual`` is how many bytes of the transfer did not come.
    """

    status: int
    sense: bytes = b""
    data: bytes = b""
    residual: int = 0
    host: int = 0
    driver: int = 0


class ScsiPort(Protocol):
    """A SCSI logical unit, or an ATA drive behind a SCSI/ATA translation."""

    def scsi(
        self, cdb: bytes, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> ScsiReply:
        """Send `cdb`, with `data_out` or room for `data_in` bytes (not both); `timeout` in seconds.

        Raises CommandError when there is no reply of the drive.
        """
        ...


@dataclass(frozen=True)
class NvmeCommand:
    """An admin command (NVM Express Base 2.0 §3.3.3): opcode, namespace, and command dwords 10 to 15."""

    opcode: int
    nsid: int = 0
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0


@dataclass(frozen=True)
class NvmeReply:
    """``status``: status code type (3 bits) and status code (8 bits), 0 for success (Base 2.0 §3.3.3.2.1);
    ``result``: dword 0 of the completion."""

    status: int
    result: int = 0
    data: bytes = b""


class NvmePort(Protocol):
    """An NVMe controller."""

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        """Send an admin command, with `data_out` or room for `data_in` bytes (not both); `timeout` in seconds.

        Raises CommandError when there is no reply of the controller.
        """
        ...


class NvmeReader(Protocol):
    """The I/O queues of an NVMe controller, as far as they read: past the block layer, with the drive's own status."""

    def read(self, command: NvmeCommand, size: int, *, timeout: float = 20.0) -> NvmeReply:
        """Send a command of the NVM command set that gives `size` bytes. The data of a media verification read
        come with their status, which is not 0. Raises CommandError when there is no reply of the controller.
        """
        ...
