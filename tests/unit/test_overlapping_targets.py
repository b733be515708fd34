"""A drive and its own partition in one order: refused by whoever sees it first, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from expunge_agent.core.admission import check_order
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.overlap import overlap_of, overlapping, shared
from expunge_agent.protocol.receipt import Reason
from support.agents import NOW, Bench, target_of

MIB = 1 << 20
DRIVE = BlockIdentity(bus="sata", model="M", serial="S1", wwn="w1", size=U64(100 * MIB))
LOOP = BlockIdentity(bus="loop", model="", serial="", wwn="", size=U64(100 * MIB), instance="boot/7")


def part(drive: BlockIdentity, number: int, start: int, size: int) -> BlockIdentity:
    """As `expunge_agent.devices.describe.identity` makes it."""
    instance = f"{drive.instance}/part{number}@{start}".lstrip("/")
    return msgspec.structs.replace(drive, size=U64(size), instance=instance)


def changed(drive: BlockIdentity, **changes: object) -> BlockIdentity:
    return msgspec.structs.replace(drive, **changes)


@pytest.mark.parametrize("drive", [DRIVE, LOOP], ids=["serial", "instance"])
def test_a_partition_lies_on_its_drive(drive: BlockIdentity) -> None:
    one, other = part(drive, 1, MIB, 9 * MIB), part(drive, 2, 10 * MIB, 90 * MIB)
    assert shared(one, drive) == "lies on"
    assert shared(drive, one) == "holds"
    assert shared(one, other) == ""
    assert shared(part(drive, 5, 9 * MIB, 2 * MIB), one) == "shares bytes with"
    assert shared(drive, drive) == "", "that one is named twice, which is told elsewhere"


@pytest.mark.parametrize(
    "other",
    [
        changed(DRIVE, serial="S2"),
        changed(DRIVE, wwn="w2"),
        changed(DRIVE, bus="usb"),
        changed(DRIVE, model="N"),
        changed(LOOP, instance="boot/8"),
        changed(LOOP, instance="boot/70"),
    ],
)
def test_another_drive_s_partition_does_not(other: BlockIdentity) -> None:
    assert shared(part(other, 1, MIB, MIB), DRIVE) == ""
    assert shared(part(other, 1, MIB, MIB), LOOP) == ""


def test_two_slots_of_a_card_reader_are_two() -> None:
    assert shared(changed(DRIVE, size=U64(MIB)), DRIVE) == ""


def test_drives_without_any_name_are_not_taken_for_one() -> None:
    nameless = changed(DRIVE, serial="", wwn="")
    assert shared(part(nameless, 1, MIB, MIB), nameless) == ""


def test_the_sentence_names_both_by_number_and_path() -> None:
    targets = [
        Target(identity=LOOP, hint="/dev/loop3"),
        Target(identity=DRIVE, hint="/dev/sda"),
        Target(identity=part(DRIVE, 2, MIB, MIB), hint="/dev/sda2"),
    ]
    assert overlapping(targets) == "Target 3 (/dev/sda2) lies on target 2 (/dev/sda)."
    assert overlapping(targets[:2]) == ""
    assert overlap_of([None, *targets[1:]], 2) == "Target 3 (/dev/sda2) lies on target 2 (/dev/sda)."
    assert overlap_of([targets[0], None, targets[2]], 2) == ""


def test_an_order_of_both_is_not_admitted(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path / "state")
    image = tmp_path / "disk.img"
    image.write_bytes(b"RECORD " * 1000)
    order = bench.order(image)
    both = [Target(identity=DRIVE), Target(identity=part(DRIVE, 1, MIB, MIB))]
    order = msgspec.structs.replace(order, targets=[target_of(image), *both])
    assert check_order(msgspec.structs.replace(order, targets=[both[0]]), order.machine_id, NOW, True) is None
    refusal = check_order(order, order.machine_id, NOW, True)
    assert refusal is not None
    assert (refusal.reason, refusal.detail) == (Reason.OVERLAPPING_TARGETS, "Target 3 lies on target 2.")
    receipt = bench.run(order)
    assert receipt.refusal == refusal
    assert image.read_bytes() == b"RECORD " * 1000, "not one of its targets is written"
