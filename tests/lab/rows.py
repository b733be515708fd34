"""The table of the laboratory: every drive command on every kind of drive that has it, with every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expunge_agent.core.technique import Technique as T
from expunge_agent.protocol.base import Level, Outcome
from lab import bench as b
from lab.bench import Bench, Book, Device, Order, planned
from lab.drives import faults as fault
from lab.drives import nvme_erase

HONEST = "none"
POWER = "power cut in the middle"
HIDDEN = "half of it hidden"
WRONG_PSID = "wrong-psid"
NO_LIE = frozenset(
    {
        HONEST,
        POWER,
        HIDDEN,
        "loses-cache",
        fault.REFUSES_WHILE_BUSY,
        fault.CAPACITY_ZERO,
        "rejects-emvs",
    }
)
"""What is no lie about an erase or about what would be erased: the medium that was ordered can be erased all the same."""

COMMANDS: dict[T, tuple[Device, ...]] = {
    T.NVME_SANITIZE_CRYPTO: (b.NVME,),
    T.NVME_SANITIZE_BLOCK: (b.NVME,),
    T.NVME_SANITIZE_OVERWRITE: (b.NVME,),
    T.NVME_FORMAT_CRYPTO: (b.NVME,),
    T.NVME_FORMAT_USER_DATA: (b.NVME,),
    T.OPAL_REVERT: (b.NVME_OPAL,),
    T.ATA_SANITIZE_CRYPTO: (b.SATA_SSD,),
    T.ATA_SANITIZE_BLOCK: (b.SATA_SSD,),
    T.ATA_SANITIZE_OVERWRITE: (b.SATA_HDD,),
    T.ATA_SECURITY_ERASE_ENHANCED: (b.SATA_SSD, b.SATA_HDD),
    T.ATA_SECURITY_ERASE: (b.SATA_SSD, b.SATA_HDD),
    T.SCSI_SANITIZE_CRYPTO: (b.SAS_SSD,),
    T.SCSI_SANITIZE_BLOCK: (b.SAS_SSD,),
    T.SCSI_SANITIZE_OVERWRITE: (b.SAS_SSD, b.SAS_HDD),
    T.SCSI_FORMAT_UNIT: (b.SAS_SSD, b.SAS_HDD),
}
_FORMATS = (T.NVME_FORMAT_CRYPTO, T.NVME_FORMAT_USER_DATA)
_ATA_SANITIZE = (T.ATA_SANITIZE_CRYPTO, T.ATA_SANITIZE_BLOCK, T.ATA_SANITIZE_OVERWRITE)
_CRYPTO = (T.NVME_SANITIZE_CRYPTO, T.ATA_SANITIZE_CRYPTO, T.SCSI_SANITIZE_CRYPTO)
_ELSEWHERE = {
    fault.FROZEN: (T.ATA_SECURITY_ERASE, T.ATA_SECURITY_ERASE_ENHANCED),
    fault.SANITIZE_FROZEN: _ATA_SANITIZE,
    fault.WRONG_CAPABILITIES: _CRYPTO,
    "wrong-sanicap": _CRYPTO,
    "format-ses0-only": _FORMATS,
    "format-hits-all-namespaces": _FORMATS,
    "sp-busy": (T.OPAL_REVERT,),
    "stays-active": (T.OPAL_REVERT,),
    "lies-instantly": (T.NVME_SANITIZE_CRYPTO, T.NVME_SANITIZE_BLOCK, T.NVME_SANITIZE_OVERWRITE),
}
"""Faults that only some commands can meet."""
_STALE = {
    "nvme": (*_FORMATS, T.OPAL_REVERT),
    "ata": (T.ATA_SECURITY_ERASE, T.ATA_SECURITY_ERASE_ENHANCED),
    "scsi": (),
}
"""Commands without a status that could be an old one."""
WITH_POWER_CUT = (fault.FORGETS, "loses-cache")
_VERIFYING = frozenset(nvme_erase.VERIFICATION)
_FAULTS = {"nvme": frozenset(nvme_erase.FAULTS), "ata": fault.ATA, "scsi": fault.SCSI}


@dataclass(frozen=True)
class Case:
    """One row to be: a command, a device, and a fault of the drive (or HONEST), and what happens to it."""

    command: T
    device: Device
    fault: str

    @property
    def name(self) -> str:
        """For a test's id."""
        return f"{self.command}-{self.device.name}-{self.fault}".replace(" ", "_").replace(",", "")

    @property
    def lies(self) -> bool:
        """Whether the drive cannot be believed, or the command cannot be had."""
        return self.fault not in NO_LIE

    @property
    def switched_on(self) -> tuple[str, ...]:
        """The names for the simulator."""
        return () if self.fault in (HONEST, POWER, HIDDEN, WRONG_PSID) else (self.fault,)


