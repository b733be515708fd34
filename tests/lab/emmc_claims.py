"""Inside a guest: the agent on an eMMC whose register is made to offer what QEMU's lacks.

    python3 -m lab.emmc_claims honest wipe NODE …    the agent; what is erased is what QEMU erases
    python3 -m lab.emmc_claims lying wipe NODE …     and every erase is answered as done, and none is given
    python3 -m lab.emmc_claims erase NODE FIRST END  erase these bytes
    python3 -m lab.emmc_claims upset NODE            a switch that no eMMC takes

QEMU's eMMC erases, and says that it has neither secure erase nor sanitize. The commands go through the kernel.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from expunge_agent.cli import main as agent
from expunge_agent.commands import kernel_mmc, mmc

SEC_FEATURE_SUPPORT, SECURE_ERASE, SANITIZE = 231, 0x01, 0x40
REVISION = 192  # QEMU says 5, which has no sanitize; read only: a switch that writes it is an error
READY = 0x900


class Honest(kernel_mmc.MmcIoctlPort):
    """The kernel's way to the device, with a register that offers all."""

    def read(self, command: mmc.MmcCommand, length: int) -> bytes:
        raw = bytearray(super().read(command, length))
        raw[SEC_FEATURE_SUPPORT], raw[REVISION] = SECURE_ERASE | SANITIZE, 8
        return bytes(raw)


class Lying(Honest):
    """And erases nothing."""

    def send(self, commands: Sequence[mmc.MmcCommand]) -> list[int]:
        if any(command.opcode in (mmc.ERASE, mmc.SWITCH) for command in commands):
            return [READY] * len(commands)
        return super().send(commands)


def main() -> int:
    """See above."""
    verb, *words = sys.argv[1:]
    if verb in ("honest", "lying"):
        kernel_mmc.MmcIoctlPort = Honest if verb == "honest" else Lying  # type: ignore[misc]
        sys.argv[1:] = words
        return int(agent() or 0)
    port = Honest(os.open(words[0], os.O_RDWR))
    if verb == "upset":
        print(json.dumps({"statuses": port.send([mmc.switch(REVISION, 9)])}))
        return 0
    csd = mmc.parse_ext_csd(port.read(mmc.MmcCommand(mmc.SEND_EXT_CSD, 0), mmc.EXT_CSD_BYTES))
    first, end = (int(one) for one in words[1:])
    ends = first // csd.unit, (end - mmc.SECTOR) // csd.unit
    print(json.dumps({"unit": csd.unit, "statuses": port.send(mmc.erase(*ends, mmc.ERASE_ARG))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
