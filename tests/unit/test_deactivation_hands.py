"""Which program takes what down, and how it is seen to be gone: on laid out trees, where nothing can be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.core.deactivation import Step, StepKind, plan_deactivation
from expunge_agent.devices.deactivate import commands, is_there, take_down
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.standing import standing_on, surface, swap_areas
from expunge_agent.devices.usage import Eyes
from expunge_agent.protocol.receipt import Reason
from support.recorded import lay_out

ARRAY = "8d618a7b-c20a-747e-7c59-8ea48589f542"


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path)


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def planned(roots: Roots, name: str) -> list[tuple[str, str]]:
    eyes = Eyes.open(roots)
    taking = plan_deactivation(standing_on(disk(roots, name), eyes), surface(eyes))
    assert not taking.refusals, taking.refusals
    return [(step.what.value, step.on) for step in taking.steps]


@pytest.fixture(autouse=True)
def roomy(roots: Roots) -> None:
    (roots.proc / "meminfo").write_text("MemTotal: 900000 kB\nMemAvailable:     500000 kB\n")


def test_the_recorded_machine(roots: Roots) -> None:
    (disk(roots, "dm-0").folder / "dm/name").write_text("vg-vault\n")
    assert planned(roots, "sdc") == [
        ("unmount", "/mnt/inner"),
        ("remove-map", "inner"),
        ("deactivate-lv", "vg/vault"),
    ]
    assert planned(roots, "sda") == [("stop-md", "/dev/md0")]
    assert planned(roots, "sdb") == [("unmount", "/mnt/with blank"), ("swapoff", "/dev/sdb2")]
    assert planned(roots, "vda") == [("detach-loop", "/dev/loop1")]


def test_a_name_that_lvm_does_not_give_is_left_alone(roots: Roots) -> None:
    eyes = Eyes.open(roots)
    taking = plan_deactivation(standing_on(disk(roots, "sdc"), eyes), surface(eyes))
    assert [one.reason for one in taking.refusals] == [Reason.HELD]


def test_what_an_array_stands_on_besides(roots: Roots) -> None:
    tree = standing_on(disk(roots, "sda"), Eyes.open(roots))
    (named,) = tree.layers[0].beside
    assert named.startswith("/dev/sdd (scsi ")
    assert tree.layers[0].uuid == ARRAY


def test_what_holds_the_drive_around_a_partition_is_not_taken_down(roots: Roots) -> None:
    drive = disk(roots, "sdb")
    (drive.folder / "holders").mkdir(exist_ok=True)
    (drive.folder / "holders/md0").symlink_to(disk(roots, "md0").folder)
    eyes = Eyes.open(roots)
    taking = plan_deactivation(standing_on(drive.partitions[0], eyes), surface(eyes))
    assert [one.reason for one in taking.refusals] == [Reason.HELD]
    assert "a holder of the whole drive" in taking.refusals[0].detail


def test_swap_areas_with_what_is_in_them(roots: Roots) -> None:
    (roots.proc / "swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n/a\\040b file 1000 12 -2\n\n")
    assert [(one.path, one.used) for one in swap_areas(roots)] == [("/a b", 12 * 1024)]


def step(what: StepKind, on: str, device: str = "", uuid: str = "") -> Step:
    return Step(what=what, on=on, device=device or "none", uuid=uuid)


def test_it_is_there_only_as_what_it_was(roots: Roots) -> None:
    assert is_there(step(StepKind.STOP_MD, "/dev/md0", "md0", ARRAY), roots)
    assert not is_there(step(StepKind.STOP_MD, "/dev/md0", "md0", "another"), roots)
    assert is_there(step(StepKind.CLOSE_CRYPT, "vault", "dm-0", "LVM-recorded"), roots)
    assert not is_there(step(StepKind.CLOSE_CRYPT, "other", "dm-0", "LVM-recorded"), roots)
    assert not is_there(step(StepKind.REMOVE_MAP, "vault", "dm-7", "LVM-recorded"), roots)
    assert is_there(step(StepKind.DETACH_LOOP, "/dev/loop0", "loop0"), roots)
    assert not is_there(step(StepKind.DETACH_LOOP, "/dev/loop2", "loop2"), roots)
    assert is_there(step(StepKind.UNMOUNT, "/mnt/inner", "dm-1"), roots)
    assert not is_there(step(StepKind.UNMOUNT, "/mnt/inner", "dm-0"), roots)
    assert is_there(step(StepKind.SWAPOFF, "/dev/sdb2", "sdb2"), roots)
    assert not is_there(step(StepKind.SWAPOFF, "/dev/sdb1", "sdb1"), roots)


@pytest.mark.parametrize("what", list(StepKind))
def test_each_step_names_its_object_to_its_program(what: StepKind, roots: Roots) -> None:
    ways = commands(step(what, "-x"), roots)
    if what in (StepKind.STOP_BCACHE, StepKind.STOP_BCACHE_SET):
        assert ways == []
        return
    for way in ways:
        assert way[-1] == "-x"
        takes_a_path = what in (StepKind.STOP_MD, StepKind.DETACH_LOOP) or way[0] == "multipath"
        assert takes_a_path or way[-2] == "--", "a name may begin with a hyphen"


def test_umount_goes_to_the_machines_own_mounts(roots: Roots) -> None:
    """A process in a mount namespace of its own, as a hardened unit is, has copies of them."""
    unmount = step(StepKind.UNMOUNT, "/mnt", "dm-1")
    for pid, space in (("self", "mnt:[2]"), ("1", "mnt:[1]")):
        (roots.proc / pid / "ns").mkdir(parents=True, exist_ok=True)
        (roots.proc / pid / "ns/mnt").symlink_to(space)
    assert commands(unmount, roots)[0][:2] == ["nsenter", "--mount=/proc/1/ns/mnt"]
    (roots.proc / "1/ns/mnt").unlink()
    (roots.proc / "1/ns/mnt").symlink_to("mnt:[2]")
    assert commands(unmount, roots)[0] == ["umount", "--", "/mnt"]


def test_bcache_is_stopped_by_its_file(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge_agent.devices.deactivate._GONE_SECONDS", 0.1)
    folder = roots.sys / "fs/bcache/0c1d"
    folder.mkdir(parents=True)
    (folder / "stop").write_text("")
    one = step(StepKind.STOP_BCACHE_SET, "0c1d")
    assert is_there(one, roots)
    assert "still there" in take_down(one, roots), "nothing is called gone that was not seen to be"
    assert (folder / "stop").read_text() == "1"
    (folder / "stop").unlink()
    folder.rmdir()
    assert "could not be written" in take_down(step(StepKind.STOP_BCACHE, "/dev/bcache0", "sda"), roots)
