"""What must not be erased, and why, with a real kernel: nothing is written, and the receipt names the reason.

Each order is handed in while the drive is free and carried out after something has taken it, as when a controller's
order is hours old. The simulated drives could be erased by a command, and no kernel claim stops that: the guard has to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.ahead import chosen
from lab.disks import MIB, Backing, Disk, Nvme, Scsi, Usb
from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, GuestError, Machine
from lab.inside import Inside
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER"
SIZE = 4
"""MiB of a namespace of a simulated drive."""
RECORDS = ((RECORD + b"\n") * (SIZE << 16))[: SIZE << 20]
SANITIZE = """
id = "only-sanitize"
version = 1
title = "Sanitize commands of an NVMe drive"
level = "purge"
authority = "the laboratory"
status = "current"
source = "written for one test"
advice = "for one test"
media = ["ssd"]
techniques = ["nvme-sanitize-crypto", "nvme-sanitize-block"]
[verification]
kind = "sampled"
after = "last"
rule = "nist-800-88r1"
"""
IMPATIENT = "--patience 8 --absence 3 --erase-timeout 30"


@dataclass(frozen=True)
class Told:
    """What the agent said of an order: the receipt, and its first target."""

    receipt: dict[str, Any]

    @property
    def outcome(self) -> str:
        return str(self.receipt["outcome"])

    @property
    def target(self) -> dict[str, Any]:
        return dict(self.receipt["targets"][0])

    @property
    def reason(self) -> str:
        """The word for why it was refused, or empty."""
        refusal = self.target["refusal"]
        return str(refusal["reason"]) if refusal else ""

    @property
    def detail(self) -> str:
        refusal = self.target["refusal"]
        return str(refusal["detail"]) if refusal else str(self.target["failure"])


def spool(
    guest: Guest, *nodes: str, profile: str = "nist-purge", level: str = "purge", each: bool = False
) -> str:
    """Hand in an order for what stands at `nodes` now, or one for each; the digests."""
    words = ["python3", "-m", "lab.spool", "--profile", profile, "--level", level, *nodes]
    words += ["--each"] * each
    return guest.run(words).ok().out.strip()


def carry_out(guest: Guest, digest: str) -> Told:
    """Run the order; its receipt."""
    done = guest.run(f"expunge-agent run {digest} --json {IMPATIENT}", timeout=300)
    return receipt_of(guest, digest, done.out + done.err)


def receipt_of(guest: Guest, digest: str, said: str = "") -> Told:
    """The receipt of the order with this digest."""
    found = guest.run(
        f"cd /var/lib/expunge/receipts && cat $(grep -lx {digest} */order | xargs dirname)/receipt.json"
    )
    assert found.code == 0, f"{digest} has no receipt: {said}"
    return Told(json.loads(found.out)["predicate"])


class Bench:
    """A guest with two SCSI disks and a USB stick of QEMU's; simulated NVMe drives come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backing = {name: Backing.make(folder, name, 16 * MIB) for name in ("one", "two", "stick")}
        for each in self.backing.values():
            each.fill()
        self.disks: list[Disk | Nvme] = [
            Scsi("one", self.backing["one"], "ONESERIAL", model="LAB DISK", wwn=0x5000C500A1B20001),
            Scsi("two", self.backing["two"], "TWOSERIAL", model="LAB DISK", wwn=0x5000C500A1B20002),
            Usb("stick", self.backing["stick"], "STICKSERIAL"),
        ]
        self.guest: Guest
        self._count = 0

    @contextmanager
    def nvme(self, namespaces: int = 1, serial: str = "") -> Iterator[tuple[list[str], Served]]:
        """A simulated NVMe drive full of records: the nodes of its namespaces in the guest."""
        self._count += 1
        serial = serial or f"GUARD{self._count:03}"
        options = ["--size", str(SIZE * namespaces), "--serial", serial, "--namespaces", str(namespaces)]
        options += ["--block-seconds", "4", "--crypto-seconds", "4"]
        drive = Served(self.folder, *options, name=f"{serial}-{self._count}")
        drive.image.write_bytes(RECORDS * namespaces)
        with drive:
            self.guest.run(drive.connect_command(HOST)).ok()
            try:
                nodes = [self.guest.node(serial, nsid + 1) for nsid in range(namespaces)]
                yield nodes, drive
            finally:
                self.guest.run(f"nvme disconnect -n {drive.nqn}")


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("refusals"))
    with Guest(machine, made.folder, made.disks) as made.guest:
        yield made


