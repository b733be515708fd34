"""The power fails in the middle of an ATA or SCSI drive's command: after it, the order ends truthfully."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.ahead import chosen
from lab.cut import FORGETS, SIZE, Case, InGuest, Scene, Seen, fill, medium_serial
from lab.disks import Backing, Scsi
from lab.guest import Guest, Machine
from lab.orders import teach
from lab.report import Report

CUT_SHORT = "power cut in the middle"
SANITIZES = [
    Case(f"{kind}-sanitize-{how}") for kind in ("ata", "scsi") for how in ("block", "crypto", "overwrite")
]
FORGETFUL = [Case(f"{kind}-sanitize-block", (FORGETS,)) for kind in ("ata", "scsi")]
SECURITY = [Case("ata-security-erase"), Case("ata-security-erase-enhanced")]
FORMAT = Case("scsi-format-unit")
NO_RECORD = [case for case in SANITIZES if case.kind == "scsi"]
"""A SCSI drive tells of a sanitize only while it runs: it must still run when the agent comes back."""
SLOW = [*FORGETFUL, SECURITY[1]]
"""Left to `make lab-all`: NVMe drives that forget stand in `make lab`, and the other security erase."""


def rows(cases: list[Case]) -> pytest.MarkDecorator:
    """A test for each case."""
    marked = [
        pytest.param(case, id=case.name, marks=[pytest.mark.slow] if case in SLOW else []) for case in cases
    ]
    return pytest.mark.parametrize("case", marked)


@pytest.fixture(scope="module")
def cut(
    machine: Machine, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Scene[InGuest]]:
    """Guest and drives lose their power at once, and have it again."""
    folder = tmp_path_factory.mktemp("power-sat")
    media = {
        case: (f"CUT{number:02}", Backing.make(folder, f"m{number}", SIZE))
        for number, case in enumerate(chosen(request))
    }
    disks = []
    for serial, medium in media.values():
        fill(medium.path)
        disks.append(Scsi(medium.path.stem, medium, medium_serial(serial)))
    with Guest(machine, folder, disks, memory=2048) as guest:
        teach(guest, {case.technique for case in media})
        scene = Scene([InGuest(guest, case, *media[case]) for case in media])

        def power_on(drive: InGuest, seen: Seen) -> None:
            seen.remembered = drive.remembers()
            drive.told_apart = drive.case in NO_RECORD
            drive.on()
            seen.resumed = drive.at_work()

        try:
            scene.begin()
            guest.reboot()
            scene.each(power_on)
            scene.each(lambda drive, _: drive.hasten() if drive.case not in NO_RECORD else None)
            over = threading.Event()
            slow = [drive for drive in scene.drives.values() if drive.case in NO_RECORD]
            with ThreadPoolExecutor(1) as pool:
                beside = pool.submit(hasten_when_asked, slow, over)
                try:
                    scene.go_on(guest)
                finally:
                    over.set()
                beside.result()
            yield scene
        finally:
            scene.end()


def hasten_when_asked(drives: list[InGuest], over: threading.Event) -> None:
    """Hasten each drive once the agent has found it at work."""
    while drives and not over.wait(2):
        for drive in [one for one in drives if one.asked_how_far()]:
            drive.hasten()
            drives.remove(drive)


@rows(SANITIZES)
def test_a_sanitize_goes_on_after_a_power_cut(cut: Scene[InGuest], lab_report: Report, case: Case) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, CUT_SHORT)
    assert seen.resumed
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 1


@rows(FORGETFUL)
def test_a_drive_that_forgets_its_sanitize_begins_again(
    cut: Scene[InGuest], lab_report: Report, case: Case
) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, CUT_SHORT)
    assert not seen.resumed
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 2


@rows(SECURITY)
def test_a_drive_left_locked_is_unlocked_and_erased(
    cut: Scene[InGuest], lab_report: Report, case: Case
) -> None:
    """The password stands in the journal before the drive has it; without it the drive would be lost."""
    seen = cut.of(case)
    seen.tell(lab_report, case, f"{CUT_SHORT}, drive locked with our password")
    assert seen.remembered["user"], "a password is set"
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 2
    assert seen.afterwards["user"] is None, "the password is gone"


@rows([FORMAT])
def test_a_scsi_format_that_lost_power_has_failed(
    cut: Scene[InGuest], lab_report: Report, case: Case
) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, CUT_SHORT)
    assert (seen.outcome, seen.receipt["level_achieved"]) == ("failed", "none"), seen.told
    assert seen.left
    assert seen.receipt["interruptions"]
