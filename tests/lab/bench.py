"""One order for one simulated drive full of records, in this process and on the drive's own clock.

`planned` asks what a real order is asked first; an `Order` without its plan is forced on the drive. The steps are those of `expunge_agent.erasures`, the hands and the journal's records the agent's; only what
would touch the machine (descriptors, sysfs, the kernel's ioctls) is answered by the simulator.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from expunge_agent import erasures
from expunge_agent.commands import opal
from expunge_agent.commands.port import CommandError, CommandTimeout
from expunge_agent.core.drive import Drive
from expunge_agent.core.erasure import unseen
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.outcome import Verdict, judge_erasure
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan, VerificationPlan, plan_target
from expunge_agent.core.progress import RunProgress, apply
from expunge_agent.core.selection import ALONE, select
from expunge_agent.core.technique import Technique, earns
from expunge_agent.devices.drives import judged, with_opal
from expunge_agent.devices.examine_nvme import examine_nvme
from expunge_agent.devices.examine_scsi import examine_ata, examine_scsi
from expunge_agent.engine import canaries
from expunge_agent.engine.problems import EngineError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.receipt import Refusal
from expunge_agent.results import in_words
from expunge_agent.steps import Steps
from expunge_agent.surroundings import Surroundings
from expunge_agent.techniques import erasing
from expunge_agent.techniques.ata_sanitize import AtaSanitize
from expunge_agent.techniques.ata_security import AtaSecurityErase
from expunge_agent.techniques.hand import Hand
from expunge_agent.techniques.nvme_format import NvmeFormat
from expunge_agent.techniques.nvme_sanitize import Eye, NvmeSanitize
from expunge_agent.techniques.opal_revert import OpalRevert
from expunge_agent.techniques.scsi_format import ScsiFormat
from expunge_agent.techniques.scsi_sanitize import ScsiSanitize
from expunge_profiles.load import builtin
from expunge_profiles.schema import Profile, Verification
from lab.drives import ata_words, sat, scsi
from lab.drives.ata import AtaDrive
from lab.drives.clock import VirtualClock
from lab.drives.nvme import Make, NvmeDrive
from lab.drives.nvme_port import SimulatedNvmePort
from lab.drives.opal_kernel import KernelSession
from lab.drives.ports import SimulatedPort
from lab.drives.store import StateFile, Store
from lab.drives.target import DriveTarget, NvmeDisk, ScsiDisk

MIB = 1 << 20
SIZE = 8 * MIB
MARK = b"a customer's record "
SECRET = "6b2f0c11d9a84e75"
TIMEOUT = 1200.0
"""Seconds of the drive's clock after which an erase is given up; the simulated ones take at most 240."""
CANARIES = 100
"""Sections with a canary; a small drive would else hold hardly anything but canaries."""
_NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
_STEP = 5.0


