"""An eMMC device in memory, from JESD84-B51: what is erased is unmapped, what is unmapped still lies in the flash."""

from __future__ import annotations

from collections.abc import Sequence

from expunge_agent.commands.mmc import MmcCommand
from expunge_agent.commands.port import CommandError

GROUP = 1024  # sectors: HC_ERASE_GRP_SIZE 1, units of 512 KiB
READY = 4 << 9 | 1 << 8  # state tran, ready for data


def ext_csd(groups: int = 8, features: int = 0x51, revision: int = 8) -> bytearray:
    """The register of a device with `groups` erase groups (§7.4, byte numbers as there)."""
    data = bytearray(512)
    data[212:216] = (groups * GROUP).to_bytes(4, "little")
    data[192], data[231], data[224] = revision, features, 1
    data[223], data[230] = 2, 10  # 600 ms to erase a group, ten times that securely
    data[226], data[168] = 32, 4  # boot partitions of 4 MiB, RPMB of 512 KiB
    data[267], data[268], data[269] = 1, 2, 3
    data[254:262] = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    return data


class Emmc:
    """``mapped`` is what a read of each group returns, ``flash`` what lies in the cells."""

    def __init__(self, groups: int = 8, features: int = 0x51) -> None:
        self.register = ext_csd(groups, features)
        self.mapped = {group: f"data {group}" for group in range(groups)}
        self.flash = set(self.mapped.values())
        self.protected: set[int] = set()
        self.fail_at_group = -1
        self.lies = False
        self.sanitizes_as_linux = False
        """Without a status, which Linux's own way of a sanitize does not hand on."""
        self.log: list[MmcCommand] = []
        self._range = [0, 0]
        # A device of more than 2 GB is addressed by sectors, a smaller one by bytes (§6.3.4).
        self.group = GROUP if groups * GROUP * 512 > 2 << 30 else GROUP * 512

    def read(self, command: MmcCommand, length: int) -> bytes:
        assert (command.opcode, length) == (8, 512)
        return bytes(self.register)

    def send(self, commands: Sequence[MmcCommand]) -> list[int]:
        return [self._one(command) for command in commands]

    def _one(self, command: MmcCommand) -> int:
        self.log.append(command)
        if command.opcode in (35, 36):
            self._range[command.opcode - 35] = command.argument
            return READY
        if command.opcode == 38:
            return self._erase(secure=bool(command.argument >> 31))
        if command.opcode == 6:
            assert command.argument == 3 << 24 | 165 << 16 | 1 << 8
            if not self.register[231] & 0x40:
                return READY | 1 << 7
            if not self.lies:
                self.flash = set(self.mapped.values())
            return 0 if self.sanitizes_as_linux else READY
        assert command.opcode == 13
        return READY

    def _erase(self, *, secure: bool) -> int:
        status = READY
        for group in range(self._range[0] // self.group, self._range[1] // self.group + 1):
            if group == self.fail_at_group:
                raise CommandError("the host lost the answer")
            if group in self.protected:
                status |= 1 << 15
                continue
            gone = self.mapped.pop(group, None)
            if secure and gone is not None:
                self.flash.discard(gone)
        return status
