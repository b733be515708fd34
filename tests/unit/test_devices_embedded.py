"""What the eyes make of an eMMC and a UFS device of a recorded machine (tests/recorded/linux-6.1-embedded.json)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from expunge_agent.commands import mmc as commands
from expunge_agent.commands import ufs as queries
from expunge_agent.commands.mmc import MmcCommand
from expunge_agent.commands.port import CommandError
from expunge_agent.core.capabilities import condition, details
from expunge_agent.core.case import ALONE
from expunge_agent.core.drive import Drive
from expunge_agent.core.medium import Found, Medium, MediumType
from expunge_agent.core.selection import Selection, select
from expunge_agent.core.technique import Technique
from expunge_agent.devices import describe, drives, mmc, ufs
from expunge_agent.devices.examine_mmc import area_of, examine_mmc
from expunge_agent.devices.inventory import inventory
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.receipt import Refusal
from expunge_agent.techniques.hand import State
from expunge_agent.techniques.ufs_purge import UfsPurge
from support.recorded import EMBEDDED, lay_out

RECORDED = json.loads(EMBEDDED.read_text())["answers"]


class Register:
    """An eMMC that gives the recorded EXT_CSD."""

    def read(self, command: MmcCommand, length: int) -> bytes:
        assert (command.opcode, length) == (8, 512)
        return bytes.fromhex(RECORDED["EXT_CSD"])

    def send(self, commands: object) -> list[int]:
        raise CommandError("nothing is sent by who only looks")


class Bsg:
    """A UFS device that answers what it was recorded to answer, and nothing else."""

    def exchange(self, request: bytes) -> bytes:
        return bytes.fromhex(dict(RECORDED["ufs-bsg"])[request.hex()])


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path, EMBEDDED)


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def identity(roots: Roots, name: str) -> BlockIdentity:
    return describe.identity(disk(roots, name))


def seen(roots: Roots, name: str) -> Found:
    return next(one for one in inventory((), roots) if one.usage.path == f"/dev/{name}")


def test_boot_partitions_are_areas_of_the_card_and_not_cards(roots: Roots) -> None:
    whole = identity(roots, "mmcblk0")
    assert (whole.bus, whole.model, whole.serial, whole.instance) == ("mmc", "QEMU!!", "0xdeadbeef", "")
    for name in ("boot0", "boot1"):
        area = identity(roots, f"mmcblk0{name}")
        assert (area.bus, area.model, area.serial, area.instance) == ("mmc", "QEMU!!", "0xdeadbeef", name)
        assert mmc.user_area(disk(roots, f"mmcblk0{name}")) == disk(roots, "mmcblk0")
    assert mmc.area(disk(roots, "mmcblk0")) == ""
    assert mmc.area(disk(roots, "sda")) == ""


def test_what_lies_beside_the_user_area_is_said(roots: Roots) -> None:
    (note,) = (one for one in describe.medium(disk(roots, "mmcblk0")).notes if "beside" in one)
    assert "mmcblk0boot0, mmcblk0boot1, mmcblk0rpmb" in note
    assert any(
        "the area boot1 of the eMMC /dev/mmcblk0" in one
        for one in describe.medium(disk(roots, "mmcblk0boot1")).notes
    )


def test_a_boot_partition_of_a_real_maker_is_flash_as_its_card(roots: Roots) -> None:
    (mmc.card(disk(roots, "mmcblk0")) / "name").write_text("DG4008\n")
    assert describe.medium(disk(roots, "mmcblk0")).type is MediumType.SSD
    assert describe.medium(disk(roots, "mmcblk0boot0")).type is MediumType.SSD


def test_how_a_boot_partition_is_made_writable_is_said(roots: Roots) -> None:
    assert "echo 0 > /sys/block/mmcblk0boot0/force_ro" in seen(roots, "mmcblk0boot0").usage.read_only
    assert not seen(roots, "mmcblk0").usage.read_only
    (disk(roots, "mmcblk0boot0").folder / "force_ro").write_text("0\n")  # a fuse, not Linux
    assert "force_ro" not in seen(roots, "mmcblk0boot0").usage.read_only


def test_the_recorded_register_is_read() -> None:
    csd = commands.parse_ext_csd(bytes.fromhex(RECORDED["EXT_CSD"]))
    assert (csd.revision, csd.size, csd.unit, csd.erase_group) == (5, 64 << 20, 1, 512 * 1024)
    assert (csd.boot_size, csd.rpmb_size, csd.access) == (2 << 20, 128 * 1024, 0)
    drive = examine_mmc(Register())
    assert not drive.doubtful
    assert not any(one.offered for one in drive.abilities)


def choose(medium: Medium, drive: Drive, level: Level) -> Selection:
    return select(Target(identity=medium.identity), medium, drive, None, level, False, ALONE)


def test_an_area_has_no_erase_commands_and_can_be_overwritten(roots: Roots) -> None:
    medium = describe.medium(disk(roots, "mmcblk0boot0"))
    drive = area_of("/dev/mmcblk0")
    assert all("/dev/mmcblk0" in one.why for one in drive.abilities)
    assert choose(medium, drive, Level.CLEAR).chosen is Technique.OVERWRITE
    assert isinstance(choose(medium, drive, Level.PURGE).chosen, Refusal)


def test_where_writes_go_astray_nothing_is_usable(roots: Roots) -> None:
    register = bytearray.fromhex(RECORDED["EXT_CSD"])
    register[179] = 0x01  # as it was seen after a switch that QEMU carried out and called an error
    csd = commands.parse_ext_csd(bytes(register))
    drive = Drive(protocol="mmc", astray=csd.astray())
    assert condition(drive) == "writes go elsewhere"
    assert "switched to its boot partition 1" in details(drive)[-1]
    chosen = choose(describe.medium(disk(roots, "mmcblk0")), drive, Level.CLEAR)
    assert not any(one.usable for one in chosen.candidates)
    assert isinstance(chosen.chosen, Refusal)
    assert "switched to its boot partition 1" in chosen.chosen.detail
    assert "restart the machine" in chosen.chosen.remedy


def test_a_unit_without_names_is_named_by_its_device_and_number(roots: Roots) -> None:
    one, two = identity(roots, "sda"), identity(roots, "sdb")
    assert (one.bus, one.serial) == ("ufs", "")  # Linux prints "(null)" for QEMU's empty string
    told = disk(roots, "sda").folder.parents[4] / "string_descriptors/serial_number"
    assert told.read_text() == "(null)\n"
    told.write_text("1E0A55C3\n")
    one, two = identity(roots, "sda"), identity(roots, "sdb")
    assert (one.serial, one.instance, two.serial, two.instance) == ("1E0A55C3", "lun0", "1E0A55C3", "lun1")
    page = b"\0\x80\0\x06UNIT-A"
    (disk(roots, "sda").folder / "device/vpd_pg80").write_bytes(page)
    assert (identity(roots, "sda").serial, identity(roots, "sda").instance) == ("UNIT-A", "")


def test_a_unit_that_cannot_be_unmapped_is_not_purged(roots: Roots) -> None:
    unit = disk(roots, "sda")
    medium = describe.medium(unit)
    assert ufs.query_node(unit) == Path("/dev/bsg/ufs-bsg7")
    drive = drives.with_ufs(drives.as_the_kernel_sees_it(unit, medium), unit)
    assert "bProvisioningType" in drive.ability(Technique.UFS_PURGE).why
    (unit.folder / "device/unit_descriptor/provisioning_type").write_text("0x03\n")
    drive = drives.with_ufs(drives.as_the_kernel_sees_it(unit, medium), unit)
    assert drive.ability(Technique.UFS_PURGE).offered
    (purge,) = (
        one for one in choose(medium, drive, Level.CLEAR).candidates if one.technique is Technique.UFS_PURGE
    )
    assert (purge.usable, purge.earns) == (True, Level.CLEAR)


def test_a_device_that_refuses_a_purge_has_failed() -> None:
    assert queries.read_purge_status(Bsg()).words == "success (00h)"
    hand = UfsPurge(Bsg(), unmap=list)
    hand.prepare()
    with pytest.raises(CommandError, match=r"refused to purge: parameter not writeable \(F7h\)"):
        hand.start()
    status = hand.poll()
    assert status.state is State.FAILED
    assert status.answers[0].name == "fPurgeEnable set: parameter not writeable (F7h)"
