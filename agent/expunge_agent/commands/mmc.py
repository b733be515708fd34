"""eMMC: EXT_CSD and the commands around erasing (JEDEC JESD84-B51, eMMC 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from expunge_agent.core.drive import Ability, Health
from expunge_agent.core.technique import Technique

EXT_CSD_BYTES = 512
SECTOR = 512

SWITCH = 6
SEND_EXT_CSD = 8
SEND_STATUS = 13
ERASE_GROUP_START = 35
ERASE_GROUP_END = 36
ERASE = 38
ERASE_ARG = 0x00000000
SECURE_ERASE_ARG = 0x80000000
SANITIZE_START = 165
"""EXT_CSD byte: any write starts the operation (§7.4.44)."""
_BYTE_ADDRESSED = 2 << 30
"""Up to this size data addresses count bytes, above it sectors (§6.3.4; Linux: drivers/mmc/core/mmc.c, mmc_read_ext_csd)."""

R1_ERRORS = 0xFDF9A080
"""The error bits of a device status (§6.13, type E): any of them says that the command failed."""
R1_WRITE_PROTECT_SKIPPED = 1 << 15
"""WP_ERASE_SKIP: a part was write protected and not erased."""
R1_SWITCH_ERROR = 1 << 7
R1_READY = 1 << 8
R1_TRANSFER_STATE = 4


@dataclass(frozen=True)
class MmcCommand:
    """One command of MMC_IOC_CMD. ``busy``: its response is R1b; ``milliseconds`` 0: the kernel's own limit."""

    opcode: int
    argument: int
    busy: bool = False
    milliseconds: int = 0


class MmcPort(Protocol):
    """An eMMC device. Both methods raise `expunge_agent.commands.port.CommandError`."""

    def read(self, command: MmcCommand, length: int) -> bytes:
        """The data block of `length` bytes that `command` transfers."""
        ...

    def send(self, commands: Sequence[MmcCommand]) -> list[int]:
        """Send the commands one after the other, nothing in between; the R1 status of each."""
        ...


class NotExtCsd(Exception):  # noqa: N818 - what the bytes are
    """The bytes are no EXT_CSD register."""


