"""The power fails in the middle of a drive command, or the agent is killed: after it, the order ends truthfully.

The drives are simulated (lab.drives) and outlive the guest: NVMe drives are processes of the host; the medium
of an ATA or SCSI drive is a disk that QEMU shows, and its own memory a file on the guest's state disk. What
is left of the records is read from the host.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.disks import MIB, Backing, Scsi
from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, Machine
from lab.orders import only, receipts
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
SIZE = 8
SECONDS = 20
"""How long an erase takes: long enough for a middle."""
NOTES = "/var/lib/expunge/sim.json"
CLEAR = ("ata-security-erase", "ata-security-erase-enhanced", "scsi-format-unit")
FORGETS = "forgets-after-power-loss"


@dataclass(frozen=True)
class Ended:
    """How the order ended after the power came back."""

    receipt: dict[str, Any]

    @property
    def outcome(self) -> str:
        return str(self.receipt["outcome"])

    @property
    def erasure(self) -> dict[str, Any]:
        (only_target,) = self.receipt["targets"]
        return dict(only_target["erasure"] or {})

    @property
    def told(self) -> str:
        (target,) = self.receipt["targets"]
        return str(target["failure"] or target["refusal"] or target["exceptions"] or "")[:300]


class Bench:
    """One guest for all tests of this module; each of them cuts its power."""

    def __init__(self, guest: Guest, folder: Path, medium: Backing) -> None:
        self.guest, self.folder, self.medium = guest, folder, medium
        self._count = 0

    def serial(self) -> str:
        """A new one for each drive."""
        self._count += 1
        return f"CUT{self._count:04}"

    def begin(self, node: str, technique: str) -> int:
        """Order the erase of `node`; the agent's process."""
        profile = only(self.guest, technique, "clear" if technique in CLEAR else "purge")
        level = "clear" if technique in CLEAR else "purge"
        words = ["expunge-agent", "wipe", node, "--profile", profile, "--level", level, "--yes", "--json"]
        return self.guest.spawn(shlex.join(words))

    def go_on(self) -> Ended:
        """What the agent makes of its unfinished order at the next start."""
        done = self.guest.run("expunge-agent run --pending --json", timeout=180)
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert len(lines) == 1, f"{done.out} {done.err[-2000:]}"
        kept = receipts(self.guest)
        assert kept, f"{lines} {done.err[-3000:]} {self.guest.run('find /var/lib/expunge -type f')}"
        receipt = kept[-1]
        assert receipt["outcome"] == lines[0]["outcome"]
        assert self.guest.run("expunge-agent run --pending --json").ok().out == "", "it is done twice"
        return Ended(receipt)

    @contextmanager
    def served(self, *faults: str) -> Iterator[Cut]:
        """A simulated NVMe drive on the host, full of records."""
        serial = self.serial()
        options = ["--size", str(SIZE), "--serial", serial, "--format-seconds", str(SECONDS)]
        options += [word for kind in ("block", "crypto") for word in (f"--{kind}-seconds", str(SECONDS))]
        options += [word for fault in faults for word in ("--fault", fault)]
        with self._clean(), Served(self.folder, *options, name=serial) as drive:
            cut = Cut(self, drive, serial)
            cut.connect()
            self.guest.run(f"{FILL} | dd of={cut.node} bs=1M oflag=direct iflag=fullblock").ok()
            yield cut
            self.guest.run(f"nvme disconnect -n {drive.nqn}")

    @contextmanager
    def inside(self, kind: str, *faults: str) -> Iterator[Local]:
        """A simulated ATA or SCSI drive in the guest, full of records."""
        with self._clean():
            node = self.guest.node("MEDIUM")
            self.guest.run(f"{FILL} | dd of={node} bs=1M iflag=fullblock conv=fsync").ok()
            drive = Local(self, kind, self.serial(), faults)
            drive.switch_on()
            yield drive
            drive.switch_off()

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """A guest that is on and has no order; off if the test fails, so that the next one has a new start."""
        try:
            if not self.guest.on:
                self.guest.boot()
            self.guest.run("rm -rf /var/lib/expunge/*").ok()
            yield
        except BaseException:
            self.guest.kill()
            raise


FILL = f"yes {RECORD.decode()} | head -c {SIZE * MIB}"


