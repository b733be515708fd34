"""Namespaces beside the one that was asked about, on the recorded machine with its namespaces put elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from expunge_agent.core.case import Scope
from expunge_agent.core.drive import Drive
from expunge_agent.core.selection import Selection, select
from expunge_agent.core.technique import Technique
from expunge_agent.devices import describe, drives
from expunge_agent.devices.inventory import inventory, survey
from expunge_agent.devices.look import find
from expunge_agent.devices.multipath import groups
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import Roots
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Reason, Refusal
from lab.drives.clock import VirtualClock
from lab.drives.nvme import NvmeDrive
from lab.drives.nvme_port import SimulatedNvmePort
from support.recorded import lay_out

SYSTEM = "devices/virtual/nvme-subsystem/nvme-subsys0"
SECOND = "devices/pci0000:00/0000:00:02.1/nvme/nvme1"


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    made = lay_out(tmp_path / "tree")
    for folder in (
        disk(made, "nvme0n1").folder.parent,
        made.sys / SYSTEM,
    ):  # else it is known for a virtual one
        (folder / "model").write_text("EXPUNGE LAB NVME\n")
    return made


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def moved(roots: Roots, name: str, to: str, called: str = "") -> None:
    """The block device `name` hangs in the folder `to` of sysfs."""
    (roots.sys / to).mkdir(parents=True, exist_ok=True)
    there = disk(roots, name).folder.rename(roots.sys / to / (called or name))
    (there / "device").unlink()
    (there / "device").symlink_to("..")
    (roots.sys / "block" / name).unlink()
    (roots.sys / "block" / there.name).symlink_to(there)


def as_heads(roots: Roots) -> None:
    """Native multipath: both namespaces hang below the subsystem, whatever controller has them."""
    for name in ("nvme0n1", "nvme0n2"):
        moved(roots, name, SYSTEM)


def as_private_to_a_second_controller(roots: Roots) -> None:
    """Without native multipath: each namespace below its own controller, the subsystem links to both."""
    moved(roots, "nvme0n2", SECOND, "nvme1n2")
    linked(roots)


def linked(roots: Roots) -> None:
    (roots.sys / "class/nvme-subsystem").mkdir(exist_ok=True)
    (roots.sys / "class/nvme-subsystem/nvme-subsys0").symlink_to(roots.sys / SYSTEM)
    for controller in (disk(roots, "nvme0n1").folder.parent, roots.sys / SECOND):
        (roots.sys / SYSTEM / controller.name).symlink_to(controller)


def asked(roots: Roots, folder: Path, name: str = "nvme0n1", namespaces: int = 1) -> Drive:
    """What a controller answers that has `namespaces` namespaces."""
    folder.mkdir()
    drive = NvmeDrive(folder / "image", folder / "state", namespaces=namespaces, clock=VirtualClock())
    try:
        node = disk(roots, name)
        told = drives.ask_nvme(SimulatedNvmePort(drive), node)
        return drives.joined(drives.as_the_kernel_sees_it(node, describe.medium(node)), told)
    finally:
        drive.close()


def chosen(roots: Roots, drive: Drive, *ordered: str) -> Selection:
    """What an order for nvme0n1 and `ordered` gets on level purge."""
    medium = describe.medium(disk(roots, "nvme0n1"))
    target = Target(identity=medium.identity, hint=medium.path)
    scope = Scope(ordered=frozenset(ordered))
    return select(target, medium, drive, None, Level.PURGE, allow_downgrade=False, scope=scope)


@pytest.mark.parametrize("arranged", [lambda roots: None, as_heads, as_private_to_a_second_controller])
def test_a_namespace_that_only_the_kernel_shows_is_not_taken_along(
    roots: Roots, tmp_path: Path, arranged: Callable[[Roots], None]
) -> None:
    arranged(roots)
    beside = "nvme1n2" if arranged is as_private_to_a_second_controller else "nvme0n2"
    told = asked(roots, tmp_path / "drive")
    assert {one.nsid: one.node for one in told.namespaces} == {1: "nvme0n1", 2: beside}
    assert int(told.namespaces[1].size) == 524288 * 512
    alone = chosen(roots, told)
    for technique in ("nvme-sanitize-crypto", "nvme-sanitize-block"):
        weighed = next(one for one in alone.candidates if one.technique.value == technique)
        assert not weighed.usable
        assert f"does not name {beside} (NSID 2)" in weighed.why_not
    both = chosen(roots, told, "nvme0n1", beside)
    assert both.chosen is Technique.NVME_SANITIZE_CRYPTO
    assert [one.node for one in both.takes_too] == [beside]


def test_a_namespace_of_another_drive_is_none_of_it(roots: Roots, tmp_path: Path) -> None:
    moved(roots, "nvme0n2", SECOND, "nvme1n2")
    told = asked(roots, tmp_path / "drive")
    assert [one.node for one in told.namespaces] == ["nvme0n1"]
    assert chosen(roots, told).chosen is Technique.NVME_SANITIZE_CRYPTO


@pytest.mark.parametrize("same", [True, False])
def test_one_number_at_two_controllers_is_one_namespace_if_its_name_says_so(
    roots: Roots, tmp_path: Path, same: bool
) -> None:
    moved(roots, "nvme0n2", SECOND, "nvme1n1")
    linked(roots)
    other = disk(roots, "nvme1n1").folder
    (other / "nsid").write_text("1\n")
    if same:
        (other / "wwid").write_text((disk(roots, "nvme0n1").folder / "wwid").read_text())
    told = asked(roots, tmp_path / "drive")
    assert [one.node for one in told.namespaces] == (["nvme0n1"] if same else ["nvme0n1", "nvme1n1"])
    found = chosen(roots, told)
    assert (found.chosen is Technique.NVME_SANITIZE_CRYPTO) is same
    by_the_other = asked(roots, tmp_path / "again", "nvme1n1")
    assert by_the_other.namespaces[0].node == "nvme1n1", "the path that was asked about is its own"


def test_what_is_not_named_in_the_world_is_counted_as_another(roots: Roots, tmp_path: Path) -> None:
    moved(roots, "nvme0n2", SECOND, "nvme1n1")
    linked(roots)
    for name in ("nvme0n1", "nvme1n1"):
        (disk(roots, name).folder / "wwid").unlink()
    (disk(roots, "nvme1n1").folder / "nsid").write_text("1\n")
    refused = chosen(roots, asked(roots, tmp_path / "drive"))
    sanitizes = [one for one in refused.candidates if "nvme-sanitize" in one.technique.value]
    assert not any(one.usable for one in sanitizes)


def test_the_refusal_tells_which_namespace_would_go(roots: Roots, tmp_path: Path) -> None:
    as_heads(roots)
    told = asked(roots, tmp_path / "drive")
    kept = {ability.technique for ability in told.abilities if "format" not in ability.technique.value}
    bare = msgspec.structs.replace(
        told, abilities=[one for one in told.abilities if one.technique in kept], answers=[]
    )
    found = chosen(roots, bare)
    assert isinstance(found.chosen, Refusal)
    assert found.chosen.reason is Reason.OTHER_NAMESPACES
    assert "nvme0n2 (NSID 2)" in found.chosen.detail


def second_path(roots: Roots, wwid: str = "") -> tuple[Path, Path]:
    """nvme1n1 is a second path to nvme0n1, without the kernel's own multipath; the folders of both."""
    moved(roots, "nvme0n2", SECOND, "nvme1n1")
    one, two = disk(roots, "nvme0n1").folder, disk(roots, "nvme1n1").folder
    (two.parent / "subsystem").symlink_to("../../../../../class/nvme")
    for name in ("model", "serial"):
        (two.parent / name).write_text((one.parent / name).read_text())
    for name in ("nsid", "size", "wwid"):
        (two / name).write_text((one / name).read_text())
    for folder in (one, two) if wwid else ():
        (folder / "wwid").write_text(f"{wwid}\n")
    return one, two


