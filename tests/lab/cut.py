"""Many drives at work at once in one guest, and then the power fails: what the agent makes of each afterwards.

A start of a guest is what costs time, so all drives of a scene lose their power together. The drives are
simulated (lab.drives) and outlive the guest: NVMe drives are processes of the host; the medium of an ATA or SCSI
drive is a disk that QEMU shows, and its own memory a file on the guest's state disk. What is left of the records
is read from the host. A drive's trouble stays its own: it is raised to whoever asks for that drive.
"""

from __future__ import annotations

import json
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from lab.disks import MIB, Backing
from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest
from lab.inside import Inside
from lab.orders import ROTATING, level, receipts
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
SIZE = 8 * MIB
SECONDS = 600
"""How long an erase takes by the drive's clock: all drives of a scene are in the middle at the same moment."""
HASTE = 60
"""How fast the drive's clock goes once that moment is over."""
MIDWAY_SECONDS = 480
"""How long the slowest may take to get there; canaries come first."""
FORGETS = "forgets-after-power-loss"


@dataclass(frozen=True)
class Case:
    """One drive of a scene: the command it is given, and its faults."""

    technique: str
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For a test's id."""
        return "-".join((self.technique, *self.faults))

    @property
    def kind(self) -> str:
        """nvme, ata or scsi."""
        return self.technique.partition("-")[0]


class Drive(ABC):
    """A simulated drive full of records, and the agent that erases it."""

    def __init__(self, guest: Guest, case: Case, serial: str) -> None:
        self.guest, self.case, self.serial = guest, case, serial
        self.node = ""
        self.agent = 0
        self.before = 0
        """Records on the medium when the erase was first seen at work: canaries have taken the place of some."""

    @property
    def log(self) -> str:
        """Where the agent's words go, in the guest."""
        return f"/run/{self.serial}.log"

    @abstractmethod
    def on(self) -> None:
        """Give it power; it goes on with what it remembers."""

    @abstractmethod
    def off(self) -> None:
        """End it in good order."""

    @abstractmethod
    def hasten(self) -> None:
        """Let its clock go faster: the moment that mattered is over."""

    @abstractmethod
    def left(self) -> int:
        """Records on its medium, seen from the host."""

    @abstractmethod
    def at_work(self) -> bool:
        """Whether it erases now."""

    def begin(self) -> None:
        """Order its erase."""
        technique = self.case.technique
        words = ["expunge-agent", "wipe", self.node, "--profile", f"only-{technique}", "--level"]
        self.agent = self.guest.spawn(shlex.join([*words, level(technique), "--yes", "--json"]), self.log)

    def midway(self) -> bool:
        """Whether the erase has taken something; `before` is set when it is first seen at work."""
        if not self.before:
            if self.at_work():
                self.before = self.left()
                assert self.before > 10_000, self.before
            return False
        return self.left() < self.before * 49 // 50


