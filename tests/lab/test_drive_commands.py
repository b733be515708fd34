"""Drive commands through the kernel's own path, carried out by the real agent, on simulated drives that lie.

Whether data is left is read from the simulated medium itself, never asked of the drive.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, GuestError, Machine
from lab.orders import Wiped, only, wipe
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
MEDIUM = "/run/medium.img"
SIZE = 4
"""MiB of each drive: small, as a processor is emulated that moves each block."""
CLEAR = ("ata-security-erase", "ata-security-erase-enhanced", "scsi-format-unit", "nvme-sanitize-overwrite")
ROTATING = ("ata-sanitize-overwrite", "scsi-sanitize-overwrite")


class Bench:
    """A guest, and the drives that are attached to it for one test."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        self.guest, self.folder = guest, folder
        self._count = 0

    @contextmanager
    def nvme(self, *faults: str) -> Iterator[tuple[str, Served]]:
        """A simulated NVMe drive full of records: its node in the guest."""
        self._count += 1
        serial = f"SIM{self._count:04}"
        options = ["--size", str(SIZE), "--serial", serial, "--format-seconds", "1"]
        for kind in ("block", "crypto", "overwrite"):
            options += [f"--{kind}-seconds", "4"]
        with Served(self.folder, *options, name=serial) as drive:
            self.guest.run(drive.connect_command(HOST)).ok()
            try:
                node = self.guest.node(serial, 1)
                self.fill(node)
                for fault in faults:
                    drive.control(f"fault {fault} on")
                yield node, drive
            finally:
                for fault in faults:
                    drive.control(f"fault {fault} off")
                self.guest.run(f"nvme disconnect -n {drive.nqn}")

    @contextmanager
    def sat(self, kind: str, *faults: str, rotating: bool = False, options: str = "") -> Iterator[str]:
        """A simulated ATA or SCSI drive full of records, as a disk of the guest: its node."""
        self._count += 1
        name, serial = f"sim{self._count}", f"SIM{self._count:04}"
        self.guest.run(f"rm -f {MEDIUM} /run/{name}.json /run/{name}.out")
        words = (
            f"env PYTHONPATH=/opt/expunge/tests python3 -m lab.drives.tcmu --kind {kind} --image {MEDIUM} "
            f"--state /run/{name}.json --name {name} --size {SIZE} --serial {serial} --seconds 4 "
            f"{'--rotating ' if rotating else ''}{options} " + " ".join(f"--fault {one}" for one in faults)
        )
        self.guest.run(
            f"modprobe target_core_user; modprobe tcm_loop; yes {RECORD.decode()} | "
            f"head -c {SIZE << 20} > {MEDIUM}"
        ).ok()
        pid = self.guest.spawn(words, f"/run/{name}.out")
        try:
            self.guest.run(
                f"for i in $(seq 100); do grep -q block /run/{name}.out && break; sleep 0.1; done; udevadm settle"
            )
            told = self.guest.get(f"/run/{name}.out").decode()
            assert '"block"' in told, told
            yield "/dev/" + json.loads(told.splitlines()[0])["block"].removeprefix("/dev/")
        finally:
            self.guest.run(
                f"kill {pid}; for i in $(seq 50); do test -d /proc/{pid} || break; sleep 0.1; done"
            )

    def fill(self, node: str) -> None:
        """Records all over the drive, through the kernel."""
        self.guest.run(
            f"yes {RECORD.decode()} | dd of={node} bs=1M count={SIZE} oflag=direct iflag=fullblock"
        ).ok()

    def left(self) -> int:
        """Records on the medium of the ATA or SCSI drive."""
        return int(self.guest.run(f"grep -a -o {RECORD.decode()} {MEDIUM} | wc -l").ok().out)


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("drive-commands")
    with Guest(machine, folder) as guest:
        yield Bench(guest, folder)


def ordered(bench: Bench, node: str, technique: str, *options: str) -> Wiped:
    """An order for this technique alone, at the level it earns on such a medium.

    What is refused while it is planned at the machine itself leaves no receipt.
    """
    level = "clear" if technique in CLEAR else "purge"
    try:
        medium = "hdd" if technique in ROTATING else "ssd"
        return wipe(
            bench.guest, node, only(bench.guest, technique, level, medium), "--level", level, *options
        )
    except GuestError as error:
        if "ended with 3 and no receipt" not in str(error):
            raise
        said = {"failure": str(error).partition("no receipt:")[2], "refusal": None, "exceptions": []}
        return Wiped(3, {"outcome": "refused", "level_achieved": "none", "targets": [said]}, [])


def told(done: Wiped) -> str:
    return str(done.target["failure"] or done.target["refusal"] or done.target["exceptions"] or "")[:200]