class Cut:
    """An NVMe drive on the host, and how its power and the guest's are cut."""

    def __init__(self, bench: Bench, drive: Served, serial: str) -> None:
        self._bench, self._drive, self._serial = bench, drive, serial
        self.node = ""

    def connect(self) -> None:
        """Attach it to the guest, under whatever name it gets.

        Nobody waits for udev: while the drive sanitizes, what udev reads of it does not come.
        """
        command, _, _ = self._drive.connect_command(HOST).rpartition("&&")
        self._bench.guest.run(command).ok()
        find = f"grep -l '^{self._serial} *$' /sys/block/*/device/serial"
        found = self._bench.guest.run(f"for i in $(seq 100); do {find} && break; sleep 0.1; done").ok().out
        self.node = f"/dev/{found.split('/')[3]}"

    def left(self) -> int:
        """Records on its medium."""
        return self._drive.image.read_bytes().count(RECORD)

    def at_work(self) -> bool:
        """Whether it erases now."""
        status = self._drive.control("status")
        return status["progress"] is not None or bool(status["formatting"])

    def cut_both(self) -> None:
        """Guest and drive lose their power at once; the drive gets it back when the guest has started."""
        self._drive.kill()
        self._bench.guest.kill()
        self._bench.guest.boot()
        self._drive.__enter__()
        self.connect()

    def cut_guest(self, *, until_done: bool) -> None:
        """The guest alone loses its power."""
        self._bench.guest.kill()
        self._bench.guest.boot()
        if until_done:
            wait_for(lambda: not self.at_work(), "the drive has ended")
        self.connect()


class Local:
    """An ATA or SCSI drive in the guest: a program there, whose medium and memory outlive the guest."""

    def __init__(self, bench: Bench, kind: str, serial: str, faults: tuple[str, ...]) -> None:
        self._bench, self._kind, self._serial, self._faults = bench, kind, serial, faults
        self._pid = 0
        self.node = ""

    def switch_on(self) -> None:
        """Start it (again) with what it remembers."""
        guest = self._bench.guest
        guest.run("modprobe target_core_user; modprobe tcm_loop; rm -f /run/sim.out").ok()
        words = (
            f"env PYTHONPATH=/opt/expunge/tests python3 -m lab.drives.tcmu --kind {self._kind} --state {NOTES} "
            f"--image {guest.node('MEDIUM')} --name sim --serial {self._serial} --seconds {SECONDS} "
            + " ".join(f"--fault {fault}" for fault in self._faults)
        )
        self._pid = guest.spawn(words, "/run/sim.out")
        guest.run("for i in $(seq 200); do grep -q block /run/sim.out && break; sleep 0.1; done")
        said = guest.get("/run/sim.out").decode()
        assert '"block"' in said, said
        self.node = "/dev/" + json.loads(said.splitlines()[0])["block"].removeprefix("/dev/")

    def switch_off(self) -> None:
        """End it."""
        pid = self._pid
        self._bench.guest.run(
            f"kill {pid}; for i in $(seq 50); do test -d /proc/{pid} || break; sleep 0.1; done"
        )

    def left(self) -> int:
        """Records on its medium, seen from the host."""
        return self._bench.medium.path.read_bytes().count(RECORD)

    def cut(self) -> None:
        """Guest and drive lose their power at once, and have it again."""
        guest = self._bench.guest
        guest.kill()
        guest.boot()
        self.switch_on()

    def at_work(self) -> bool:
        """Whether it erases now."""
        return bool(self.remembers()["erase"])

    def remembers(self) -> dict[str, Any]:
        """What is in its memory."""
        return dict(json.loads(self._bench.guest.get(NOTES)))

    def final(self) -> int:
        """Records left once everything is on the medium."""
        self._bench.guest.run("sync").ok()
        return self.left()


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("power-commands")
    medium = Backing.make(folder, "medium", SIZE * MIB)
    with Guest(machine, folder, [Scsi("medium", medium, "MEDIUM")]) as guest:
        yield Bench(guest, folder, medium)


def until_midway(bench: Bench, pid: int, drive: Cut | Local) -> int:
    """Wait until the erase has taken something and not everything: how many records are left."""

    def ends_not() -> None:
        assert bench.guest.alive(pid), (
            f"the agent ended: {bench.guest.run('tail -c 3000 /run/spawn.log').out}"
        )

    def begun() -> bool:
        ends_not()
        return drive.at_work()

    def midway() -> bool:
        ends_not()
        return drive.left() < before * 4 // 5

    wait_for(begun, "the drive is at work")
    before = drive.left()  # canaries have taken the place of some
    assert before > 10_000
    wait_for(midway, "a fifth of the records is gone")
    left = drive.left()
    assert left > 0
    return left


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def row(
    report: Report, technique: str, device: str, fault: str, ended: Ended, midway: int, left: int
) -> None:
    """Say what was seen: a power cut costs nothing but time, unless records are left."""
    truth = (
        f"{midway} records when the power failed, then {left}; begun {ended.erasure.get('attempts', 0)} times"
        + (f"; {ended.told}" if ended.told else "")
    )
    report.row(technique, device, fault, ended.outcome, truth, harmless=left == 0)


def is_sanitized(ended: Ended, left: int) -> None:
    """The order ended well, the medium agrees, and the receipt tells of the interruption."""
    assert (ended.outcome, left) == ("sanitized", 0), ended.told
    assert ended.receipt["interruptions"]
    assert ended.receipt["interruptions"][0]["decision"] == "resumed"
    assert ended.erasure["settled"]
    assert ended.erasure["canaries"]["found"] == 0
    assert ended.erasure["canaries"]["written"] > 900


