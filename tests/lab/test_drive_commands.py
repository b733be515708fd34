"""Drive commands through the kernel's own path, carried out by the real agent, on simulated drives that lie.

Whether data is left is read from the simulated medium itself, never asked of the drive.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.ahead import Ahead, ahead, chosen
from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, GuestError, Machine
from lab.inside import Inside
from lab.orders import ROTATING, Wiped, level, teach, wipe
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
SIZE = 4
"""MiB of each drive: small, as a processor is emulated that moves each block."""
RECORDS = (RECORD + b"\n") * (SIZE << 16)
SECONDS = 4
IMPATIENT = ("--patience", "8", "--absence", "3", "--erase-timeout", "15")


@dataclass(frozen=True)
class Case:
    """A command, the fault of the drive that is given it, how the order may end, and a word of why."""

    technique: str
    fault: str = ""
    outcomes: tuple[str, ...] = ("sanitized",)
    word: str = ""
    slow: bool = False
    """Left to `make lab-all`: another row shows the same lie, told by another command."""
    verifying: bool = False
    """An NVMe drive with media verification: it shows its cells between the erase and their deallocation."""

    @property
    def name(self) -> str:
        """For a test's id."""
        words = (self.technique, self.fault, "media-verification" if self.verifying else "")
        return "-".join(filter(None, words))

    @property
    def kind(self) -> str:
        """nvme, ata or scsi."""
        return self.technique.partition("-")[0]


HONEST = [
    Case(technique, slow=technique == "ata-security-erase-enhanced")
    for technique in (
        "nvme-sanitize-crypto",
        "nvme-sanitize-block",
        "nvme-sanitize-overwrite",
        "nvme-format-crypto",
        "nvme-format-user-data",
        "ata-sanitize-crypto",
        "ata-sanitize-block",
        "ata-sanitize-overwrite",
        "ata-security-erase",
        "ata-security-erase-enhanced",
        "scsi-sanitize-crypto",
        "scsi-sanitize-block",
        "scsi-sanitize-overwrite",
        "scsi-format-unit",
    )
] + [Case("nvme-sanitize-block", verifying=True)]
LYING = [
    Case("nvme-sanitize-crypto", "lies-success", ("failed",), "canaries"),
    Case("nvme-sanitize-block", "lies-instantly", ("failed",), "canaries", slow=True),
    Case("nvme-sanitize-block", "fails-at-40", ("failed",), "failed"),
    Case("nvme-sanitize-block", "stale-status", ("failed", "unknown")),
    Case("nvme-sanitize-block", "leaves-tail", ("failed",), "canaries", slow=True),
    Case("nvme-sanitize-crypto", "wrong-sanicap", ("failed", "refused"), slow=True),
    Case("nvme-sanitize-block", "stuck-at-99", ("unknown",)),
    Case("nvme-sanitize-block", "disappears-midway", ("unknown", "failed")),
    Case("nvme-format-user-data", "format-ses0-only", ("failed",), "canaries"),
    Case("nvme-sanitize-block", "changes-serial", ("failed",)),
    Case("nvme-sanitize-block", "keeps-cells", ("failed",), "cells still hold", verifying=True),
    Case("ata-sanitize-block", "lies-success", ("failed",)),
    Case("ata-sanitize-block", "exit-0-does-nothing", ("failed", "unknown")),
    Case("ata-sanitize-block", "fails-at-40", ("failed",), slow=True),
    Case("ata-sanitize-block", "sanitize-frozen", ("refused",)),
    Case("ata-sanitize-crypto", "wrong-capabilities", ("failed",), slow=True),
    Case("ata-security-erase", "frozen", ("refused",)),
    Case("ata-security-erase", "locked", ("refused",)),
    Case("ata-security-erase", "lies-success", ("failed",), slow=True),
    Case("ata-security-erase", "exit-0-does-nothing", ("failed",), slow=True),
    Case("ata-security-erase", "fails-at-40", ("failed",), slow=True),
    Case("ata-sanitize-block", "garbled-identify", ("refused",)),
    Case("scsi-sanitize-block", "lies-success", ("failed",), slow=True),
    Case("scsi-sanitize-block", "exit-0-does-nothing", ("failed",), slow=True),
    Case("scsi-sanitize-block", "fails-at-40", ("failed",)),
    Case("scsi-sanitize-block", "leaves-tail", ("failed",), slow=True),
    Case("scsi-sanitize-crypto", "wrong-capabilities", ("failed",)),
    Case("scsi-sanitize-block", "disappears-midway", ("unknown", "failed"), slow=True),
    Case("scsi-format-unit", "exit-0-does-nothing", ("failed",)),
]


@dataclass(frozen=True)
class Done:
    """What came of a case: the receipt, and how many records there were and are on the medium."""

    wiped: Wiped
    before: int
    left: int

    @property
    def told(self) -> str:
        target = self.wiped.target
        return str(target["failure"] or target["refusal"] or target["exceptions"] or "")[:200]


