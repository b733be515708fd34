"""From the tree above a target to ordered steps: pure, on trees as they are read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.deactivation import (
    MountedAt,
    Over,
    Standing,
    StepKind,
    Surface,
    Swap,
    Taking,
    listed,
    plan_deactivation,
)
from expunge_agent.protocol.receipt import Reason

GIB = 1 << 30
ROOMY = Surface(points=("/", "/mnt"), available=GIB)


def device(name: str, kind: str = "device mapper", **more: object) -> Standing:
    return Standing(name=name, kind=kind, path=f"/dev/{name}", label=more.pop("label", name), **more)  # type: ignore[arg-type]


def lv(name: str, label: str, *layers: Standing, uuid: str = "LVM-" + "a" * 64, **more: object) -> Standing:
    return device(name, "lvm", label=label, uuid=uuid, layers=layers, **more)


def disk(*layers: Standing, **more: object) -> Standing:
    return device("sda", "disk", layers=layers, **more)


def did(taking: Taking) -> list[tuple[str, str]]:
    assert not taking.refusals, taking.refusals
    return [(step.what.value, step.on) for step in taking.steps]


def reasons(taking: Taking) -> list[Reason]:
    return [one.reason for one in taking.refusals]


def test_a_free_device_needs_no_step() -> None:
    assert did(plan_deactivation(disk(device("sda1", "partition")), ROOMY)) == []


def test_what_stands_highest_goes_first() -> None:
    top = device("dm-2", "crypt", label="secret", mounts=(MountedAt("/mnt/s"),))
    tree = disk(
        device("sda1", "partition", layers=(device("md0", "md raid1", layers=(lv("dm-1", "vg-data", top),)),))
    )
    assert did(plan_deactivation(tree, ROOMY)) == [
        ("unmount", "/mnt/s"),
        ("close-crypt", "secret"),
        ("deactivate-lv", "vg/data"),
        ("stop-md", "/dev/md0"),
    ]


def test_what_stands_in_two_places_goes_once_and_after_both() -> None:
    array = device("md0", "md raid1", mounts=(MountedAt("/mnt/a"),))
    tree = disk(device("sda1", "partition", layers=(array,)), device("sda2", "partition", layers=(array,)))
    assert did(plan_deactivation(tree, ROOMY)) == [("unmount", "/mnt/a"), ("stop-md", "/dev/md0")]


def test_mounts_below_each_other_on_different_layers() -> None:
    inner = device("sda2", "partition", mounts=(MountedAt("/mnt/a/b"),))
    tree = disk(device("sda1", "partition", mounts=(MountedAt("/mnt/a"),)), inner)
    steps = did(plan_deactivation(tree, Surface(("/", "/mnt/a", "/mnt/a/b"), GIB)))
    assert steps == [("unmount", "/mnt/a/b"), ("unmount", "/mnt/a")]


def test_two_mounts_on_one_point_are_two_steps() -> None:
    tree = disk(mounts=(MountedAt("/mnt/a"), MountedAt("/mnt/a")))
    assert did(plan_deactivation(tree, ROOMY)) == [("unmount", "/mnt/a")] * 2


def test_loop_devices_and_swap_on_files_go_before_their_file_system() -> None:
    loop = device("loop3", "loop", mounts=(MountedAt("/mnt/image"),))
    mount = MountedAt("/mnt/a", layers=(loop,), swaps=(Swap("/mnt/a/swap", 4096),))
    assert did(plan_deactivation(disk(mounts=(mount,)), ROOMY)) == [
        ("unmount", "/mnt/image"),
        ("detach-loop", "/dev/loop3"),
        ("swapoff", "/mnt/a/swap"),
        ("unmount", "/mnt/a"),
    ]


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("multipath", ("flush-multipath", "x")),
        ("device mapper", ("remove-map", "x")),
        ("multipath partition", ("remove-map", "x")),
        ("integrity", ("remove-map", "x")),
        ("loop", ("detach-loop", "/dev/dm-9")),
        ("bcache", ("stop-bcache", "/dev/dm-9")),
        ("md raid5", ("stop-md", "/dev/dm-9")),
    ],
)
def test_each_kind_has_its_own_step(kind: str, step: tuple[str, str]) -> None:
    assert did(plan_deactivation(disk(device("dm-9", kind, label="x")), ROOMY)) == [step]


def test_a_cache_set_stops_last() -> None:
    tree = disk(device("bcache0", "bcache"), cache_set="0c1d")
    assert did(plan_deactivation(tree, ROOMY)) == [
        ("stop-bcache", "/dev/bcache0"),
        ("stop-bcache-set", "0c1d"),
    ]


def test_inner_devices_of_lvm_go_with_their_volume() -> None:
    ids = "LVM-" + "a" * 64
    origin, snap = lv("dm-3", "vg-origin"), lv("dm-4", "vg-snap")
    real = lv("dm-1", "vg-origin-real", origin, snap, uuid=f"{ids}-real")
    cow = lv("dm-2", "vg-snap-cow", snap, uuid=f"{ids}-cow")
    image = lv("dm-5", "vg-safe_rimage_0", lv("dm-6", "vg-safe"))
    assert did(plan_deactivation(disk(real, cow, image), ROOMY)) == [
        ("deactivate-lv", "vg/origin"),
        ("deactivate-lv", "vg/snap"),
        ("deactivate-lv", "vg/safe"),
    ]
    pool = lv("dm-7", "vg--two-pool-tpool", uuid=f"{ids}-tpool")
    assert did(plan_deactivation(disk(pool), ROOMY)) == [("deactivate-lv", "vg-two/pool")]


REFUSED = [
    (disk(device("drbd0", "disk")), Reason.HELD, "does not know"),
    (disk(device("sda1", "partition", pool="tank")), Reason.HELD, "zpool export"),
    (disk(lv("dm-1", "nohyphen")), Reason.HELD, "nohyphen"),
    (disk(device("dm-1", system="it holds the system's /boot")), Reason.SYSTEM, "/boot"),
    (disk(mounts=(MountedAt("/mnt", users=("42 postgres",)),)), Reason.IN_USE, "42 postgres"),
    (disk(device("dm-1", opened_by=("7 dd",))), Reason.IN_USE, "7 dd"),
    (disk(mounts=(MountedAt("/mnt", namespace="99"),)), Reason.MOUNTED, "process 99"),
    (disk(mounts=(MountedAt("(btrfs 1234)"),)), Reason.MOUNTED, "no mount point"),
    (disk(mounts=(MountedAt("/mnt/\udc80"),)), Reason.MOUNTED, "no mount point"),
    (disk(mounts=(MountedAt("/mnt", over=(Over("9", "/mnt"),)),)), Reason.MOUNTED, "hidden by another"),
    (disk(mounts=(MountedAt("/mnt", overlays=("/merged",)),)), Reason.MOUNTED, "/merged"),
    (disk(device("dm-1", held=True)), Reason.IN_USE, "held by something"),
    (disk(swaps=(Swap("/dev/sda", GIB + 1),)), Reason.SWAP, "swapped out"),
    (disk(swaps=(Swap("/dev/sda", GIB // 2),), mounts=(MountedAt("/m", swaps=(Swap("/m/s", GIB),)),)), Reason.SWAP, "free"),
    (disk(*(device(f"dm-{n}") for n in range(1001))), Reason.HELD, "1001 things"),
]  # fmt: skip


@pytest.mark.parametrize(("tree", "reason", "word"), REFUSED)
def test_what_may_not_be_taken_down(tree: Standing, reason: Reason, word: str) -> None:
    taking = plan_deactivation(tree, ROOMY)
    assert reasons(taking) == [reason]
    assert word in f"{taking.refusals[0].detail} {taking.refusals[0].remedy}"


def test_a_mount_off_the_target_keeps_the_one_around_it() -> None:
    tree = disk(mounts=(MountedAt("/mnt/a"),))
    assert reasons(plan_deactivation(tree, Surface(("/", "/mnt/a", "/mnt/a/usb"), GIB))) == [Reason.MOUNTED]
    assert did(plan_deactivation(tree, Surface(("/", "/mnt/a", "/mnt/ab"), GIB)))


def test_a_mount_off_the_target_is_not_taken_for_one_of_its_own_at_the_same_point() -> None:
    tree = disk(mounts=(MountedAt("/mnt/a", mount_id="1"), MountedAt("/mnt/a/b", mount_id="2")))
    assert did(plan_deactivation(tree, Surface(("/", "/mnt/a", "/mnt/a/b"), GIB)))
    twice = Surface(("/", "/mnt/a", "/mnt/a/b", "/mnt/a/b"), GIB)
    assert reasons(plan_deactivation(tree, twice)) == [Reason.MOUNTED]


def test_what_hides_a_mount_goes_first_when_it_is_the_targets_too() -> None:
    hidden = MountedAt("/mnt/a/b", mount_id="2", over=(Over("3", "/mnt/a"),))
    outer = MountedAt("/mnt/a", mount_id="3")
    tree = disk(device("sda1", "partition", mounts=(hidden,)), device("sda2", "partition", mounts=(outer,)))
    points = Surface(("/", "/mnt/a", "/mnt/a/b"), GIB)
    assert did(plan_deactivation(tree, points)) == [("unmount", "/mnt/a"), ("unmount", "/mnt/a/b")]


def test_a_file_system_on_two_devices_of_the_target_is_unmounted_once() -> None:
    mount = MountedAt("/mnt/pool", mount_id="7")
    tree = disk(*(device(name, "partition", mounts=(replace(mount),)) for name in ("sda1", "sda2")))
    assert did(plan_deactivation(tree, ROOMY)) == [("unmount", "/mnt/pool")]


def test_a_target_of_the_same_order_is_not_taken_down() -> None:
    tree = disk(lv("dm-1", "vg-data"))
    assert reasons(plan_deactivation(tree, ROOMY, frozenset(["/dev/dm-1"]))) == [Reason.HELD]
    assert did(plan_deactivation(tree, ROOMY, frozenset(["/dev/dm-2"])))


def test_a_device_that_stands_on_itself_is_refused() -> None:
    again = device("loop1", "loop")
    tree = disk(replace(again, mounts=(MountedAt("/mnt/a", layers=(again,)),)))
    assert Reason.HELD in reasons(plan_deactivation(tree, ROOMY))


def test_the_steps_are_said_with_what_else_they_stand_on() -> None:
    tree = disk(device("md0", "md raid1", beside=("/dev/sdb (ata DISK S2)",)))
    taking = plan_deactivation(tree, ROOMY)
    assert taking.steps[0].beside == ["/dev/sdb (ata DISK S2)"]
    assert listed(taking.steps) == ["1. stop the array /dev/md0 (it stands on /dev/sdb (ata DISK S2) too)"]


NAMES = st.integers(min_value=1, max_value=12).map(lambda number: f"dm-{number}")


@st.composite
def trees(draw: st.DrawFn) -> Standing:
    """A stack in which each layer stands on some of those below it, as the kernel builds them."""
    count = draw(st.integers(min_value=1, max_value=9))
    made: list[Standing] = []
    for number in range(count):
        above = tuple(one for one in made if draw(st.booleans()))
        mounts = (MountedAt(f"/m{number}"),) if draw(st.booleans()) else ()
        kind = draw(st.sampled_from(["device mapper", "crypt", "md raid1", "partition", "loop"]))
        made.append(device(f"dm-{number}", kind, layers=above, mounts=mounts))
    return disk(*made)


@given(trees())
def test_nothing_goes_before_what_stands_on_it(tree: Standing) -> None:
    steps = plan_deactivation(tree, ROOMY).steps
    place = {(step.device, step.what is StepKind.UNMOUNT): number for number, step in enumerate(steps)}
    assert len(place) == len(steps), "each once"

    def check(layer: Standing) -> None:
        own = place.get((layer.name, False))
        for above in layer.layers:
            check(above)
            if own is not None:
                for unmount in (False, True):
                    assert place.get((above.name, unmount), -1) < own
        if own is not None:
            assert place.get((layer.name, True), -1) < own

    check(tree)
    assert ("sda", False) not in place
