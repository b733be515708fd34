"""A UFS device in memory, from JESD220G and the kernel's structures: what is unmapped still lies in the flash until it
is purged. Byte numbers are written here once more by hand."""

from __future__ import annotations

from expunge_agent.commands.port import CommandError
from expunge_agent.core.drive import Answer

IDLE, RUNNING, STOPPED, DONE, BUSY, FAILED = range(6)


class Ufs:
    """``mapped`` is what a logical unit returns, ``flash`` what lies in the cells. A purge takes ``looks`` reads of
    its status. Faults are attributes."""

    def __init__(self, looks: int = 3) -> None:
        self.mapped: set[str] = {f"data {number}" for number in range(8)}
        self.flash = set(self.mapped)
        self.status, self.looks = IDLE, looks
        self.ends_as = DONE
        self.refuses_flag = 0
        self.has_status = True
        self.lies = self.forgets = self.keeps_status = False
        self.log: list[bytes] = []
        self._left = 0

    def unmap(self) -> list[Answer]:
        """What BLKDISCARD of the whole unit does."""
        self.mapped.clear()
        return [Answer(name="BLKDISCARD", hex="")]

    def exchange(self, request: bytes) -> bytes:
        """A ``struct ufs_bsg_request`` of 36 bytes, answered by a ``struct ufs_bsg_reply`` of 40."""
        self.log.append(request)
        if len(request) != 36 or request[:4] != (0x16).to_bytes(4, "little"):
            raise CommandError("no query for the UFS driver")
        upiu = request[4:]
        assert upiu[0] == 0x16, "transaction code, byte 0 of the UPIU"
        function, opcode, idn = upiu[5], upiu[12], upiu[13]
        code, value = 0xFE, 0
        if (function, opcode, idn) == (0x01, 0x03, 0x06):
            code, value = (0x00, self._told()) if self.has_status else (0xFD, 0)
        elif (function, opcode, idn) == (0x81, 0x06, 0x06):
            code = self.refuses_flag
            if not code and not self.forgets:
                self.status, self._left = RUNNING, self.looks
        reply = bytearray(32)
        reply[0], reply[5], reply[6] = 0x36, function, code
        reply[12:14] = bytes((opcode, idn))
        reply[20:24] = value.to_bytes(4, "big")
        return bytes(4) + bytes(4) + bytes(reply)

    def _told(self) -> int:
        if self.status == RUNNING:
            self._left -= 1
            if self._left < 0:
                self.status = self.ends_as
                if self.ends_as == DONE and not self.lies:
                    self.flash &= self.mapped
        seen = self.status
        if seen > RUNNING and not self.keeps_status:
            self.status = IDLE
        return seen