def refused(
    bench: Bench, report: Report, digest: str, drive: Served | Backing, what: str, reason: str, word: str = ""
) -> Told:
    """Carry the order out: it is refused for `reason`, in words that hold `word`, and the medium is what it was."""
    medium = drive.image if isinstance(drive, Served) else drive.path
    bench.guest.run("sync").ok()
    before = medium.read_bytes()
    told = carry_out(bench.guest, digest)
    device = "NVMe" if isinstance(drive, Served) else "SCSI or USB"
    is_refused(report, told, device, what, reason, untouched=medium.read_bytes() == before)
    assert word in told.detail
    return told


def is_refused(report: Report, told: Told, device: str, what: str, reason: str, *, untouched: bool) -> None:
    """The order was refused for `reason`, and nothing was written."""
    profile = told.receipt["profile"]["id"] if told.receipt["profile"] else ""
    truth = f"{told.reason}; {'nothing written' if untouched else 'WRITTEN TO'}: {told.detail[:120]}"
    report.row(profile, device, what, told.outcome, truth)
    assert untouched, f"{what}: {told.outcome}, {told.detail}"
    assert (told.outcome, told.reason) == ("refused", reason), told.detail
    assert not told.target["passes"]
    assert not told.target.get("erasure") or not told.target["erasure"]["accepted"]


# What the kernel holds


