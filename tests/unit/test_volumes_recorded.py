"""What recorded volumes are taken for: identities, kinds, members, and the plan to take down what stands on them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from expunge_agent.core.deactivation import Taking, plan_deactivation
from expunge_agent.core.medium import MediumType
from expunge_agent.core.volume import Layout, Volume, doubts, forbidden
from expunge_agent.devices import describe
from expunge_agent.devices.aliases import resolve
from expunge_agent.devices.inventory import inventory
from expunge_agent.devices.look import find, look_at_node
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots, read_text
from expunge_agent.devices.standing import standing_on, surface
from expunge_agent.devices.usage import Eyes
from expunge_agent.devices.volumes import volume_of
from expunge_agent.protocol.receipt import Reason
from support.recorded import VOLUMES, lay_out


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path, VOLUMES)


def mapped(roots: Roots, name: str) -> Node:
    """The device that device mapper calls so, or the disk or partition of that name."""
    every = [one for disk in all_disks(roots) for one in (disk, *disk.partitions)]
    return next(one for one in every if name in (read_text(one.folder / "dm/name"), one.name))


def volume(roots: Roots, name: str) -> Volume:
    found = volume_of(mapped(roots, name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "title", "layout"),
    [
        ("vg--a-plain", "vg-a/plain", Layout.LINEAR),
        ("vg--a-origin", "vg-a/origin", Layout.ORIGIN),
        ("vg--a-snap", "vg-a/snap", Layout.SNAPSHOT),
        ("vg--a-origin-real", "vg-a/origin", Layout.INNER),
        ("vg--a-snap-cow", "vg-a/snap", Layout.INNER),
        ("vg--a-thin", "vg-a/thin", Layout.THIN),
        ("vg--a-pool", "vg-a/pool", Layout.THIN_POOL),
        ("vg--a-pool-tpool", "vg-a/pool", Layout.THIN_POOL),
        ("vg--a-pool_tdata", "vg-a/pool_tdata", Layout.INNER),
        ("vg--a-safe", "vg-a/safe", Layout.RAID),
        ("vg--a-safe_rimage_0", "vg-a/safe_rimage_0", Layout.INNER),
        ("vg--a-slow", "vg-a/slow", Layout.CACHE),
        ("vg--a-slow_corig", "vg-a/slow_corig", Layout.INNER),
        ("vg--a-fast_cvol-cdata", "vg-a/fast_cvol", Layout.INNER),
        ("vgmd-data", "vgmd/data", Layout.LINEAR),
        ("secret", "secret", Layout.CRYPT),
        ("plainmap", "plainmap", Layout.CRYPT),
        ("md127", "/dev/md127", Layout.RAID),
        ("sde1", "/dev/sde1", Layout.PARTITION),
    ],
)
def test_each_volume_is_called_what_it_is(roots: Roots, name: str, title: str, layout: Layout) -> None:
    found = volume(roots, name)
    assert (found.name, found.layout) == (title, layout)
    assert found.members
    refused = layout not in (Layout.LINEAR, Layout.RAID, Layout.CRYPT, Layout.PARTITION)
    assert (forbidden(found) is not None) is refused
    medium = look_at_node(mapped(roots, name), Eyes.open(roots)).medium
    assert medium is not None and medium.volume == found


def test_every_volume_is_of_type_virtual(roots: Roots) -> None:
    """Whatever lies below: nothing earns more than clear on it."""
    kinds = {
        found.medium.type
        for found in inventory((), roots)
        if found.medium and found.medium.volume and not found.medium.partition
    }
    assert kinds == {MediumType.VIRTUAL}


def test_a_drive_is_no_volume(roots: Roots) -> None:
    assert volume_of(mapped(roots, "sda")) is None


@pytest.mark.parametrize(
    ("name", "bus", "model", "serial"),
    [
        ("vg--a-plain", "lvm", "vg-a/plain", "LVM-L0UzPx99xecOjOg7ticK3JMSS5Flqfr4EXhRfpCEfivxy8BZFY5nWVZ9IUAHBDUO"),
        ("vg--a-pool-tpool", "lvm", "vg--a-pool-tpool", "LVM-L0UzPx99xecOjOg7ticK3JMSS5Flqfr4UJYIOb9t0spxyHjjDDKRvF6lKdIt9b2d-tpool"),
        ("secret", "dm-crypt", "secret", "CRYPT-LUKS2-8f2de2405fa24eefb42d5cf160c28477-secret"),
    ],
)  # fmt: skip
def test_identities_that_outlast_a_reboot(roots: Roots, name: str, bus: str, model: str, serial: str) -> None:
    node = mapped(roots, name)
    who = describe.identity(node)
    assert (who.bus, who.model, who.serial, who.instance) == (bus, model, serial, "")
    (roots.proc / "sys/kernel/random/boot_id").write_text("another\n")
    (node.folder / "diskseq").write_text("999\n")
    assert describe.identity(node) == who
    assert find(who, "", roots) == str(node.path)


def test_an_array_is_known_by_its_own_uuid_and_its_name_is_a_note(roots: Roots) -> None:
    node = mapped(roots, "md127")
    who = describe.identity(node)
    assert (who.bus, who.model, who.instance) == ("md", "raid1", "")
    assert who.serial == read_text(node.folder / "md/uuid") != ""
    assert any("the array's name is " in note and "store" in note for note in describe.medium(node).notes)


def test_a_mapping_without_a_header_is_only_itself_until_it_is_closed(roots: Roots) -> None:
    who = describe.identity(mapped(roots, "plainmap"))
    assert who.serial == ""
    assert who.instance.endswith("/" + read_text(mapped(roots, "plainmap").folder / "diskseq"))


def test_members_down_to_the_drives(roots: Roots) -> None:
    found = volume(roots, "secret")
    assert [(one.path.removeprefix("/dev/"), one.kind, one.depth) for one in found.members] == [
        (mapped(roots, "vgmd-data").name, "lvm", 1),
        ("md127", "md raid1", 2),
        ("sdc", "disk", 3),
        ("sdd", "disk", 3),
    ]
    assert found.members[2].identity.serial.startswith("REC-C")  # type: ignore[union-attr]
    assert volume(roots, "md127").left_out == ("sdd (faulty)",), "md still holds it, and writes nothing to it"
    below = {one.path for one in volume(roots, "vg--a-safe").members if one.kind == "disk"}
    assert below == {"/dev/sda", "/dev/sdb"}
    assert [one.path for one in volume(roots, "plainmap").members] == ["/dev/sde2", "/dev/sde"]


def test_a_member_that_fails_is_an_exception_of_everything_above_it(roots: Roots) -> None:
    array = volume(roots, "md127")
    assert (array.missing, array.under_way) == (1, "")
    said = doubts(array)
    assert said == ["/dev/md127 ran without 1 of its members: what those hold was not overwritten."]
    assert doubts(volume(roots, "secret")) == doubts(volume(roots, "vgmd-swap")) == said
    action = mapped(roots, "md127").folder / "md/sync_action"
    action.write_text("recover\n")
    found = forbidden(volume(roots, "secret"))
    assert found is not None
    assert found.why.startswith(
        "it lies on /dev/md127, and of that: the kernel is still at work on it (recover)"
    )


def test_names_that_udev_keeps(roots: Roots) -> None:
    assert resolve("UUID=2c4fdb5e-6b4e-4a6a-9a37-3f0f8f2b1f11", roots) == str(
        mapped(roots, "vg--a-plain").path
    )
    assert resolve("LABEL=STORE", roots) == "/dev/sde1"


def plan(roots: Roots, name: str) -> Taking:
    eyes = Eyes.open(roots)
    return plan_deactivation(standing_on(mapped(roots, name), eyes), surface(eyes))


def test_the_plan_for_a_physical_volume(roots: Roots) -> None:
    taking = plan(roots, "sda")
    assert not taking.refusals, taking.refusals
    steps = [(step.what.value, step.on) for step in taking.steps]
    assert {what for what, _ in steps} == {"deactivate-lv"}
    assert {on.removeprefix("vg-a/") for _, on in steps} == {
        "plain",
        "origin",
        "snap",
        "pool",
        "thin",
        "safe",
        "slow",
    }
    assert len(steps) == 7
    safe = next(step for step in taking.steps if step.on == "vg-a/safe")
    assert [one.partition(" ")[0] for one in safe.beside] == ["/dev/sdb"]


def test_the_plan_for_half_an_array(roots: Roots) -> None:
    taking = plan(roots, "sdc")
    assert [one.reason for one in taking.refusals] == [Reason.MOUNTED]
    assert "/mnt/secret/lost+found" in taking.refusals[0].detail, "that one stands on another drive"
    mounts = roots.proc / "self/mountinfo"
    kept = [line for line in mounts.read_text().splitlines() if "lost+found" not in line]
    mounts.write_text("\n".join(kept) + "\n")
    taking = plan(roots, "sdc")
    assert not taking.refusals
    assert [(step.what.value, step.on) for step in taking.steps] == [
        ("unmount", "/mnt/secret"),
        ("close-crypt", "secret"),
        ("deactivate-lv", "vgmd/data"),
        ("swapoff", str(mapped(roots, "vgmd-swap").path)),
        ("deactivate-lv", "vgmd/swap"),
        ("stop-md", "/dev/md127"),
    ]


def test_the_plan_for_partitions(roots: Roots) -> None:
    assert [(step.what.value, step.on) for step in plan(roots, "sde").steps] == [
        ("unmount", "/mnt/secret/lost+found"),
        ("close-crypt", "plainmap"),
    ]
    assert [step.on for step in plan(roots, "sde2").steps] == ["plainmap"]


class Live(Roots):
    """A recorded tree that counts as this machine."""

    live = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("code", "said", "unasked"),
    [
        (0, b"0 100 linear\n", False),
        (1, b"", True),
        (1, b"0 100 linear\n", True),
        (0, b"", True),
        (0, b"0 100 raid raid1 2\n", True),
        (0, b"0 100 raid raid1 2 AA 100/100 idle 0 0 -\n", False),
    ],
)
def test_a_device_mapper_that_does_not_answer_is_no_good_news(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, code: int, said: bytes, unasked: bool
) -> None:
    def run_tool(command: list[str], seconds: float) -> SimpleNamespace:
        return SimpleNamespace(stdout=said, stderr=b"", returncode=code, timed_out=False)

    monkeypatch.setattr("expunge_agent.devices.volumes.run_tool", run_tool)
    live = Live(roots.sys, roots.proc, roots.dev, roots.etc, roots.run)
    found = volume_of(mapped(live, "vg--a-plain"), ask=True)
    assert found is not None
    assert (found.unasked, forbidden(found) is not None) == (unasked, unasked)