@dataclass(frozen=True)
class Row:
    """What came of a case: the receipt's words, and how many records the medium itself still holds."""

    case: Case
    outcome: Outcome
    level: Level
    said: str
    left: int
    beside: bool
    """Another namespace lost records."""
    kinds: list[str]
    """The records of the journal."""
    touched: bool
    """Whether the medium itself is another than before."""


def cases() -> Iterator[Case]:
    """Every row of the table, in its order."""
    for command, devices in COMMANDS.items():
        for device in devices:
            family = device.family
            yield Case(command, device, HONEST)
            yield Case(command, device, POWER)
            if family == "ata":
                yield Case(command, device, HIDDEN)
            if command is T.OPAL_REVERT:
                yield Case(command, device, WRONG_PSID)
            for name in sorted(_FAULTS[family] - _VERIFYING):
                if command not in _ELSEWHERE.get(name, (command,)):
                    continue
                if name == fault.STALE_STATUS and command in _STALE[family]:
                    continue
                if name == fault.LOCKED and family == "nvme" and command is not T.OPAL_REVERT:
                    continue
                two = name == "format-hits-all-namespaces"
                yield Case(command, b.NVME_TWO if two else device, name)
    for command in (T.NVME_SANITIZE_CRYPTO, T.NVME_SANITIZE_BLOCK):
        for name in (HONEST, POWER, *sorted(_VERIFYING), "lies-success", "leaves-tail"):
            yield Case(command, b.NVME_VERS, name)
    for command in (T.NVME_SANITIZE_BLOCK, T.NVME_FORMAT_USER_DATA):
        yield Case(command, b.NVME_4096, HONEST)
    for device in (b.USB_SSD, b.USB_FIXED, b.USB_MUTE):
        yield Case(T.ATA_SANITIZE_BLOCK, device, HONEST)
        yield Case(T.ATA_SECURITY_ERASE_ENHANCED, device, HONEST)


def bench_of(case: Case, folder: Path) -> Bench:
    """The drive of `case`, made in the empty `folder`, with what happens to it."""
    hidden = case.fault in (HIDDEN, fault.HPA_LIES, fault.HPA_LIES_DEEP)
    psid = "0" * 32 if case.fault == WRONG_PSID else ""
    bench = Bench(folder, case.command, case.device, *case.switched_on, hidden=hidden, psid=psid)
    if case.fault == POWER or case.fault in WITH_POWER_CUT:
        bench.cut_midway()
    return bench


def run(case: Case, folder: Path) -> Row:
    """Plan an order for the drive of `case` as the agent does, and carry it out where nothing objects."""
    bench = bench_of(case, folder)
    try:
        plan = planned(bench)
        if isinstance(plan, str):
            left, touched = bench.left(), bench.touched()
            return Row(case, Outcome.REFUSED, Level.NONE, plan, left, False, [], touched)
        book = Book()
        verdict = Order(bench, plan=plan).carry_out(book)
        said = verdict.failure or " ".join(verdict.exceptions)
        left, beside = bench.left(), bench.lost_beside()
        return Row(case, verdict.outcome, verdict.level, said, left, beside, book.kinds, bench.touched())
    finally:
        bench.close()
