"""eMMC commands through the kernel (include/uapi/linux/mmc/ioctl.h, drivers/mmc/core/block.c)."""

from __future__ import annotations

import array
import fcntl
import struct
from collections.abc import Sequence

from expunge_agent.commands.kernel_errors import command_error
from expunge_agent.commands.mmc import MmcCommand

MMC_IOC_CMD = 0xC048B300
"""``_IOWR(179, 0, struct mmc_ioc_cmd)``, 72 bytes."""
MMC_IOC_MULTI_CMD = 0xC008B301
"""``_IOWR(179, 1, struct mmc_ioc_multi_cmd)``: a count and that many commands."""
_COMMAND = struct.Struct("=ii II 4I III IIII I Q")
_R1 = 0x15 | 1 << 7
"""Response present, with CRC and opcode (include/linux/mmc/core.h), and R1 over SPI."""
_R1B = _R1 | 0x08 | 1 << 10
_DATA = 1 << 5
_RESPONSE = 16
"""Offset of ``response[4]`` in the structure."""


class MmcIoctlPort:
    """An `expunge_agent.commands.mmc.MmcPort` on an open descriptor of the whole device (not of a partition)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, command: MmcCommand, length: int) -> bytes:
        """One data block of `length` bytes. Raises CommandError."""
        block = array.array("B", bytes(length))
        argument = bytearray(_packed(command, write=0, address=block.buffer_info()[0], length=length))
        try:
            fcntl.ioctl(self._fd, MMC_IOC_CMD, argument)
        except OSError as error:
            raise command_error(error, f"MMC_IOC_CMD with CMD{command.opcode}") from error
        return block.tobytes()

    def send(self, commands: Sequence[MmcCommand]) -> list[int]:
        """The R1 status of each of `commands`. Raises CommandError when one did not come through."""
        packed = [_packed(command, write=int(command.busy)) for command in commands]
        request, head = MMC_IOC_CMD, b""
        if len(packed) > 1:
            request, head = MMC_IOC_MULTI_CMD, struct.pack("=Q", len(packed))
        argument = bytearray(head + b"".join(packed))
        try:
            fcntl.ioctl(self._fd, request, argument)
        except OSError as error:
            names = ", ".join(f"CMD{command.opcode}" for command in commands)
            raise command_error(error, f"MMC_IOC_CMD with {names}") from error
        at = range(len(head) + _RESPONSE, len(argument), _COMMAND.size)
        return [int.from_bytes(argument[one : one + 4], "little") for one in at]


def _packed(command: MmcCommand, *, write: int, address: int = 0, length: int = 0) -> bytes:
    flags = (_R1B if command.busy else _R1) | (_DATA if length else 0)
    return _COMMAND.pack(
        write, 0, command.opcode, command.argument, 0, 0, 0, 0, flags, length, 1 if length else 0,
        0, 0, 0, command.milliseconds, 0, address,
    )  # fmt: skip
