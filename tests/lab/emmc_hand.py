"""Inside a guest: the agent's hand for eMMC erases, on an eMMC whose register is made to offer what it lacks.

    python3 -m lab.emmc_hand NODE mmc-sanitize      carry it out, and say how it ended
    python3 -m lab.emmc_hand NODE erase FIRST END   erase these bytes
    python3 -m lab.emmc_hand NODE upset             a switch that no eMMC takes

QEMU's eMMC erases, and says that it has neither secure erase nor sanitize. The commands go through the kernel.
"""

from __future__ import annotations

import json
import os
import sys

from expunge_agent.commands import mmc
from expunge_agent.commands.kernel_mmc import MmcIoctlPort
from expunge_agent.commands.port import CommandError
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.mmc_sanitize import MmcErase

SEC_FEATURE_SUPPORT, SECURE_ERASE, SANITIZE = 231, 0x01, 0x40
REVISION = 192  # read only: a switch that writes it is an error


class Claiming(MmcIoctlPort):
    """The kernel's way to the device, with a register that offers all."""

    def read(self, command: mmc.MmcCommand, length: int) -> bytes:
        raw = bytearray(super().read(command, length))
        raw[SEC_FEATURE_SUPPORT] = SECURE_ERASE | SANITIZE
        return bytes(raw)


def carry_out(port: mmc.MmcPort, technique: Technique) -> dict[str, object]:
    """How it ended."""
    hand = MmcErase(port, technique, address=1)
    try:
        answers = hand.start()
    except CommandError as error:
        return {"state": str(hand.poll().state), "said": str(error)}
    return {"state": str(hand.poll().state), "said": [one.name for one in answers]}


def main() -> None:
    """See above."""
    node, verb, *numbers = sys.argv[1:]
    port = Claiming(os.open(node, os.O_RDWR))
    if verb == "upset":
        answer: dict[str, object] = {"statuses": port.send([mmc.switch(REVISION, 9)])}
    elif verb == "erase":
        csd = mmc.parse_ext_csd(port.read(mmc.MmcCommand(mmc.SEND_EXT_CSD, 0), mmc.EXT_CSD_BYTES))
        first, end = (int(one) for one in numbers)
        ends = first // csd.unit, (end - mmc.SECTOR) // csd.unit
        answer = {"unit": csd.unit, "statuses": port.send(mmc.erase(*ends, mmc.ERASE_ARG))}
    else:
        answer = carry_out(port, Technique(verb))
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