@dataclass(frozen=True)
class ExtCsd:
    """What of EXT_CSD (§7.4) concerns erasing. Sizes in bytes; ``life`` in percent used, −1 not defined.

    ``erase_seconds`` and ``secure_erase_seconds`` are the longest times for one erase group. ``access``: the
    partition that reads, writes and erases go to now (PARTITION_ACCESS, §7.4.69); 0 is the user area.
    """

    revision: int
    size: int
    firmware: bytes
    sanitize: bool
    secure_erase: bool
    secure_trim: bool
    erased_byte: int
    removal_type: str
    erase_group: int
    erase_seconds: int
    secure_erase_seconds: int
    boot_size: int
    rpmb_size: int
    general_size: int
    life: int
    pre_eol: int
    sector: int
    access: int

    @property
    def unit(self) -> int:
        """Bytes from one data address to the next, as the commands that erase count: 1 or 512."""
        return SECTOR if self.size > _BYTE_ADDRESSED else 1

    def health(self) -> Health:
        """PRE_EOL_INFO and DEVICE_LIFE_TIME_EST (§7.4.24, §7.4.25) as health."""
        passed = None if self.pre_eol not in (1, 2, 3) else self.pre_eol < 3
        return Health(passed=passed, used_percent=self.life)

    def abilities(self) -> list[Ability]:
        """Sanitize, secure erase and secure discard as the device offers them; the time is for the whole user area."""
        groups = -(-self.size // self.erase_group) if self.erase_group else 0
        return [
            Ability(
                technique=Technique.MMC_SANITIZE,
                offered=self.sanitize,
                why="" if self.sanitize else "SEC_FEATURE_SUPPORT says that there is no sanitize",
            ),
            Ability(
                technique=Technique.MMC_SECURE_ERASE,
                offered=self.secure_erase,
                why="" if self.secure_erase else "SEC_FEATURE_SUPPORT says that there is no secure erase",
                seconds=self.secure_erase_seconds * groups if self.secure_erase and groups else -1,
            ),
            Ability(  # what BLKSECDISCARD comes to on an eMMC (drivers/mmc/core/block.c)
                technique=Technique.SECURE_DISCARD,
                offered=self.secure_erase,
                why="" if self.secure_erase else "SEC_FEATURE_SUPPORT says that there is no secure erase",
            ),
        ]

    def outside(self) -> list[str]:
        """Areas with data of their own that no command on the user area reaches, in words."""
        areas = {
            "two boot partitions": self.boot_size,
            "the RPMB partition": self.rpmb_size,
            "general purpose partitions": self.general_size,
        }
        return [f"{name} ({size} bytes in all)" for name, size in areas.items() if size]

    def astray(self) -> str:
        """Where reads and writes of the user area go instead, in words; empty when they go there.

        The kernel keeps its own account of the partition that is switched to, and a switch that was carried out
        and reported as failed leaves the two apart.
        """
        if not self.access:
            return ""
        return (
            f"the device stands switched to its {_ACCESS.get(self.access, 'general purpose partitions')} "
            f"(PARTITION_ACCESS {self.access}), and the kernel does not know it"
        )


def parse_ext_csd(data: bytes) -> ExtCsd:
    """Read the register. Raises NotExtCsd for what cannot be one: wrong length, or no size in it."""
    if len(data) != EXT_CSD_BYTES:
        raise NotExtCsd(f"{len(data)} bytes instead of {EXT_CSD_BYTES}")
    size = int.from_bytes(data[212:216], "little") * SECTOR
    if not size:
        raise NotExtCsd("SEC_COUNT is 0: a device of at most 2 GB, or no answer at all")
    features, group = data[231], data[224] * 512 * 1024
    general = sum(int.from_bytes(data[at : at + 3], "little") for at in range(143, 155, 3))
    return ExtCsd(
        revision=data[192],
        size=size,
        firmware=bytes(data[254:262]),
        sanitize=bool(features & 0x40),
        secure_erase=bool(features & 0x01),
        secure_trim=bool(features & 0x11 == 0x11),
        erased_byte=0xFF if data[181] & 1 else 0x00,
        removal_type=_REMOVAL[data[16] >> 4 & 0x03],
        erase_group=group,
        erase_seconds=_seconds(300 * data[223]),
        secure_erase_seconds=_seconds(300 * data[223] * data[230]),
        boot_size=2 * data[226] * 128 * 1024,
        rpmb_size=data[168] * 128 * 1024,
        general_size=general * data[221] * group,
        life=max(_life(data[268]), _life(data[269])),
        pre_eol=data[267],
        sector=4096 if data[61] == 1 else 512,
        access=data[179] & 0x07,
    )


_REMOVAL = (
    "erase of the physical memory",
    "overwriting with a character, then erase",
    "overwriting with a character, its complement and a random character",
    "a way of the vendor's own",
)
"""SECURE_REMOVAL_TYPE, the one configured (§7.4.117)."""
_ACCESS = {1: "boot partition 1", 2: "boot partition 2", 3: "RPMB partition"}


def switch(index: int, value: int, milliseconds: int = 0) -> MmcCommand:
    """CMD6 that writes `value` to EXT_CSD byte `index` (§6.6.1, access mode 3: write byte)."""
    return MmcCommand(SWITCH, 3 << 24 | index << 16 | value << 8, busy=True, milliseconds=milliseconds)


def erase(first: int, last: int, argument: int, milliseconds: int = 0) -> list[MmcCommand]:
    """The three commands that erase the groups from address `first` to address `last` (§6.6.9, §6.6.10; `ExtCsd.unit`)."""
    return [
        MmcCommand(ERASE_GROUP_START, first),
        MmcCommand(ERASE_GROUP_END, last),
        MmcCommand(ERASE, argument, busy=True, milliseconds=milliseconds),
    ]


def trouble(status: int) -> str:
    """What a device status (R1) complains of, in words; empty when nothing."""
    found = []
    if status & R1_SWITCH_ERROR:
        found.append("it refused to switch")
    if status & R1_WRITE_PROTECT_SKIPPED:
        found.append("write protected blocks were skipped")
    if status & R1_ERRORS & ~(R1_SWITCH_ERROR | R1_WRITE_PROTECT_SKIPPED):
        found.append(f"device status {status:#010x}")
    return ", ".join(found)


def is_ready(status: int) -> bool:
    """Whether the device is done and waits for the next command (§6.13: CURRENT_STATE tran, READY_FOR_DATA)."""
    return status >> 9 & 0x0F == R1_TRANSFER_STATE and bool(status & R1_READY)


def _seconds(milliseconds: int) -> int:
    return -(-milliseconds // 1000)


def _life(value: int) -> int:
    """Percent used at most: 01h is 0 to 10 %, 0Bh over 100 %; −1 when not defined."""
    return value * 10 if 1 <= value <= 11 else -1