def lvm(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(
        f"pvcreate -qq -ff -y {node} && vgcreate -qq -y -s 64k labvg {node} && lvcreate -qq -y -n lv -l 1 labvg"
    ).ok()
    later("vgchange -qq -an labvg")


def crypt(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(
        f"modprobe dm-crypt; head -c 32 /dev/zero | cryptsetup open --type plain -d - {node} labcrypt"
    ).ok()
    later("cryptsetup close labcrypt")


def swap(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(f"mkswap {node} && swapon {node}").ok()
    later(f"swapoff {node}")


def mounted(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(f"mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 {node} && mkdir -p /run/m").ok()
    guest.run(f"mount -o ro,noload {node} /run/m").ok()
    later("umount /run/m")


def mounted_elsewhere(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(f"mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 {node} && mkdir -p /run/m").ok()
    pid = guest.spawn(
        f"unshare -m --propagation private sh -c 'mount -o ro,noload {node} /run/m && touch /run/away && exec sleep 600'"
    )
    later(f"kill {pid}; rm -f /run/away; sleep 1")
    guest.run("for i in $(seq 50); do test -e /run/away && exit 0; sleep 0.1; done; exit 1").ok()


def read_only(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(f"blockdev --setro {node}").ok()
    later(f"blockdev --setrw {node}")


def held_by_a_map(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    guest.run(f"dmsetup create labmap --table '0 2048 linear {node} 0'").ok()
    later("dmsetup remove --retry labmap")


def loop(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    made = guest.run(f"modprobe loop; losetup -f --show {node}").ok().out.strip()
    later(f"losetup -d {made}")


def opened(guest: Guest, node: str, later: Callable[[str], None]) -> None:
    pid = guest.spawn(f"sh -c 'exec 3<>{node}; exec sleep 600'")
    later(f"kill {pid}")


Take = Callable[[Guest, str, Callable[[str], None]], None]


@pytest.fixture(scope="module")
def taken(bench: Bench, request: pytest.FixtureRequest) -> dict[Take, tuple[Told, bool]]:
    """A drive for each way to need one: what the agent says of its order, and whether the medium is what it was.

    All are ordered while they are free, then taken, and the agent looks at its orders once.
    """
    guest, takes = bench.guest, chosen(request, "take")
    with ExitStack() as stack:
        drives, nodes = {}, {}
        for take in takes:
            (nodes[take],), drives[take] = stack.enter_context(bench.nvme())
        digests = dict(zip(takes, spool(guest, *nodes.values(), each=True).split(), strict=True))
        for take in takes:
            take(guest, nodes[take], lambda command: stack.callback(guest.run, command))
        guest.run("sync").ok()
        before = {take: drives[take].image.read_bytes() for take in takes}
        done = guest.run(f"expunge-agent run --pending --json {IMPATIENT}", timeout=300)
        said = done.out + done.err
        return {
            take: (receipt_of(guest, digests[take], said), drives[take].image.read_bytes() == before[take])
            for take in takes
        }


@pytest.mark.parametrize(
    ("take", "reason"),
    [
        (lvm, "held"),
        (crypt, "held"),
        (held_by_a_map, "held"),
        (loop, "held"),
        (swap, "swap"),
        (mounted, "mounted"),
        (mounted_elsewhere, "mounted"),
        (read_only, "read-only"),
        (opened, "in-use"),
    ],
)
def test_a_drive_that_somebody_needs_is_not_purged(
    taken: dict[Take, tuple[Told, bool]], lab_report: Report, take: Take, reason: str
) -> None:
    told, untouched = taken[take]
    is_refused(lab_report, told, "NVMe", take.__name__.replace("_", " "), reason, untouched=untouched)


def test_a_drive_with_a_partition_in_use(bench: Bench, lab_report: Report) -> None:
    """The order names the drive; only a part of it is mounted."""
    with bench.nvme() as ((node,), drive):
        digest = spool(bench.guest, node)
        partition(bench.guest, node)
        bench.guest.run(
            f"mkfs.ext4 -q -F {node}p1 && mkdir -p /run/m && mount -o ro,noload {node}p1 /run/m"
        ).ok()
        try:
            refused(bench, lab_report, digest, drive, "a partition is mounted", "mounted")
        finally:
            bench.guest.run("umount /run/m")


def test_a_partition_cannot_have_a_drives_command(bench: Bench, lab_report: Report) -> None:
    with bench.nvme() as ((node,), drive):
        partition(bench.guest, node)
        digest = spool(bench.guest, f"{node}p1")
        refused(
            bench,
            lab_report,
            digest,
            drive,
            "the order names a partition",
            "level-not-achievable",
            "a partition",
        )


def test_members_of_a_raid(bench: Bench, lab_report: Report) -> None:
    """Each member is refused, and so is the array, which is no drive; whoever stops it may purge."""
    guest = bench.guest
    with bench.nvme() as ((one,), drive), bench.nvme() as ((two,), other):
        first, second = spool(guest, one), spool(guest, two)
        guest.run(
            f"modprobe raid1; mdadm --create /dev/md/lab --run --assume-clean --metadata=1.2 "
            f"--level=1 --raid-devices=2 {one} {two} && udevadm settle"
        ).ok()
        try:
            array = guest.run("readlink -f /dev/md/lab").ok().out.strip()
            third = spool(guest, array)
            guest.run("sync; sleep 1")
            refused(bench, lab_report, first, drive, "member of an md array", "held")
            refused(bench, lab_report, second, other, "member of an md array", "held")
            refused(bench, lab_report, third, drive, "an md array", "profile-not-applicable")
        finally:
            guest.run("mdadm --stop /dev/md/lab; udevadm settle")
        again = spool(guest, one)
        told = carry_out(guest, again)
        lab_report.row("nist-purge", "NVMe", "", told.outcome, "after mdadm --stop")
        assert told.outcome == "sanitized", told.detail


def test_paths_of_a_multipath_disk(bench: Bench, lab_report: Report) -> None:
    """Two nodes with one identity, under one map: neither path is wiped behind the map's back."""
    guest = bench.guest
    if guest.run("command -v multipath && modprobe dm-multipath && modprobe scsi_debug -n").code:
        pytest.skip("this guest has no multipath-tools, dm-multipath or scsi_debug")
    # Two targets with one store; vpd_use_hostno=0 gives the logical units of different targets one name.
    guest.run(
        "modprobe scsi_debug add_host=2 num_tgts=1 max_luns=1 dev_size_mb=8 vpd_use_hostno=0 removable=0; "
        "udevadm settle"
    ).ok()
    try:
        told = guest.run("grep -l scsi_debug /sys/block/sd*/device/model").ok().out
        nodes = [f"/dev/{line.split('/')[3]}" for line in told.splitlines()]
        assert len(nodes) == 2, told
        sectors = int(guest.run(f"blockdev --getsz {nodes[0]}").ok().out)
        digest = spool(guest, nodes[0], profile="nist-clear-complement", level="clear")
        table = f"0 {sectors} multipath 0 0 1 1 round-robin 0 2 1 {nodes[0]} 1000 {nodes[1]} 1000"
        guest.run(["dmsetup", "create", "mpatha", "--uuid", "mpath-lab"], stdin=table.encode()).ok()
        try:
            before = guest.run(f"sha256sum <{nodes[0]}").ok().out
            result = carry_out(guest, digest)
            after = guest.run(f"sha256sum <{nodes[0]}").ok().out
            lab_report.row(
                "nist-clear-complement",
                "scsi_debug",
                "path of a multipath disk",
                result.outcome,
                result.detail,
            )
            assert (result.outcome, result.reason) == ("refused", "held"), result.detail
            assert "multipath" in result.detail
            assert before == after
        finally:
            guest.run("dmsetup remove --retry mpatha")
    finally:
        guest.run("udevadm settle; rmmod scsi_debug")


# Other namespaces


def test_a_namespace_next_to_one_in_use(bench: Bench, lab_report: Report) -> None:
    """A sanitize takes every namespace of the drive."""
    guest = bench.guest
    guest.put("/var/lib/expunge/profiles/only-sanitize.toml", SANITIZE.encode())

    def order(*nodes: str) -> str:
        return spool(guest, *nodes, profile="only-sanitize")

    with bench.nvme(namespaces=2) as ((one, two), drive):
        refused(
            bench, lab_report, order(one), drive, "the other namespace is not ordered", "other-namespaces"
        )
        both = order(one, two)
        guest.run(f"mkfs.ext4 -q -F {two} && mkdir -p /run/m && mount -o ro,noload {two} /run/m").ok()
        try:
            refused(
                bench,
                lab_report,
                order(one),
                drive,
                "the other one is mounted",
                "other-namespaces",
                "mounted",
            )
            told = refused(
                bench, lab_report, both, drive, "both ordered, one is mounted", "other-namespaces", "mounted"
            )
            assert [each["outcome"] for each in told.receipt["targets"]] == ["refused", "refused"]
            assert told.receipt["targets"][1]["refusal"]["reason"] == "mounted"
        finally:
            guest.run("umount /run/m").ok()


def test_one_namespace_is_formatted_and_the_other_keeps_its_data(bench: Bench, lab_report: Report) -> None:
    """nist-purge allows Format NVM, which on this drive takes the namespace alone."""
    with bench.nvme(namespaces=2) as ((one, _), drive):
        before = drive.image.read_bytes()[SIZE * MIB :]
        told = carry_out(bench.guest, spool(bench.guest, one))
        medium = drive.image.read_bytes()
    left, kept = medium[: SIZE * MIB].count(RECORD), medium[SIZE * MIB :] == before
    lab_report.row(
        "nist-purge",
        "NVMe, one of two namespaces",
        "",
        told.outcome,
        f"{told.target['technique']}; {left} records left; the other is {'untouched' if kept else 'CHANGED'}",
    )
    assert (told.outcome, left, kept) == ("sanitized", 0, True), told.detail
    assert told.target["technique"].startswith("nvme-format-")


def test_all_namespaces_in_one_order(bench: Bench, lab_report: Report) -> None:
    bench.guest.put("/var/lib/expunge/profiles/only-sanitize.toml", SANITIZE.encode())
    with bench.nvme(namespaces=2) as (nodes, drive):
        told = carry_out(bench.guest, spool(bench.guest, *nodes, profile="only-sanitize"))
        left = drive.image.read_bytes().count(RECORD)
    lab_report.row("only-sanitize", "NVMe, both namespaces ordered", "", told.outcome, f"{left} records left")
    assert (told.outcome, left) == ("sanitized", 0), told.detail
    assert [each["outcome"] for each in told.receipt["targets"]] == ["sanitized", "sanitized"]


# No drive to talk to


def test_a_usb_stick_has_no_purge(bench: Bench, lab_report: Report) -> None:
    digest = spool(bench.guest, bench.guest.node("STICKSERIAL"))
    told = refused(
        bench, lab_report, digest, bench.backing["stick"], "QEMU's usb-storage", "profile-not-applicable"
    )
    assert told.receipt["level_achieved"] == "none"


def test_a_bridge_without_pass_through_has_no_purge(bench: Bench, lab_report: Report) -> None:
    options = ("--no-pass-through", "--size", "4", "--serial", "MUTE0001")
    with Inside(bench.guest, "mute", "ata", *options) as drive:
        digest = spool(bench.guest, drive.node)
        before = bench.guest.run("sha256sum </run/mute.img").ok().out
        told = carry_out(bench.guest, digest)
        after = bench.guest.run("sha256sum </run/mute.img").ok().out
    lab_report.row("nist-purge", "ATA", "bridge passes no commands on", told.outcome, told.detail[:160])
    assert (told.outcome, told.reason) == ("refused", "level-not-achievable"), told.detail
    assert before == after


def test_a_drive_with_sectors_of_520_bytes(bench: Bench, lab_report: Report) -> None:
    with ExitStack() as inside:
        try:
            drive = inside.enter_context(
                Inside(bench.guest, "odd", "scsi", "--block", "520", "--size", "4", "--serial", "ODD00001")
            )
        except GuestError as error:
            pytest.skip(f"target_core_user takes no such drive here: {error}")
        size = bench.guest.run(f"blockdev --getsize64 {drive.node}").ok().out.strip()
        if size != "0":
            pytest.skip(
                f"this kernel shows the drive with {size} bytes: it took the sector size for another one"
            )
        told = carry_out(bench.guest, spool(bench.guest, drive.node))
    lab_report.row("nist-purge", "SCSI", "520-byte sectors", told.outcome, told.detail[:160])
    assert (told.outcome, told.reason) == ("refused", "empty"), told.detail
    assert "520" in told.detail


def test_an_empty_device(bench: Bench, lab_report: Report) -> None:
    """A loop device over an empty file: zero bytes."""
    node = bench.guest.run("modprobe loop; : >/run/empty; losetup -f --show /run/empty").ok().out.strip()
    try:
        told = carry_out(bench.guest, spool(bench.guest, node, profile="nist-clear", level="clear"))
    finally:
        bench.guest.run(f"losetup -d {node}")
    lab_report.row("nist-clear", "loop", "0 bytes", told.outcome, told.detail[:160])
    assert (told.outcome, told.reason) == ("refused", "empty"), told.detail


# Which drive is meant


def test_a_drive_on_another_node_is_found_by_its_identity(bench: Bench, lab_report: Report) -> None:
    """The order's hint leads to another drive by the time it runs; that one is not touched."""
    guest = bench.guest
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        (node,), drive = first.enter_context(bench.nvme(serial="MOVES001"))
        digest = spool(guest, node)
        guest.run(f"nvme disconnect -n {drive.nqn}").ok()
        (taken,), other = stack.enter_context(bench.nvme(serial="OTHER001"))
        guest.run(drive.connect_command(HOST)).ok()
        now = guest.node("MOVES001", 1)
        assert (taken, now != node) == (node, True), f"{node}, then {taken} and {now}"
        told = carry_out(guest, digest)
        left, others = (one.image.read_bytes().count(RECORD) for one in (drive, other))
        lab_report.row(
            "nist-purge",
            f"NVMe, ordered as {node}, now {now}",
            "",
            told.outcome,
            f"{left} records left, {others} beside",
        )
        assert (told.outcome, left) == ("sanitized", 0), told.detail
        assert others > SIZE * MIB // 30
        assert told.target["identity_opened"]["serial"] == "MOVES001"


def test_a_drive_that_was_exchanged(bench: Bench, lab_report: Report) -> None:
    """Another drive stands where the ordered one stood, which has gone."""
    guest = bench.guest
    with bench.nvme(serial="LEAVES01") as ((node,), drive):
        digest = spool(guest, node)
        guest.run(f"nvme disconnect -n {drive.nqn}").ok()
        with bench.nvme(serial="STAYS001") as ((taken,), other):
            assert taken == node
            refused(
                bench,
                lab_report,
                digest,
                other,
                "exchanged for another drive",
                "identity-mismatch",
                "LEAVES01",
            )


def test_a_drive_that_was_unplugged(bench: Bench, lab_report: Report) -> None:
    """Between the order and its run the drive is pulled."""
    digest = spool(bench.guest, bench.guest.node("ONESERIAL"), profile="nist-clear-complement", level="clear")
    bench.guest.unplug("one")
    bench.guest.run("udevadm settle")
    refused(bench, lab_report, digest, bench.backing["one"], "unplugged before the run", "target-not-found")


def test_two_orders_for_one_drive_at_once(bench: Bench, lab_report: Report) -> None:
    """One works; the other is refused while it does, or comes after it. Never both at once."""
    guest = bench.guest
    with bench.nvme() as ((node,), drive):
        digests = [spool(guest, node), spool(guest, node)]
        running = [guest.start(f"expunge-agent run {digest} --json {IMPATIENT}") for digest in digests]
        for each in running:
            each.communicate(timeout=240)
        told = [receipt_of(guest, digest) for digest in digests]
        left = drive.image.read_bytes().count(RECORD)
    outcomes = sorted(one.outcome for one in told)
    lab_report.row("nist-purge", "NVMe", "two orders at once", " and ".join(outcomes), f"{left} records left")
    assert outcomes in (["refused", "sanitized"], ["sanitized", "sanitized"]), [one.detail for one in told]
    assert left == 0
    if outcomes[0] == "refused":
        (no,) = (one for one in told if one.outcome == "refused")
        assert no.reason == "in-use", no.detail
    else:
        begun = sorted((one.receipt["started_at"], one.receipt["finished_at"]) for one in told)
        assert begun[0][1] <= begun[1][0], begun


def partition(guest: Guest, node: str) -> None:
    """One partition over most of the drive."""
    guest.run(f"echo '2048,' | sfdisk -q --label gpt {node} && udevadm settle").ok()
    assert re.search(rf"{node}p1\b", guest.run(f"ls {node}*").out)
