"""Which volumes an overwrite reaches, what it leaves, and how LVM's names are read: pure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.case import ALONE
from expunge_agent.core.guard import guard
from expunge_agent.core.medium import Kind, Medium, MediumType, Usage
from expunge_agent.core.plan import NOTHING_DRAWN, plan_target
from expunge_agent.core.selection import Candidate, select, taken
from expunge_agent.core.volume import (
    Layout,
    Volume,
    doubts,
    forbidden,
    lvm_name,
    lvm_part,
    lvm_suffix,
    not_covered,
    uncredited,
)
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_steps import Member
from expunge_profiles.load import builtin

IDS = "LVM-" + "a1B2" * 16
REACHED = (Layout.PARTITION, Layout.LINEAR, Layout.RAID, Layout.CRYPT, Layout.CONTROLLER)


def volume(layout: Layout = Layout.LINEAR, **more: object) -> Volume:
    return Volume(name="vg/one", layout=layout, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", list(Layout))
def test_each_kind_is_taken_or_refused_with_what_would_work(layout: Layout) -> None:
    found = forbidden(volume(layout))
    assert (found is None) is (layout in REACHED)
    if found is not None:
        assert found.why and found.remedy.endswith(".")
        over = forbidden(volume(Layout.CRYPT, below=(volume(Layout.LINEAR, below=(volume(layout),)),)))
        assert over is not None, "what lies on it is refused too, in any depth"
        assert over.why == f"it lies on vg/one, and of that: {found.why}"
        assert over.remedy == found.remedy


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("thin", "thin volume"),
        ("snapshot", "a snapshot"),
        ("snapshot-origin", "snapshot-origin"),
        ("cache", "cached"),
        ("vdo", "VDO"),
        ("zero", "mapped by zero"),
        ("verity", "mapped by verity"),
    ],
)
def test_targets_of_the_device_mapper_that_replace_no_data(target: str, word: str) -> None:
    found = forbidden(volume(targets=("linear", target)))
    assert found is not None
    assert word in found.why
    assert forbidden(volume(targets=("linear", "striped", "crypt", "flakey", "delay"))) is None


def test_an_origin_names_its_snapshots() -> None:
    found = forbidden(volume(Layout.ORIGIN, snapshots=("vg/monday", "vg/tuesday")))
    assert found is not None
    assert "(vg/monday, vg/tuesday)" in found.why
    assert "lvremove" in found.remedy


def test_members_that_are_not_in_step_or_not_there() -> None:
    at_work = forbidden(volume(Layout.RAID, under_way="recover"))
    assert at_work is not None
    assert "(recover)" in at_work.why
    short = volume(Layout.RAID, missing=1)
    assert forbidden(short) is None
    assert doubts(short) == ["vg/one ran without 1 of its members: what those hold was not overwritten."]
    assert doubts(volume(Layout.CRYPT, below=(short,))) == doubts(short)
    assert doubts(volume()) == doubts(None) == []


def test_what_is_left_is_said_for_everything_below_too() -> None:
    array = volume(Layout.RAID, level="raid1", left_out=("sdd (faulty)",))
    stack = replace(volume(Layout.CRYPT, below=(replace(volume(group="vg"), below=(array,)),)), name="secret")
    said = " ".join(not_covered(stack))
    for word in (
        "secret does not map",
        "keyslots",
        "volume group vg",
        "bitmaps",
        "sdd (faulty)",
        "by one of them",
    ):
        assert word in said
    assert not_covered(None) == []
    striped = " ".join(not_covered(volume(Layout.RAID, level="raid0")))
    assert "Copies and parity" not in striped
    assert not_covered(volume(Layout.PARTITION)) == ["Everything of the drive outside vg/one."]


def test_what_the_device_mapper_did_not_say_is_refused() -> None:
    found = forbidden(volume(Layout.CRYPT, below=(volume(unasked=True),)))
    assert found is not None
    assert "dmsetup did not say" in found.why and "/dev/mapper/control" in found.remedy


@pytest.mark.parametrize("layout", list(Layout))
def test_arrays_earn_nothing_and_nothing_that_lies_on_them(layout: Layout) -> None:
    array = layout in (Layout.RAID, Layout.CONTROLLER)
    assert bool(uncredited(volume(layout))) is array
    assert bool(uncredited(volume(Layout.CRYPT, below=(volume(below=(volume(layout),)),)))) is array
    assert uncredited(None) == ""


def selected(over: Volume, policy: str, *, downgrade: bool = False) -> Candidate | Refusal:
    who = BlockIdentity(bus="lvm", model="vg/one", serial=IDS, wwn="", size=U64(1 << 30))
    medium = Medium(path="/dev/dm-3", identity=who, type=MediumType.VIRTUAL, volume=over)
    profile = builtin()[policy]
    plan = plan_target(
        Target(identity=who), medium, None, profile, Level.CLEAR, downgrade, ALONE, NOTHING_DRAWN
    )
    found = taken(select(Target(identity=who), medium, None, profile, Level.CLEAR, downgrade))
    assert isinstance(plan, Refusal) is isinstance(found, Refusal)
    return found


@pytest.mark.parametrize("kind", ["usb-flash", "unknown"])
def test_a_volume_earns_no_more_than_its_weakest_member(kind: str) -> None:
    """One pass is not enough on a stick, and so not on a mapping onto one."""
    weak, good = (
        Member(path=path, kind="disk", type=of, depth=1, identity=BlockIdentity(bus="usb", model="M", serial="S", wwn="", size=U64(1)))
        for path, of in (("/dev/sdx", kind), ("/dev/sdy", "hdd"))
    )  # fmt: skip
    refused = selected(volume(members=(good, weak)), "nist-clear")
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.PROFILE_NOT_APPLICABLE
    assert f"lies on /dev/sdx, which is of type {kind}" in refused.detail
    assert isinstance(selected(volume(members=(good,)), "nist-clear"), Candidate)


def test_an_array_is_overwritten_without_a_level_and_only_where_that_is_allowed() -> None:
    array = volume(Layout.RAID, level="raid1")
    refused = selected(array, "nist-clear")
    assert isinstance(refused, Refusal)
    assert (refused.reason, "order each of its members" in refused.remedy) == (
        Reason.LEVEL_NOT_ACHIEVABLE,
        True,
    )
    found = selected(array, "nist-clear", downgrade=True)
    assert isinstance(found, Candidate)
    assert (found.earns, "is an array" in found.detail) == (Level.NONE, True)


def test_the_guard_refuses_it_by_that_name() -> None:
    who = BlockIdentity(bus="lvm", model="vg/one", serial=IDS, wwn="", size=U64(1 << 20))
    medium = Medium(path="/dev/dm-3", identity=who, type=MediumType.VIRTUAL, volume=volume(Layout.THIN))
    usage = Usage(path="/dev/dm-3", kind=Kind.BLOCK)
    refusal = guard(None, medium, usage)
    assert refusal is not None
    assert refusal.reason is Reason.UNSUPPORTED
    assert "thin volume" in refusal.detail and "physical volumes" in refusal.remedy
    assert guard(None, replace(medium, volume=volume()), usage) is None


@pytest.mark.parametrize(
    ("name", "title", "layer"),
    [
        ("vg-lv", "vg/lv", ""),
        ("vg--a-lv--b", "vg-a/lv-b", ""),
        ("vg-pool-tpool", "vg/pool", "tpool"),
        ("a----b-c", "a--b/c", ""),
        ("vault", "", ""),
        ("a-b-c-d", "", ""),
        ("-lv", "", ""),
        ("", "", ""),
    ],
)
def test_names_of_mapped_devices(name: str, title: str, layer: str) -> None:
    found = lvm_name(name)
    assert (found.title if found else "", found.layer if found else "") == (title, layer)


@pytest.mark.parametrize(
    ("name", "uuid", "part"),
    [
        ("vg-lv", IDS, ""),
        ("vg-lv-real", f"{IDS}-real", "real"),
        ("vg-snap-cow", f"{IDS}-cow", "cow"),
        ("vg-pool", f"{IDS}-pool", ""),
        ("vg-pool-tpool", f"{IDS}-tpool", "tpool"),
        ("vg-pool_tdata", f"{IDS}-tdata", "tdata"),
        ("vg-lv_rimage_0", IDS, "rimage_0"),
        ("vg-lv_rmeta_12", IDS, "rmeta_12"),
        ("vg-pvmove0", IDS, "pvmove0"),
        ("vg-my_rimage", IDS, "rimage"),
        ("vault", "LVM-recorded", ""),
        ("vault", "", ""),
    ],
)
def test_inner_parts_of_logical_volumes(name: str, uuid: str, part: str) -> None:
    assert lvm_part(name, uuid) == part


_PLAIN = st.from_regex(r"[a-zA-Z0-9_.+][a-zA-Z0-9_.+-]{0,20}", fullmatch=True)


@given(_PLAIN, _PLAIN)
def test_every_pair_of_names_is_read_as_it_was_written(group: str, name: str) -> None:
    """lvm2 doubles the hyphens of both names; three that meet are told apart from the left, as lvm2 does."""
    written = f"{group.replace('-', '--')}-{name.replace('-', '--')}"
    found = lvm_name(written)
    assert found is not None
    assert (found.group, found.volume) == (group, name)


@given(st.text(max_size=80), st.text(max_size=120))
def test_any_name_is_read(name: str, uuid: str) -> None:
    lvm_name(name), lvm_part(name, uuid), lvm_suffix(uuid)