@pytest.mark.parametrize(
    "technique",
    [
        "nvme-sanitize-crypto",
        "nvme-sanitize-block",
        "nvme-sanitize-overwrite",
        "nvme-format-crypto",
        "nvme-format-user-data",
    ],
)
def test_an_honest_nvme_drive_is_sanitized(bench: Bench, lab_report: Report, technique: str) -> None:
    with bench.nvme() as (node, drive):
        done = ordered(bench, node, technique)
        left = drive.image.read_bytes().count(RECORD)
    lab_report.row(technique, "NVMe", "", done.outcome, f"{left} records left")
    assert (done.outcome, left) == ("sanitized", 0), told(done)
    assert done.receipt["level_achieved"] == ("clear" if technique in CLEAR else "purge")
    erasure = done.target["erasure"]
    assert erasure["accepted"]
    assert erasure["canaries"]["written"] > 900
    assert erasure["canaries"]["found"] == 0


@pytest.mark.parametrize(
    ("technique", "fault", "outcomes", "word"),
    [
        ("nvme-sanitize-crypto", "lies-success", ("failed",), "canaries"),
        ("nvme-sanitize-block", "lies-instantly", ("failed",), "canaries"),
        ("nvme-sanitize-block", "fails-at-40", ("failed",), "failed"),
        ("nvme-sanitize-block", "stale-status", ("failed", "unknown"), ""),
        ("nvme-sanitize-block", "leaves-tail", ("failed",), "canaries"),
        ("nvme-sanitize-crypto", "wrong-sanicap", ("failed", "refused"), ""),
        ("nvme-sanitize-block", "stuck-at-99", ("unknown",), ""),
        ("nvme-sanitize-block", "disappears-midway", ("unknown", "failed"), ""),
        ("nvme-format-user-data", "format-ses0-only", ("failed",), "canaries"),
        ("nvme-sanitize-block", "changes-serial", ("failed",), ""),
    ],
)
def test_a_lying_nvme_drive_is_not(
    bench: Bench, lab_report: Report, technique: str, fault: str, outcomes: tuple[str, ...], word: str
) -> None:
    with bench.nvme(fault) as (node, drive):
        done = ordered(bench, node, technique, "--patience", "8", "--absence", "3", "--erase-timeout", "15")
        left = drive.image.read_bytes().count(RECORD)
    lab_report.row(technique, "NVMe", fault, done.outcome, f"{left} records left; {told(done)}")
    assert done.outcome in outcomes, told(done)
    assert done.receipt["level_achieved"] == "none"
    assert word in told(done)


@pytest.mark.parametrize(
    "technique",
    [
        "ata-sanitize-crypto",
        "ata-sanitize-block",
        "ata-sanitize-overwrite",
        "ata-security-erase",
        "ata-security-erase-enhanced",
        "scsi-sanitize-crypto",
        "scsi-sanitize-block",
        "scsi-sanitize-overwrite",
        "scsi-format-unit",
    ],
)
def test_an_honest_ata_or_scsi_drive_is_sanitized(bench: Bench, lab_report: Report, technique: str) -> None:
    kind = technique[:4].rstrip("-")
    with bench.sat(kind, rotating=technique in ROTATING) as node:
        assert bench.left() > 100_000
        done = ordered(bench, node, technique)
        left = bench.left()
    lab_report.row(technique, kind.upper(), "", done.outcome, f"{left} records left")
    assert (done.outcome, left) == ("sanitized", 0), told(done)
    assert done.receipt["level_achieved"] == ("clear" if technique in CLEAR else "purge")


@pytest.mark.parametrize(
    ("technique", "fault", "outcomes"),
    [
        ("ata-sanitize-block", "lies-success", ("failed",)),
        ("ata-sanitize-block", "exit-0-does-nothing", ("failed", "unknown")),
        ("ata-sanitize-block", "fails-at-40", ("failed",)),
        ("ata-sanitize-block", "sanitize-frozen", ("refused",)),
        ("ata-sanitize-crypto", "wrong-capabilities", ("failed",)),
        ("ata-security-erase", "frozen", ("refused",)),
        ("ata-security-erase", "locked", ("refused",)),
        ("ata-security-erase", "lies-success", ("failed",)),
        ("ata-security-erase", "exit-0-does-nothing", ("failed",)),
        ("ata-security-erase", "fails-at-40", ("failed",)),
        ("ata-sanitize-block", "garbled-identify", ("refused",)),
        ("scsi-sanitize-block", "lies-success", ("failed",)),
        ("scsi-sanitize-block", "exit-0-does-nothing", ("failed",)),
        ("scsi-sanitize-block", "fails-at-40", ("failed",)),
        ("scsi-sanitize-block", "leaves-tail", ("failed",)),
        ("scsi-sanitize-crypto", "wrong-capabilities", ("failed",)),
        ("scsi-sanitize-block", "disappears-midway", ("unknown", "failed")),
        ("scsi-format-unit", "exit-0-does-nothing", ("failed",)),
    ],
)
def test_a_lying_ata_or_scsi_drive_is_not(
    bench: Bench, lab_report: Report, technique: str, fault: str, outcomes: tuple[str, ...]
) -> None:
    kind = technique[:4].rstrip("-")
    with bench.sat(kind, fault) as node:
        done = ordered(bench, node, technique, "--patience", "8", "--absence", "3", "--erase-timeout", "15")
        left = bench.left()
    lab_report.row(technique, kind.upper(), fault, done.outcome, f"{left} records left; {told(done)}")
    assert done.outcome in outcomes, told(done)
    assert done.receipt["level_achieved"] == "none"