class NvmeOnHost(Drive):
    """An NVMe drive: a process of the host, which the guest reaches over TCP."""

    def __init__(self, guest: Guest, case: Case, serial: str) -> None:
        super().__init__(guest, case, serial)
        options = ["--size", str(SIZE // MIB), "--serial", serial]
        for kind in ("block", "crypto", "overwrite", "format"):
            options += [f"--{kind}-seconds", str(SECONDS)]
        options += [word for fault in case.faults for word in ("--fault", fault)]
        self.served = Served(guest.folder, *options, name=serial)
        fill(self.served.image)

    def on(self) -> None:
        """See Drive. The guest's driver is told later, by `connect`."""
        self.served.__enter__()

    def connect(self) -> None:
        """Attach it to the guest, under whatever name it gets.

        Nobody waits for udev: while the drive sanitizes, what udev reads of it does not come.
        """
        command, _, _ = self.served.connect_command(HOST).rpartition("&&")
        find = f"grep -l '^{self.serial} *$' /sys/block/*/device/serial"
        wait = f"for i in $(seq 100); do {find} && exit; sleep 0.1; done; exit 1"
        found = self.guest.run(f"{command} >&2; {wait}").ok().out
        self.node = f"/dev/{found.split('/')[3]}"

    def hasten(self) -> None:
        self.served.control(f"pace {HASTE}")

    def off(self) -> None:
        if self.guest.on:
            self.guest.run(f"nvme disconnect -n {self.served.nqn}")
        self.served.__exit__(None, None, None)

    def left(self) -> int:
        return self.served.image.read_bytes().count(RECORD)

    def at_work(self) -> bool:
        status = self.served.control("status")
        return status["progress"] is not None or bool(status["formatting"])


class InGuest(Drive):
    """An ATA or SCSI drive: a program in the guest."""

    def __init__(self, guest: Guest, case: Case, serial: str, medium: Backing) -> None:
        super().__init__(guest, case, serial)
        self._medium = medium
        self._inside: Inside | None = None
        self._asked = f"/run/{serial}.asked"
        self.told_apart = False
        """Whether it writes down, from its next start on, what it is asked."""

    @property
    def _notes(self) -> str:
        return f"/var/lib/expunge/sim/{self.serial}.json"

    def on(self) -> None:
        options = ["--serial", self.serial, "--seconds", str(SECONDS), "--haste", str(HASTE)]
        options += ["--rotating"] * (self.case.technique in ROTATING)
        options += ["--log", self._asked] * self.told_apart
        options += [word for fault in self.case.faults for word in ("--fault", fault)]
        find = f"mkdir -p /var/lib/expunge/sim; grep -la {medium_serial(self.serial)} /sys/block/sd*/device/vpd_pg80"
        image = f"/dev/{self.guest.run(find).ok().out.split('/')[3]}"
        self._inside = Inside(
            self.guest, self.serial, self.case.kind, *options, image=image, state=self._notes
        )
        self.node = self._inside.__enter__().node

    def off(self) -> None:
        if self._inside is not None:
            self._inside.__exit__(None, None, None)

    def hasten(self) -> None:
        assert self._inside is not None, "the drive is off"
        self._inside.hasten()

    def asked_how_far(self) -> bool:
        """Whether somebody has sent REQUEST SENSE since its start: only the agent does."""
        return self.guest.run(f'grep -q \'"cdb": "03\' {self._asked}').code == 0

    def left(self) -> int:
        return self._medium.path.read_bytes().count(RECORD)

    def at_work(self) -> bool:
        return bool(self.remembers()["erase"])

    def remembers(self) -> dict[str, Any]:
        """What is in its memory."""
        return dict(json.loads(self.guest.get(self._notes)))


def medium_serial(serial: str) -> str:
    """The serial number of the disk of QEMU's that is the medium of the drive `serial`."""
    return f"MEDIUM-{serial}"


def fill(path: Path) -> None:
    """A medium full of records."""
    path.write_bytes((RECORD + b"\n") * (SIZE // (len(RECORD) + 1)) + bytes(SIZE % (len(RECORD) + 1)))


D = TypeVar("D", bound=Drive)


@dataclass
class Seen:
    """What became of one drive's order. `resumed`: whether the drive was at work when it had its power again."""

    midway: int
    resumed: bool = False
    remembered: dict[str, Any] = field(default_factory=dict)
    afterwards: dict[str, Any] = field(default_factory=dict)
    """What an ATA or SCSI drive had in its memory after the cut, and at the end."""
    left: int = 0
    receipt: dict[str, Any] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        return str(self.receipt["outcome"])

    @property
    def erasure(self) -> dict[str, Any]:
        (target,) = self.receipt["targets"]
        return dict(target["erasure"] or {})

    @property
    def told(self) -> str:
        (target,) = self.receipt["targets"]
        return str(target["failure"] or target["refusal"] or target["exceptions"] or "")[:300]

    @property
    def interruption(self) -> dict[str, Any]:
        """The only one."""
        (only,) = self.receipt["interruptions"]
        return dict(only)

    def tell(self, report: Report, case: Case, fault: str) -> None:
        """A row: a power cut costs nothing but time, unless records are left."""
        what = "; ".join((fault, *case.faults))
        truth = f"{self.midway} records when it happened, then {self.left}"
        truth += f"; begun {self.erasure.get('attempts', 0)} times{'; ' if self.told else ''}{self.told}"
        report.row(case.technique, case.kind.upper(), what, self.outcome, truth, harmless=not self.left)

    def is_sanitized(self) -> None:
        """The order ended well, the medium agrees, and the receipt tells of the interruption."""
        assert (self.outcome, self.left) == ("sanitized", 0), self.told
        assert self.interruption["decision"] == "resumed"
        assert self.erasure["settled"]
        assert self.erasure["canaries"]["found"] == 0
        assert self.erasure["canaries"]["written"] > 250


class Scene(Generic[D]):
    """Drives in one guest. What happens to them is a list of steps; a drive in trouble takes part in no more."""

    def __init__(self, drives: Sequence[D]) -> None:
        self.drives = {drive.case: drive for drive in drives}
        self._trouble: dict[Case, Exception] = {}
        self._seen: dict[Case, Seen] = {}

    def of(self, case: Case) -> Seen:
        """What became of one; raises what went wrong with it."""
        if case in self._trouble:
            raise self._trouble[case]
        return self._seen[case]

    def each(self, step: Callable[[D, Seen], None]) -> None:
        """Take a step with each drive that is not in trouble."""
        for case, drive in self.drives.items():
            if case not in self._trouble:
                with _noting(self._trouble, case):
                    step(drive, self._seen.setdefault(case, Seen(0)))

    def begin(self) -> None:
        """Power on, order, and wait until every erase has taken something, and none everything."""
        self.each(lambda drive, _: drive.on())
        self.each(lambda drive, _: drive.connect() if isinstance(drive, NvmeOnHost) else None)
        self.each(lambda drive, _: drive.begin())
        until = time.monotonic() + MIDWAY_SECONDS
        waiting = list(self.drives.values())
        while waiting := [drive for drive in waiting if self._awaited(drive, until)]:
            time.sleep(2)
            self._dismiss_idle(waiting)

        def note(drive: D, seen: Seen) -> None:
            seen.midway = drive.left()
            assert seen.midway > drive.before // 10, "it is all but over"

        self.each(note)

    def _awaited(self, drive: D, until: float) -> bool:
        """Whether this erase is still to come to its middle."""
        with _noting(self._trouble, drive.case):
            if drive.case in self._trouble or drive.midway():
                return False
            assert time.monotonic() < until, "the erase does not come to a middle"
        return drive.case not in self._trouble

    def _dismiss_idle(self, waiting: Sequence[D]) -> None:
        """What the agent said is the trouble of a drive whose agent has ended. All are looked at in one go."""
        guest = waiting[0].guest
        look = [f"grep -q . /proc/{drive.agent}/cmdline || echo {drive.serial}" for drive in waiting]
        idle = guest.run("; ".join([*look, ":"])).ok().out.split()
        for drive in waiting:
            if drive.serial in idle:
                said = guest.run(f"tail -c 3000 {drive.log}").out
                self._trouble.setdefault(drive.case, AssertionError(f"the agent ended: {said}"))

    def await_end(self) -> None:
        """Until no drive is at work."""
        until = time.monotonic() + 120

        def wait(drive: D, _: Seen) -> None:
            while drive.at_work():
                assert time.monotonic() < until, "it does not end"
                time.sleep(0.2)

        self.each(wait)

    def go_on(self, guest: Guest) -> None:
        """What the agent makes of its unfinished orders at the next start, and what is then left."""
        done = guest.run("expunge-agent run --pending --json", timeout=600)
        said = f"{done.out[-2000:]} {done.err[-3000:]}"
        again = guest.run("expunge-agent run --pending --json").out
        guest.run("sync").ok()
        kept = {one["targets"][0]["target"]["identity"]["serial"]: one for one in receipts(guest)}

        def note(drive: D, seen: Seen) -> None:
            assert drive.serial in kept, said
            seen.receipt, seen.left = kept[drive.serial], drive.left()
            assert seen.receipt["order"]["digest"] not in again, "it is done twice"
            if isinstance(drive, InGuest):
                seen.afterwards = drive.remembers()

        self.each(note)

    def end(self) -> None:
        """Take the drives away."""
        for drive in self.drives.values():
            drive.off()


@contextmanager
def _noting(trouble: dict[Case, Exception], case: Case) -> Iterator[None]:
    """Keep what goes wrong inside as the trouble of `case`."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - raised again to whoever asks for the case
        trouble[case] = error
