"""UFS: the kernel's structures, and a purge on a device in memory. Never tried on a device."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.commands import kernel_ufs, ufs
from expunge_agent.commands.port import CommandError, NoPassThrough
from expunge_agent.core.capabilities import can
from expunge_agent.core.drive import Drive
from expunge_agent.core.medium import MediumType
from expunge_agent.core.plan import TargetPlan, VerificationPlan
from expunge_agent.core.technique import Technique, earns
from expunge_agent.devices import describe, drives
from expunge_agent.devices.nodes import all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.ufs import query_node
from expunge_agent.protocol.base import Level
from expunge_agent.steps import Steps
from expunge_agent.techniques import erasing
from expunge_agent.techniques.hand import Hand, Rejected, State
from expunge_agent.techniques.ufs_purge import UfsPurge
from lab.bench import Book, _Silent
from support import ufs as device
from support.ufs import Ufs


def hand(unit: Ufs) -> UfsPurge:
    return UfsPurge(unit, unit.unmap)


def test_the_kernels_structures() -> None:
    """Sizes of include/uapi/scsi/scsi_bsg_ufs.h and include/uapi/linux/bsg.h."""
    assert (ufs.REQUEST.size, ufs.REPLY.size, ufs.UPIU_BYTES) == (36, 40, 32)
    assert ctypes.sizeof(kernel_ufs.SgIoV4) == 160
    for name, at in (
        ("request", 16),
        ("response", 48),
        ("din_xferp", 80),
        ("timeout", 88),
        ("response_len", 132),
    ):
        assert getattr(kernel_ufs.SgIoV4, name).offset == at


def test_a_query_as_it_is_sent() -> None:
    unit = Ufs()
    assert ufs.read_purge_status(unit).value == device.IDLE
    ufs.enable_purge(unit)
    read, write = unit.log
    assert read[4:].hex() == "160000000001000000000000030600000000000000000000" + "00" * 8
    assert write[4:].hex() == "160000000081000000000000060600000000000000000000" + "00" * 8


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda reply: reply[:39], "39 of 40 bytes"),
        (lambda reply: (-22).to_bytes(4, "little", signed=True) + reply[4:], "result -22"),
        (lambda reply: bytes(40), "no answer"),
        (lambda reply: reply[:21] + b"\x07" + reply[22:], "no answer"),
    ],
)
def test_an_answer_that_is_none(damage: Callable[[bytes], bytes], words: str) -> None:
    class Damaged(Ufs):
        def exchange(self, request: bytes) -> bytes:
            return damage(super().exchange(request))

    with pytest.raises(CommandError, match=words):
        ufs.read_purge_status(Damaged())


def test_no_node_is_told() -> None:
    with pytest.raises(NoPassThrough, match="ufs-bsg"):
        kernel_ufs.UfsBsg("/dev/bsg/ufs-bsg999").exchange(bytes(36))


def test_unmapped_then_purged() -> None:
    unit = Ufs()
    one: Hand = hand(unit)
    one.prepare()
    one.start()
    assert unit.flash and not unit.mapped
    assert [one.poll().state for _ in range(4)] == [State.RUNNING] * 3 + [State.DONE]
    assert not unit.flash
    assert one.poll().state is State.IDLE  # the device says it once
    assert one.settle() == []


@pytest.mark.parametrize("stale", [device.STOPPED, device.DONE, device.BUSY, device.FAILED])
def test_the_word_of_an_old_purge_is_taken_first(stale: int) -> None:
    unit = Ufs()
    unit.status = stale
    assert len(hand(unit).prepare()) == 2
    assert unit.status == device.IDLE


def test_what_cannot_be_begun() -> None:
    unit = Ufs()
    unit.status, unit.keeps_status = device.DONE, True
    with pytest.raises(Rejected, match="stays 03h"):
        hand(unit).prepare()
    unit = Ufs()
    unit.has_status = False
    with pytest.raises(Rejected, match=r"invalid IDN \(FDh\)"):
        hand(unit).prepare()
    unit = Ufs(looks=99)
    ufs.enable_purge(unit)
    with pytest.raises(Rejected, match="purging already"):
        hand(unit).prepare()
    assert unit.mapped


def carried(unit: Ufs, book: Book | None = None) -> Any:
    """The erasure as the journal has it after the runner had this device."""
    book = book or Book()
    plan = TargetPlan(
        path="/dev/sdz",
        technique=Technique.UFS_PURGE,
        earns=Level.CLEAR,
        verification=VerificationPlan(kind="none"),
        drive=Drive(protocol="scsi"),
        key="00" * 32,
    )
    book.target(0).plan = plan
    watch = erasing.Watch(
        stop=threading.Event(), now=lambda: datetime(2026, 1, 1, tzinfo=UTC), poll=0.0, timeout=5.0
    )
    so_far = book.target(0).erasure
    erasing.carry_through(hand(unit), plan, so_far, Steps(0, book, _Silent()), watch)  # type: ignore[arg-type]
    return so_far


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ({}, "done"),
        ({"status": device.DONE}, "done"),  # an old word is no end
        ({"status": device.DONE, "forgets": True}, "unknown"),
        ({"forgets": True}, "unknown"),
        ({"ends_as": device.STOPPED}, "failed"),
        ({"ends_as": device.BUSY}, "failed"),
        ({"ends_as": device.FAILED}, "failed"),
        ({"ends_as": 9}, "unknown"),
        ({"refuses_flag": 0xF7}, "failed"),  # as QEMU 11.1 does
        ({"has_status": False}, "not-begun"),
    ],
)
def test_only_its_own_end_is_believed(fault: dict[str, Any], end: str) -> None:
    unit = Ufs()
    for name, value in fault.items():
        setattr(unit, name, value)
    so_far = carried(unit)
    assert so_far.ended is not None
    assert so_far.ended.end == end
    assert (end == "done") is not bool(unit.flash)


def test_a_word_that_somebody_else_took_is_no_end() -> None:
    unit = Ufs(looks=1)
    one = hand(unit)
    one.prepare()
    one.start()
    ufs.read_purge_status(unit)
    assert ufs.read_purge_status(unit).value == device.DONE  # an inventory of somebody's
    assert one.poll().state is State.IDLE


def test_it_earns_clear_and_no_more() -> None:
    assert earns(Technique.UFS_PURGE, MediumType.SSD) is Level.CLEAR
    assert earns(Technique.UFS_PURGE, MediumType.UNKNOWN) is Level.CLEAR


def tree(folder: Path, *, bsg: bool) -> Roots:
    """sysfs of a UFS logical unit: host, SCSI device with its unit descriptor, block device, query node."""
    disk = folder / "sys/devices/platform/soc/1d84000.ufshc/host3/target3:0:0/3:0:0:0/block/sdz"
    scsi = disk.parent.parent
    for path in (disk / "queue", scsi / "unit_descriptor", folder / "sys/class/block", folder / "sys/block"):
        path.mkdir(parents=True)
    host = folder / "sys/devices/platform/soc/1d84000.ufshc/host3"
    (host / "scsi_host/host3").mkdir(parents=True)
    (host / "scsi_host/host3/proc_name").write_text("ufshcd\n")
    (folder / "sys/bus/scsi/drivers/sd").mkdir(parents=True)
    (folder / "sys/bus/scsi/devices").mkdir(parents=True)
    (scsi / "driver").symlink_to(folder / "sys/bus/scsi/drivers/sd")
    (scsi / "subsystem").symlink_to(folder / "sys/bus/scsi")
    (disk / "device").symlink_to(scsi)
    (disk / "subsystem").symlink_to(folder / "sys/class/block")
    (scsi / "vendor").write_text("MAKER   \n")
    (scsi / "model").write_text("UFS UNIT        \n")
    (disk / "dev").write_text("8:400\n")
    (disk / "size").write_text("2048\n")
    (disk / "queue/rotational").write_text("1\n")
    (folder / "sys/class/block/sdz").symlink_to(disk)
    (folder / "sys/block/sdz").symlink_to(disk)
    if bsg:
        (folder / "sys/class/bsg/ufs-bsg3").mkdir(parents=True)
    return Roots(sys=folder / "sys", proc=folder / "proc", etc=folder / "etc", run=folder / "run")


@pytest.mark.parametrize("bsg", [True, False])
def test_the_inventory_calls_it_what_it_is(tmp_path: Path, bsg: bool) -> None:
    (disk,) = all_disks(tree(tmp_path, bsg=bsg))
    assert describe.bus(disk) == "ufs"
    medium = describe.medium(disk)
    assert medium.type is MediumType.SSD
    assert medium.identity.model == "MAKER UFS UNIT"  # type: ignore[union-attr]
    assert query_node(disk) == (Path("/dev/bsg/ufs-bsg3") if bsg else None)
    drive = drives.with_ufs(drives.as_the_kernel_sees_it(disk, medium), disk)
    assert drive.protocol == "scsi"
    assert drive.ability(Technique.UFS_PURGE).offered is bsg
    assert ("purge ufs" in can(drive)) is bsg
    assert any("RPMB" in one for one in drive.unreached)