@cache
def records(size: int) -> bytes:
    """A medium full of records: every 512 bytes begin with MARK and the sector's number."""
    return b"".join(((MARK + b"%08d " % at) * 18)[:512] for at in range(size // 512))


class Scheduled(VirtualClock):
    """A virtual clock that tells `told` of every second that goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Callable[[], None] | None = None

    def pause(self, seconds: float) -> None:
        """See Clock."""
        while self.told is not None and seconds > _STEP:
            super().pause(_STEP)
            seconds -= _STEP
            self.told()
        super().pause(seconds)
        if self.told is not None:
            self.told()


@dataclass(frozen=True)
class Device:
    """A kind of drive. ``make`` builds it in a folder: the drive, and the ports and the disk over it."""

    name: str
    medium: MediumType
    family: str
    options: dict[str, Any] = field(default_factory=dict)


NVME = Device("NVMe SSD", MediumType.SSD, "nvme")
NVME_TWO = Device("NVMe SSD, 2 namespaces", MediumType.SSD, "nvme", {"namespaces": 2})
NVME_OPAL = Device("NVMe SSD with Opal", MediumType.SSD, "nvme", {"psid": "K7Q2M9X4V8B3N6Z1C5L0P2T7R4W9Y6J8"})
NVME_VERS = Device("NVMe SSD with media verification", MediumType.SSD, "nvme", {"vers": True})
NVME_4096 = Device("NVMe SSD, blocks of 4096", MediumType.SSD, "nvme", {"shift": 12})
SATA_SSD = Device("SATA SSD", MediumType.SSD, "ata", {"sense": sat.FIXED_ERRORS, "libata": True})
SATA_HDD = Device("SATA HDD", MediumType.HDD, "ata", {"sense": sat.FIXED_ERRORS, "libata": True})
USB_SSD = Device("SATA SSD behind USB", MediumType.SSD, "ata", {"sense": sat.DESCRIPTOR})
USB_MUTE = Device("SATA SSD, USB without pass-through", MediumType.SSD, "ata", {"pass_through": False})
USB_FIXED = Device("SATA SSD, USB with fixed sense", MediumType.SSD, "ata", {"sense": sat.FIXED})
SAS_SSD = Device("SAS SSD", MediumType.SSD, "scsi")
SAS_HDD = Device("SAS HDD", MediumType.HDD, "scsi")


class Bench:
    """A drive of `device` with `faults`, full of records, and an order to erase it with `technique`.

    `hidden`: an ATA drive comes with the upper half of its sectors hidden. `psid`: what the order gives,
    if it is not what is on the label. The first opening tells `size`, as an order would name it.
    """

    def __init__(
        self,
        folder: Path,
        technique: Technique,
        device: Device,
        *faults: str,
        hidden: bool = False,
        psid: str = "",
    ) -> None:
        self.folder, self.technique, self.device = folder, technique, device
        self.psid = psid or device.options.get("psid", "")
        self.clock, self.cuts, self.faults = Scheduled(), 0, faults
        self.image = folder / "disk"
        self.image.write_bytes(records(SIZE))
        {"nvme": self._nvme, "ata": self._ata, "scsi": self._scsi}[device.family]()
        if hidden:
            self.drive.hide(accessible=SIZE // 1024)
        self.size = self.target().size

    def _nvme(self) -> None:
        options = {"namespaces": 1, "shift": 9, **self.device.options}
        times = {"block_seconds": 120.0, "crypto_seconds": 60.0, "overwrite_seconds": 120.0}
        times |= {"format_seconds": 40.0, "revert_seconds": 60.0}
        self.drive: Any = NvmeDrive(
            self.image,
            self.folder / "notes",
            size=SIZE,
            make=Make(psid=options.pop("psid", ""), vers=options.pop("vers", False), **times),
            clock=self.clock,
            faults=self.faults,
            **options,
        )
        self._port: Any = _Wire(self, SimulatedNvmePort(self.drive, step=_STEP))

    def _ata(self) -> None:
        built = ata_words.hdd if self.device.medium is MediumType.HDD else ata_words.ssd
        model = built(sanitize_seconds=120.0, security_seconds=240.0)
        self.store = Store(self.image, SIZE)
        notes = StateFile(self.folder / "notes")
        self.drive = AtaDrive(self.store, notes, model=model, clock=self.clock, faults=self.faults)
        self._port = _Wire(self, SimulatedPort(sat.SatDrive(self.drive, **self.device.options), self.clock))

    def _scsi(self) -> None:
        built = scsi.sas_hdd if self.device.medium is MediumType.HDD else scsi.sas_ssd
        model = built(sanitize_seconds=120.0, format_seconds=120.0)
        self.store = Store(self.image, SIZE)
        notes = StateFile(self.folder / "notes")
        self.drive = scsi.ScsiDrive(self.store, notes, model=model, clock=self.clock, faults=self.faults)
        self._port = _Wire(self, SimulatedPort(self.drive, self.clock))

    def close(self) -> None:
        """Let go of the files."""
        if self.device.family == "nvme":
            self.drive.close()
        else:
            self.store.close()

    # What the agent gets to see

    def hand(self) -> Hand:
        """A new hand, as after a restart."""
        port, technique = self._port, self.technique
        if technique in (Technique.NVME_FORMAT_CRYPTO, Technique.NVME_FORMAT_USER_DATA):
            return NvmeFormat(port, technique, 1)
        if technique in (Technique.ATA_SECURITY_ERASE, Technique.ATA_SECURITY_ERASE_ENHANCED):
            return AtaSecurityErase(port, technique, SECRET.encode())
        if technique is Technique.SCSI_FORMAT_UNIT:
            return ScsiFormat(port, size=SIZE)
        if technique is Technique.OPAL_REVERT:
            return OpalRevert(KernelSession(port), lambda: opal.discover_nvme(port), self.psid)
        if self.device.family == "nvme":
            return NvmeSanitize(port, technique, eye=Eye(port, 1), pause=self.clock.pause)
        if self.device.family == "ata":
            return AtaSanitize(port, technique)
        return ScsiSanitize(port, technique, size=SIZE)

    def target(self, size: int | None = None) -> DriveTarget:
        """The drive as the engine's target."""
        disk = NvmeDisk(self.drive) if self.device.family == "nvme" else ScsiDisk(self._port)
        return DriveTarget(disk, size)

    def examine(self) -> Drive | None:
        """What the drive says of itself; None when it does not answer."""
        try:
            if self.device.family == "nvme":
                seen = with_opal(examine_nvme(self._port, 1), [lambda: opal.discover_nvme(self._port)])
                named = [msgspec.structs.replace(one, node=f"n{one.nsid}") for one in seen.namespaces]
                return msgspec.structs.replace(seen, namespaces=named, nsid=1)
            return examine_ata(self._port) if self.device.family == "ata" else examine_scsi(self._port)
        except CommandError:
            return None

    # What only the laboratory sees

    @property
    def busy(self) -> bool:
        """Whether an erase is under way."""
        if self.device.family == "nvme":
            return bool(self.drive._eraser.busy)
        return bool((self.drive.core.eraser if self.device.family == "ata" else self.drive.eraser).runs)

    def power_cut(self) -> None:
        """The power goes and comes back."""
        self.cuts += 1
        self.drive.power_cut()
        if self.device.family == "nvme":
            self.drive.power_on()

    def cut_midway(self, after: float = 20.0) -> None:
        """Have the power cut once, `after` seconds into the first erase that is seen."""
        began: list[float] = []

        def tell() -> None:
            if not self.busy:
                return
            began.append(self.clock.now())
            if began[-1] - began[0] >= after:
                self.clock.told = None
                self.power_cut()

        self.clock.told = tell

    def refill(self) -> None:
        """Use the drive again: write records to all of it, as a host does; take a self-encrypting one into use."""
        if self.device is NVME_OPAL:
            self.drive.notes.locking.active = True
        target, data = self.target(), records(SIZE)
        for at in range(0, target.size, MIB):
            target.write(memoryview(data[at : at + MIB]), at)
        target.flush()

    def left(self) -> int:
        """Records on the medium itself, in the part that the order is for."""
        extent = self.drive._find(1).size if self.device.options.get("namespaces") else SIZE
        return self.image.read_bytes()[:extent].count(MARK)

    def touched(self) -> bool:
        """Whether a byte of the medium is another than before."""
        return self.image.read_bytes() != records(SIZE)

    def lost_beside(self) -> bool:
        """Whether another namespace lost records."""
        if not self.device.options.get("namespaces"):
            return False
        extent = self.drive._find(1).size
        return self.image.read_bytes()[extent:] != records(SIZE)[extent:]


class _Wire:
    """Either port; a command that is on its way while the power goes gets no answer."""

    def __init__(self, bench: Bench, port: Any) -> None:
        self._bench, self._port = bench, port

    def admin(self, *what: Any, **how: Any) -> Any:
        return self._whole(self._port.admin, *what, **how)

    def read(self, *what: Any, **how: Any) -> Any:
        return self._whole(self._port.read, *what, **how)

    def scsi(self, *what: Any, **how: Any) -> Any:
        return self._whole(self._port.scsi, *what, **how)

    def _whole(self, send: Callable[..., Any], *what: Any, **how: Any) -> Any:
        before = self._bench.cuts
        reply = send(*what, **how)
        if self._bench.cuts != before:
            raise CommandTimeout("the drive was reset in the middle of the command")
        return reply


class Stop(threading.Event):
    """Waiting for it lets the drive's clock go on. `meanwhile` is called at every wait, with its number."""

    def __init__(self, clock: VirtualClock, meanwhile: Callable[[int], None] | None = None) -> None:
        super().__init__()
        self._clock, self._meanwhile, self.waits = clock, meanwhile, 0

    def wait(self, timeout: float | None = None) -> bool:
        """See threading.Event."""
        self.waits += 1
        if self._meanwhile is not None:
            self._meanwhile(self.waits)
        if not self.is_set():
            self._clock.pause(timeout or 0.0)
        return self.is_set()


class Crash(BaseException):
    """The agent ends here, as by SIGKILL."""


@dataclass(frozen=True)
class Entry:
    """A journal record."""

    kind: str
    at: str
    data: dict[str, Any]


class Book:
    """A ledger in memory: every record goes through its canonical JSON, as in the journal's file.

    `crash`: the number of the record at which the agent ends, and whether it is still written.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.progress = RunProgress()
        self.crash: tuple[int, bool] | None = None

    def record(self, kind: str, **data: Any) -> None:
        """See `expunge_agent.ledger.Ledger`."""
        dies = self.crash is not None and self.crash[0] == len(self.entries)
        if dies and self.crash is not None and not self.crash[1]:
            raise Crash
        plain = msgspec.json.decode(canonical.dumps(data))
        self.entries.append(Entry(kind, timestamp(_NOON), plain))
        apply(self.progress, self.entries[-1])
        if dies:
            raise Crash

    def target(self, index: int) -> Any:
        """See `expunge_agent.ledger.Ledger`."""
        return self.progress.target(index)

    def reopened(self) -> Book:
        """As after a restart: folded anew from the records."""
        again = Book()
        again.entries = list(self.entries)
        for entry in again.entries:
            apply(again.progress, entry)
        return again

    @property
    def kinds(self) -> list[str]:
        """The records in order."""
        return [entry.kind for entry in self.entries]


IDENTITY = BlockIdentity(bus="ata", model="LAB", serial="LAB1", wwn="", size=U64(SIZE))


def planned(bench: Bench) -> TargetPlan | str:
    """What a real order for the drive comes to, under a profile that allows nothing but the bench's technique
    and for the level that it earns: its steps, or in words why the technique cannot be had."""
    seen, kind = bench.examine(), bench.device.medium
    identity = msgspec.structs.replace(IDENTITY, size=U64(bench.size))
    if seen is not None:  # the kernel hears the same names
        identity = msgspec.structs.replace(identity, model=seen.model, serial=seen.serial)
    medium = Medium(path="/dev/lab", identity=identity, type=kind)
    psid = bench.psid if bench.technique is Technique.OPAL_REVERT else ""
    wish = (
        Target(identity=identity, psid=psid),
        medium,
        judged(medium, seen) if seen is not None else None,
        _only(bench.technique, kind),
        earns(bench.technique, kind),
        False,
        ALONE,
    )
    plan = plan_target(*wish, replace(NOTHING_DRAWN, bytes=lambda count: bytes(range(count))))
    if isinstance(plan, Refusal):
        weighed = next(one for one in select(*wish).candidates if one.technique is bench.technique)
        return weighed.why_not or weighed.detail
    return msgspec.structs.replace(plan, path=str(bench.image), secret=SECRET)


def _only(technique: Technique, kind: MediumType) -> Profile:
    """A profile that allows nothing else, on nothing else."""
    return msgspec.structs.replace(
        builtin()["nist-purge"],
        id="lab",
        level=earns(technique, kind).value,
        media=(kind.value,),
        techniques=(technique.value,),
        verification=Verification(kind="full", after="last"),
    )


def _forced(bench: Bench, verification: str) -> TargetPlan:
    drive = bench.examine()
    return TargetPlan(
        path=str(bench.image),
        technique=bench.technique,
        earns=earns(bench.technique, bench.device.medium),
        verification=VerificationPlan(kind=verification),  # type: ignore[arg-type]
        drive=drive,
        key=bytes(range(32)).hex(),
        secret=SECRET,
        doubts=unseen(drive),
    )


class _Silent:
    """An event log that nobody reads."""

    def emit(self, *what: Any, **how: Any) -> None:
        """See EventLog."""


@dataclass(frozen=True)
class _Opened:
    path: str
    size: int
    fd: int = -1

    def recheck(self) -> None:
        """It is what it was."""

    def abandon(self) -> None:
        """Nothing holds it."""


class Order:
    """The order for a bench. `carry_out` may be called again, after a crash with `book.reopened()`.

    Without `plan` the command is given whatever the drive says of itself, as if nothing had objected.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        verification: str = "full",
        poll: float = 10.0,
        canaries: int = CANARIES,
        plan: TargetPlan | None = None,
    ) -> None:
        self.bench, self.poll, self.canaries = bench, poll, canaries
        self.patience, self.timeout = 120.0, TIMEOUT
        self.plan = plan or _forced(bench, verification)

    def carry_out(self, book: Book, stop: Stop | None = None) -> Verdict:
        """Everything that is still missing, and the verdict. Raises Crash where `book` says so."""
        bench, stop = self.bench, stop or Stop(self.bench.clock)
        if book.target(0).plan is None:
            book.target(0).plan = self.plan
        so_far, steps = book.target(0), Steps(0, book, _Silent())  # type: ignore[arg-type]
        around = replace(Surroundings(profiles={}), stop=stop)
        opened: Any = _Opened(self.plan.path, bench.size)
        take_over: Any = lambda one: bench.target(one.size)  # noqa: E731
        trouble = ""
        with self._instead_of_the_machine(stop):
            try:
                erasures.rejoin(self.plan.path, IDENTITY, so_far, steps, around)
                erasures.erase(opened, take_over, lambda: None, so_far, steps, around)
            except EngineError as error:
                trouble = in_words(error)
        erasure = so_far.erasure.result(self.plan.technique, self.plan.drive)
        return judge_erasure(
            erasure,
            size=erasure.reach(bench.size),
            earns=self.plan.earns,
            verify=self.plan.verification.kind != "none",
            doubts=self.plan.doubts,
            trouble=trouble,
            stopped=stop.is_set(),
        )

    @contextmanager
    def _instead_of_the_machine(self, stop: Stop) -> Iterator[None]:
        bench = self.bench
        watch = erasing.Watch(
            stop=stop,
            now=lambda: _NOON,
            poll=self.poll,
            patience=self.patience,
            timeout=self.timeout,
            clock=bench.clock.now,
        )
        answers = {
            "neighbour": lambda node: DriveTarget(NvmeDisk(bench.drive, int(node[1:]))),
            "ata_port": lambda fd: bench._port,
            "hand_for": lambda plan, fd, gate: bench.hand(),
            "identity_of": lambda fd, path: IDENTITY,
            "examine": lambda path: bench.examine(),
            "rescan": lambda path: 0,
            "lane": lambda path: "lab",
            "_watch": lambda around: watch,
            "awake": _awake,
        }
        fewer = {"SECTIONS": self.canaries, "SAMPLED": self.canaries // 4}
        with mock.patch.multiple(erasures, **answers), mock.patch.multiple(canaries, **fewer):
            yield


@contextmanager
def _awake(why: str) -> Iterator[bool]:
    yield False