@pytest.mark.parametrize("wwid", ["", "uuid.0d2bf8a4-5d10-4ab6-9f2c-4f3c1f6b9c11", "eui.0025385b71b0d7f1"])
def test_two_ways_to_one_namespace_are_one_medium(roots: Roots, wwid: str) -> None:
    second_path(roots, wwid)
    linked(roots)
    entries = {entry.found.usage.path: entry for entry in survey((), roots)}
    assert entries["/dev/nvme0n1"].paths == ("/dev/nvme0n1", "/dev/nvme1n1")
    assert "/dev/nvme1n1" not in entries
    who = describe.identity(disk(roots, "nvme1n1"))
    assert find(who, "/dev/nvme1n1", roots) == "/dev/nvme1n1"
    assert find(who, "", roots) == "/dev/nvme0n1"


def test_what_stands_on_one_way_to_a_namespace_binds_the_other(roots: Roots) -> None:
    (link,) = (roots.sys / "fs/btrfs").glob("*/devices/nvme0n2")
    _, two = second_path(roots)  # nvme0n2, of the recorded btrfs, has become the second path
    link.unlink()
    (link.parent / "nvme1n1").symlink_to(two)
    found = {one.usage.path: one.usage for one in inventory((), roots)}
    assert found["/dev/nvme0n1"].mounts, "the file system is mounted from the other path"


def test_drives_of_two_subsystems_with_one_made_up_name_are_two(roots: Roots) -> None:
    _, two = second_path(roots)
    linked(roots)
    systems = roots.sys / "class/nvme-subsystem"
    (roots.sys / SYSTEM / two.parent.name).unlink()
    (systems / "nvme-subsys1").mkdir()
    (systems / "nvme-subsys1" / two.parent.name).symlink_to(two.parent)
    assert groups(all_disks(roots)) == {}
    with pytest.raises(TargetRefused):
        find(describe.identity(disk(roots, "nvme0n1")), "", roots)


def test_a_made_up_name_from_a_serial_number_of_many_units_joins_nothing(roots: Roots) -> None:
    one, two = second_path(roots)
    for folder in (one.parent, two.parent):
        (folder / "serial").write_text("0123456789\n")
    assert groups(all_disks(roots)) == {}


def test_two_namespaces_of_one_drive_are_no_paths(roots: Roots) -> None:
    assert groups(all_disks(roots)) == {}