class Bench:
    """A guest, and the drives that come to it, each for one order."""

    def __init__(self, guest: Guest, folder: Path) -> None:
        self.guest, self.folder = guest, folder
        self._numbers = itertools.count(1)

    def carry_out(self, case: Case) -> Done:
        """An order for this technique alone, at the level it earns on such a medium."""
        serial = f"SIM{next(self._numbers):04}"
        return self._on_host(case, serial) if case.kind == "nvme" else self._in_guest(case, serial)

    def _on_host(self, case: Case, serial: str) -> Done:
        """With a simulated NVMe drive full of records."""
        options = ["--size", str(SIZE), "--serial", serial, "--format-seconds", "1"]
        for kind in ("block", "crypto", "overwrite"):
            options += [f"--{kind}-seconds", str(SECONDS)]
        options += ["--vers"] * case.verifying
        drive = Served(self.folder, *options, name=serial)
        drive.image.write_bytes(RECORDS[: SIZE << 20])

        def left() -> int:
            return drive.image.read_bytes().count(RECORD)

        with drive:
            self.guest.run(drive.connect_command(HOST)).ok()
            try:
                node = self.guest.node(serial, 1)
                if case.fault:
                    drive.control(f"fault {case.fault} on")
                before = left()
                return Done(self._ordered(case, node), before, left())
            finally:
                if case.fault:
                    drive.control(f"fault {case.fault} off")
                self.guest.run(f"nvme disconnect -n {drive.nqn}")

    def _in_guest(self, case: Case, serial: str) -> Done:
        """With a simulated ATA or SCSI drive full of records."""
        medium = f"/run/{serial}.img"

        def left() -> int:
            return int(self.guest.run(f"grep -a -o {RECORD.decode()} {medium} | wc -l").ok().out)

        options = ["--serial", serial, "--seconds", str(SECONDS)]
        options += ["--rotating"] * (case.technique in ROTATING) + ["--fault", case.fault] * bool(case.fault)
        self.guest.run(f"yes {RECORD.decode()} | head -c {SIZE << 20} > {medium}").ok()
        with Inside(self.guest, serial, case.kind, *options) as drive:
            self.guest.run(f"udevadm wait --timeout=30 {drive.node}").ok()
            before = left()
            done = Done(self._ordered(case, drive.node), before, left())
        self.guest.run(f"rm {medium}")
        return done

    def _ordered(self, case: Case, node: str) -> Wiped:
        """What is refused while it is planned at the machine itself leaves no receipt."""
        asked = ["--level", level(case.technique), *(IMPATIENT if case.fault else ())]
        try:
            return wipe(self.guest, node, f"only-{case.technique}", *asked)
        except GuestError as error:
            if "ended with 3 and no receipt" not in str(error):
                raise
            said = {"failure": str(error).partition("no receipt:")[2], "refusal": None, "exceptions": []}
            return Wiped(3, {"outcome": "refused", "level_achieved": "none", "targets": [said]}, [])


def rows(cases: list[Case]) -> pytest.MarkDecorator:
    """A test for each case."""
    marked = [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else []) for one in cases]
    return pytest.mark.parametrize("case", marked)


@pytest.fixture(scope="module")
def orders(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Ahead[Case, Done]]:
    folder = tmp_path_factory.mktemp("drive-commands")
    with Guest(machine, folder) as guest:
        guest.run("modprobe -a target_core_user tcm_loop nvme-tcp").ok()
        teach(guest, {case.technique for case in (*HONEST, *LYING)})
        with ahead(chosen(request), Bench(guest, folder).carry_out) as results:
            yield results


@rows(HONEST)
def test_an_honest_drive_is_sanitized(orders: Ahead[Case, Done], lab_report: Report, case: Case) -> None:
    done = orders.of(case)
    wiped = done.wiped
    lab_report.row(case.technique, case.kind.upper(), "", wiped.outcome, f"{done.left} records left")
    assert done.before > 100_000
    assert (wiped.outcome, done.left) == ("sanitized", 0), done.told
    assert wiped.receipt["level_achieved"] == level(case.technique)
    erasure = wiped.target["erasure"]
    assert erasure["accepted"]
    assert erasure["canaries"]["written"] > 250
    assert erasure["canaries"]["found"] == 0
    if case.verifying:
        cells = erasure["cells"]
        assert (cells["looked_for"], cells["found"], cells["kept"]) == (erasure["canaries"]["written"], 0, 0)
        assert int(cells["from_cells"]) > 0


@rows(LYING)
def test_a_lying_drive_is_not(orders: Ahead[Case, Done], lab_report: Report, case: Case) -> None:
    done = orders.of(case)
    wiped = done.wiped
    truth = f"{done.left} records left; {done.told}"
    lab_report.row(case.technique, case.kind.upper(), case.fault, wiped.outcome, truth)
    assert done.before > 100_000
    assert wiped.outcome in case.outcomes, done.told
    assert wiped.receipt["level_achieved"] == "none"
    assert case.word in done.told