@pytest.mark.parametrize("technique", ["nvme-sanitize-block", "nvme-sanitize-crypto"])
def test_an_nvme_sanitize_goes_on_after_a_power_cut(bench: Bench, lab_report: Report, technique: str) -> None:
    with bench.served() as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut_both()
        assert drive.at_work()
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", "power cut in the middle", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 1
    assert ended.erasure["progress_seen"]


@pytest.mark.parametrize("technique", ["nvme-sanitize-block", "nvme-sanitize-crypto"])
def test_an_nvme_drive_that_forgets_its_sanitize(bench: Bench, lab_report: Report, technique: str) -> None:
    with bench.served(FORGETS) as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut_both()
        assert not drive.at_work()
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", f"power cut in the middle; {FORGETS}", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 2


def test_an_nvme_sanitize_that_ended_while_the_machine_was_off(bench: Bench, lab_report: Report) -> None:
    technique = "nvme-sanitize-block"
    with bench.served() as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut_guest(until_done=True)
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", "power cut of the machine alone", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 1


def test_an_nvme_sanitize_that_outlives_the_agent(bench: Bench, lab_report: Report) -> None:
    technique = "nvme-sanitize-block"
    with bench.served() as drive:
        pid = bench.begin(drive.node, technique)
        midway = until_midway(bench, pid, drive)
        bench.guest.run(f"kill -9 {pid}").ok()
        assert drive.at_work()
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", "agent killed in the middle", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 1
    assert (
        ended.receipt["interruptions"][0]["boot_id_before"]
        == ended.receipt["interruptions"][0]["boot_id_after"]
    )


@pytest.mark.parametrize("technique", ["nvme-format-user-data", "nvme-format-crypto"])
def test_an_nvme_format_is_begun_again_after_a_power_cut(
    bench: Bench, lab_report: Report, technique: str
) -> None:
    with bench.served() as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut_both()
        assert not drive.at_work()
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", "power cut in the middle", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 2


def test_an_nvme_format_that_ended_while_the_machine_was_off(bench: Bench, lab_report: Report) -> None:
    technique = "nvme-format-user-data"
    with bench.served() as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut_guest(until_done=True)
        ended, left = bench.go_on(), drive.left()
    row(lab_report, technique, "NVMe", "power cut of the machine alone", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 2, "nobody saw how it ended"


@pytest.mark.parametrize("technique", ["ata-sanitize-block", "ata-sanitize-crypto", "scsi-sanitize-block"])
def test_an_ata_or_scsi_sanitize_goes_on_after_a_power_cut(
    bench: Bench, lab_report: Report, technique: str
) -> None:
    kind = technique.partition("-")[0]
    with bench.inside(kind) as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut()
        assert drive.at_work()
        ended, left = bench.go_on(), drive.final()
    row(lab_report, technique, kind.upper(), "power cut in the middle", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 1


@pytest.mark.parametrize("technique", ["ata-sanitize-block", "scsi-sanitize-block"])
def test_an_ata_or_scsi_drive_that_forgets_its_sanitize(
    bench: Bench, lab_report: Report, technique: str
) -> None:
    kind = technique.partition("-")[0]
    with bench.inside(kind, FORGETS) as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut()
        assert not drive.at_work()
        ended, left = bench.go_on(), drive.final()
    row(lab_report, technique, kind.upper(), f"power cut in the middle; {FORGETS}", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 2


@pytest.mark.parametrize("technique", ["ata-security-erase", "ata-security-erase-enhanced"])
def test_an_ata_drive_left_locked_is_unlocked_and_erased(
    bench: Bench, lab_report: Report, technique: str
) -> None:
    with bench.inside("ata") as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut()
        assert drive.remembers()["user"], "a password is set"
        ended, left = bench.go_on(), drive.final()
        assert drive.remembers()["user"] is None, "the password is gone"
    row(lab_report, technique, "ATA", "power cut in the middle", ended, midway, left)
    is_sanitized(ended, left)
    assert ended.erasure["attempts"] == 2


def test_a_scsi_format_that_lost_power_has_failed(bench: Bench, lab_report: Report) -> None:
    technique = "scsi-format-unit"
    with bench.inside("scsi") as drive:
        midway = until_midway(bench, bench.begin(drive.node, technique), drive)
        drive.cut()
        assert drive.remembers()["corrupt"]
        ended, left = bench.go_on(), drive.final()
    row(lab_report, technique, "SCSI", "power cut in the middle", ended, midway, left)
    assert (ended.outcome, ended.receipt["level_achieved"]) == ("failed", "none"), ended.told
    assert left
    assert ended.receipt["interruptions"]
