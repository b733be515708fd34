"""The power fails in the middle of an NVMe drive's command, or the agent is killed: after it, the order ends truthfully."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.cut import FORGETS, Case, NvmeOnHost, Scene, Seen
from lab.guest import Guest, Machine
from lab.orders import teach
from lab.report import Report

SANITIZES = ("nvme-sanitize-block", "nvme-sanitize-crypto", "nvme-sanitize-overwrite")
FORMATS = ("nvme-format-user-data", "nvme-format-crypto")
CUT = [Case(one) for one in (*SANITIZES, *FORMATS)] + [Case(one, (FORGETS,)) for one in SANITIZES[:2]]
MACHINE_ALONE = [Case("nvme-sanitize-block"), Case("nvme-format-user-data")]
KILLED = [Case("nvme-sanitize-block"), Case("nvme-format-user-data")]


@pytest.fixture(scope="module")
def guest(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    with Guest(machine, tmp_path_factory.mktemp("power-nvme")) as guest:
        teach(guest, (*SANITIZES, *FORMATS))
        yield guest


def drives(guest: Guest, name: str, cases: list[Case]) -> list[NvmeOnHost]:
    return [NvmeOnHost(guest, case, f"{name}{number:02}") for number, case in enumerate(cases)]


@pytest.fixture(scope="module")
def cut(guest: Guest) -> Scene[NvmeOnHost]:
    """Guest and drives lose their power at once; the drives get it back when the guest has started."""
    made = drives(guest, "CUT", CUT)
    scene = Scene(made)

    def power_on(drive: NvmeOnHost, seen: Seen) -> None:
        drive.on()
        seen.resumed = drive.at_work()

    try:
        scene.begin()
        guest.kill()
        for drive in made:
            drive.served.kill()
        guest.boot()
        scene.each(power_on)
        scene.each(lambda drive, _: drive.connect())
        scene.each(lambda drive, _: drive.hasten())
        scene.go_on(guest)
    finally:
        scene.end()
    return scene


@pytest.fixture(scope="module")
def machine_alone(guest: Guest, cut: Scene[NvmeOnHost]) -> Scene[NvmeOnHost]:
    """The guest loses its power, and the drives end what they do before it starts again."""
    made = drives(guest, "ALONE", MACHINE_ALONE)
    scene = Scene(made)
    try:
        scene.begin()
        guest.kill()
        scene.each(lambda drive, _: drive.hasten())
        guest.boot()
        scene.await_end()
        scene.each(lambda drive, _: drive.connect())
        scene.go_on(guest)
    finally:
        scene.end()
    return scene


@pytest.fixture(scope="module")
def killed(guest: Guest, cut: Scene[NvmeOnHost]) -> Scene[NvmeOnHost]:
    """The agent is killed; the drives work on, and the machine too."""
    made = drives(guest, "KILL", KILLED)
    scene = Scene(made)

    def kill(drive: NvmeOnHost, seen: Seen) -> None:
        guest.run(f"kill -9 {drive.agent}").ok()
        seen.resumed = drive.at_work()

    try:
        scene.begin()
        scene.each(kill)
        scene.each(lambda drive, _: drive.hasten())
        scene.each(lambda drive, _: let_go(guest, drive))
        scene.go_on(guest)
    finally:
        scene.end()
    return scene


def let_go(guest: Guest, drive: NvmeOnHost) -> None:
    """Wait until the killed agent is gone: in a command that waits, the kernel keeps it, and its locks, to the end."""
    guest.run(f"for i in $(seq 600); do test -d /proc/{drive.agent} || exit 0; sleep 0.1; done; exit 1").ok()


@pytest.mark.parametrize("case", [Case(one) for one in SANITIZES], ids=lambda case: case.name)
def test_a_sanitize_goes_on_after_a_power_cut(cut: Scene[NvmeOnHost], lab_report: Report, case: Case) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, "power cut in the middle")
    assert seen.resumed
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 1
    assert seen.erasure["progress_seen"]
    assert seen.interruption["boot_id_before"] != seen.interruption["boot_id_after"]


@pytest.mark.parametrize("case", [Case(one) for one in FORMATS], ids=lambda case: case.name)
def test_a_format_is_begun_again_after_a_power_cut(
    cut: Scene[NvmeOnHost], lab_report: Report, case: Case
) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, "power cut in the middle")
    assert not seen.resumed
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 2


@pytest.mark.parametrize("case", [case for case in CUT if case.faults], ids=lambda case: case.name)
def test_a_drive_that_forgets_its_sanitize_begins_again(
    cut: Scene[NvmeOnHost], lab_report: Report, case: Case
) -> None:
    seen = cut.of(case)
    seen.tell(lab_report, case, "power cut in the middle")
    assert not seen.resumed
    seen.is_sanitized()
    assert seen.erasure["attempts"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("case", MACHINE_ALONE, ids=lambda case: case.name)
def test_a_command_that_ended_while_the_machine_was_off(
    machine_alone: Scene[NvmeOnHost], lab_report: Report, case: Case
) -> None:
    seen = machine_alone.of(case)
    seen.tell(lab_report, case, "power cut of the machine alone")
    seen.is_sanitized()
    # A drive keeps no record of a format: nobody saw how it ended.
    assert seen.erasure["attempts"] == (2 if case.technique in FORMATS else 1)


@pytest.mark.parametrize("case", KILLED, ids=lambda case: case.name)
def test_a_command_that_outlives_the_agent(killed: Scene[NvmeOnHost], lab_report: Report, case: Case) -> None:
    seen = killed.of(case)
    seen.tell(lab_report, case, "agent killed in the middle")
    assert seen.resumed
    seen.is_sanitized()
    assert seen.interruption["boot_id_before"] == seen.interruption["boot_id_after"]
    if case.technique in SANITIZES:
        assert seen.erasure["attempts"] == 1
