"""Volumes with a real kernel: LVM, md, LUKS, what stands on them, and what of it is left on the disks.

One guest for the whole file. Every disk is full of markers before it starts; records are written through the
volumes, and both are looked for in the disks' files from the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab.disks import MIB, Backing, Scsi
from lab.guest import Guest, Machine
from lab.orders import Wiped, wipe
from lab.report import Report

RECORD = b"RECORD-OF-A-CUSTOMER-ON-A-VOLUME"
SIZE = 96 * MIB
DISKS = ("thick", "thin", "left", "right", "killed", "spare")
QUICK = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
LVM = 'global { thin_check_executable = "" thin_repair_executable = "" thin_dump_executable = "" }\n'
"""The guest has no thin-provisioning-tools."""


class Bench:
    """A guest with one SCSI disk for each purpose."""

    def __init__(self, guest: Guest, backing: dict[str, Backing]) -> None:
        self.guest = guest
        self.backing = backing

    def node(self, name: str) -> str:
        """Where the disk is."""
        return self.guest.node(f"VOL-{name.upper()}")

    def run(self, command: str) -> str:
        """What a command says; it must end well."""
        return self.guest.run(command).ok().out.strip()

    def write(self, path: str, megabytes: int) -> None:
        """Records from the start of a device or into a file, on the disk when this returns."""
        self.run(
            f"yes {RECORD.decode()} | dd of={path} bs=1M count={megabytes} iflag=fullblock conv=fsync status=none"
        )

    def records(self, name: str) -> int:
        """How many records the disk's file holds, from the host."""
        self.guest.run("sync")
        return self.backing[name].path.read_bytes().count(RECORD)

    def refused(self, path: str, *options: str) -> str:
        """The words with which the agent refuses to plan for `path`."""
        done = self.guest.run(
            ["expunge-agent", "wipe", path, "--profile", "nist-clear", "--yes", "--json", *options]
        )
        assert done.code == 3, done.out + done.err
        return done.out + done.err


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("volumes")
    backing = {name: Backing.make(folder, name, SIZE) for name in DISKS}
    for each in backing.values():
        each.fill()
    disks = [
        Scsi(name, backing[name], f"VOL-{name.upper()}", model="LAB DISK", wwn=0x5000C500A1B30000 + number)
        for number, name in enumerate(DISKS)
    ]
    with Guest(machine, folder, disks) as guest:
        guest.put("/etc/lvm/lvmlocal.conf", LVM.encode())
        guest.run("modprobe -a dm-mod dm-crypt dm-snapshot dm-thin-pool raid1 ext4 loop").ok()
        yield Bench(guest, backing)


def identity(told: Wiped) -> dict[str, Any]:
    """What the receipt calls the target."""
    return dict(told.target["target"]["identity"])


def steps(told: Wiped) -> list[tuple[str, str]]:
    """What was taken down, and how each step ended."""
    return [(one["what"], one["ended"]) for one in told.target["deactivated"]]


def test_a_thick_volume_and_what_lies_beside_it(bench: Bench, lab_report: Report) -> None:
    disk = bench.node("thick")
    bench.run(f"vgcreate -qq -ff -y lab-thick {disk} && lvcreate -qq -y -Wn -L 24M -n gone lab-thick")
    bench.run("lvcreate -qq -y -Wn -L 16M -n stays lab-thick && udevadm settle")
    bench.write("/dev/lab-thick/gone", 24)
    bench.write("/dev/lab-thick/stays", 16)
    before = bench.run("sha256sum </dev/lab-thick/stays")
    told = wipe(bench.guest, "/dev/lab-thick/gone")
    left = bench.run(f"cmp -n {24 * MIB} /dev/lab-thick/gone /dev/zero && echo zeros")
    lab_report.row("nist-clear", "LVM, thick", "", told.outcome, "the volume beside it is as it was")
    assert (told.outcome, told.receipt["level_achieved"], left) == ("sanitized", "clear", "zeros")
    assert (identity(told)["bus"], identity(told)["model"]) == ("lvm", "lab-thick/gone")
    assert identity(told)["serial"].startswith("LVM-")
    (member,) = told.target["members"]
    assert (member["path"], member["identity"]["serial"]) == (disk, "VOL-THICK")
    assert any("lab-thick" in line for line in told.target["not_covered"])
    assert bench.run("sha256sum </dev/lab-thick/stays") == before
    assert bench.backing["thick"].remains(), "outside the volume nothing was written"
    # The same name after it was set up anew: as after a reboot.
    bench.run("vgchange -qq -an lab-thick && udevadm settle && vgchange -qq -ay lab-thick && udevadm settle")
    again = wipe(bench.guest, "/dev/mapper/lab--thick-gone")
    assert identity(again) == identity(told)


def test_a_snapshot_and_its_origin_are_refused(bench: Bench, lab_report: Report) -> None:
    bench.run("lvcreate -qq -y -s -L 8M -n snap lab-thick/stays && udevadm settle")
    try:
        said = bench.refused("/dev/lab-thick/stays")
        assert "origin of snapshots (lab-thick/snap)" in said
        assert "lvremove" in said
        assert "is a snapshot" in bench.refused("/dev/lab-thick/snap")
        assert "inner part" in bench.refused("/dev/mapper/lab--thick-stays-real")
    finally:
        bench.run("lvremove -qq -y lab-thick/snap && udevadm settle")
    lab_report.row("nist-clear", "LVM, thick", "origin and snapshot", "refused", "lvremove named")


def test_a_volume_group_is_taken_down_and_its_drive_wiped(bench: Bench, lab_report: Report) -> None:
    disk = bench.node("thick")
    assert "is held by" in bench.refused(disk)
    told = wipe(bench.guest, disk, "nist-clear", "--deactivate")
    left = (bench.records("thick"), bench.backing["thick"].remains())
    lab_report.row("nist-clear, --deactivate", "LVM, thick", "", told.outcome, f"{left[0]} records left")
    assert (told.outcome, left) == ("sanitized", (0, []))
    assert steps(told) == [("deactivate-lv", "done"), ("deactivate-lv", "done")]


def test_thin_volumes_are_refused_and_wiped_with_their_drive(bench: Bench, lab_report: Report) -> None:
    disk = bench.node("thin")
    bench.run(
        f"vgcreate -qq -ff -y labthin {disk} && lvcreate -qq -y -L 48M --poolmetadatasize 4M --thinpool pool labthin"
    )
    bench.run("lvcreate -qq -y -Wn -V 32M --thinpool pool -n one labthin && udevadm settle")
    bench.write("/dev/labthin/one", 8)
    bench.run(
        "lvcreate -qq -y -s -kn -n shot labthin/one && lvchange -qq -ay -K labthin/shot && udevadm settle"
    )
    assert bench.records("thin") > 0
    assert "is a thin volume" in bench.refused("/dev/labthin/one")
    assert "is a thin volume" in bench.refused("/dev/labthin/shot")
    bench.run(
        "head -c 32 /dev/zero | cryptsetup open --type plain -d - /dev/labthin/one over && udevadm settle"
    )
    assert "it lies on labthin/one, and of that: it is a thin volume" in bench.refused("/dev/mapper/over")
    told = wipe(bench.guest, disk, "nist-clear", "--deactivate")
    left = (bench.records("thin"), bench.backing["thin"].remains())
    lab_report.row("nist-clear, --deactivate", "LVM, thin", "", told.outcome, f"{left[0]} records left")
    assert (told.outcome, left) == ("sanitized", (0, []))
    taken = [(one["what"], one["on"]) for one in told.target["deactivated"]]
    assert taken.index(("close-crypt", "over")) < taken.index(("deactivate-lv", "labthin/one"))
    assert {what for what, _ in taken} == {"close-crypt", "deactivate-lv"}
    assert all(ended in ("done", "gone") for _, ended in steps(told))


def test_an_array_is_a_target_and_both_halves_are_written(bench: Bench, lab_report: Report) -> None:
    array = raid(bench)
    bench.write(array, 32)
    assert "is an array" in bench.refused("/dev/md/lab")
    told = wipe(bench.guest, "/dev/md/lab", "nist-clear", "--allow-downgrade")
    left = (bench.records("left"), bench.records("right"))
    lab_report.row("nist-clear", "md RAID 1", "", told.outcome, f"{left} records left")
    assert (told.outcome, left) == ("sanitized-with-exceptions", (0, 0))
    assert told.receipt["level_achieved"] == "none"
    assert identity(told)["bus"] == "md"
    assert {one["identity"]["serial"] for one in told.target["members"]} == {"VOL-LEFT", "VOL-RIGHT"}
    assert any("array's name is" in note for note in told.target["medium"]["notes"])


def test_luks_over_lvm_over_md_in_use(bench: Bench, lab_report: Report) -> None:
    """The whole stack: two file systems (one in LUKS), swap, a loop device over a file."""
    array = bench.run("readlink -f /dev/md/lab")
    bench.run(f"pvcreate -qq -ff -y {array} && vgcreate -qq -y labmd {array}")
    for name, size in (("plain", 24), ("secret", 24), ("swap", 8)):
        bench.run(f"lvcreate -qq -y -Wn -L {size}M -n {name} labmd")
    bench.run("udevadm settle; mkfs.ext4 -q -F -L LABPLAIN /dev/labmd/plain && mkdir -p /run/p /run/s")
    bench.run(f"printf pass | cryptsetup luksFormat -q {QUICK} /dev/labmd/secret -")
    bench.run(
        "printf pass | cryptsetup open -d - /dev/labmd/secret labsecret && mkfs.ext4 -q -F /dev/mapper/labsecret"
    )
    bench.run(
        "udevadm settle; mount /dev/labmd/plain /run/p && mkdir /run/p/in && mount /dev/mapper/labsecret /run/p/in"
    )
    bench.run("mkswap -q /dev/labmd/swap && swapon /dev/labmd/swap")
    bench.write("/run/p/record", 8)
    bench.run("truncate -s 2M /run/p/image && losetup -f /run/p/image; sync")
    assert bench.records("left") > 0 < bench.records("right")
    disk = bench.node("left")

    pid = bench.guest.spawn("sh -c 'cd /run/p/in; sleep 300'")
    bench.run("sleep 1")
    assert "is in use by process" in bench.refused(disk, "--deactivate")
    bench.run(f"kill {pid}; sleep 0.5; pkill -P {pid}; true")
    bench.guest.run(
        'for p in $(pgrep -x sleep); do test "$(readlink /proc/$p/cwd)" = /run/p/in && kill $p; done; true'
    )
    bench.run("mount -t tmpfs none /run/p/lost+found")
    assert "Other file systems are mounted below" in bench.refused(disk, "--deactivate")
    bench.run("umount /run/p/lost+found")

    shown = bench.run(f"expunge-agent wipe {disk} --profile nist-clear --deactivate --dry-run --json")
    planned = [one["what"] for one in json.loads(shown)["deactivation"][disk]]
    assert planned[-1] == "stop-md"
    assert sorted(planned) == sorted(
        ["unmount", "close-crypt", "detach-loop", "unmount", "swapoff", *["deactivate-lv"] * 3, "stop-md"]
    )
    assert bench.run("grep -c /run/p /proc/self/mountinfo") == "2", "a dry run takes nothing down"

    told = wipe(bench.guest, disk, "nist-clear", "--deactivate")
    left = (bench.records("left"), bench.backing["left"].remains())
    beside = bench.records("right")
    lab_report.row(
        "nist-clear, --deactivate",
        "LUKS over LVM over md",
        "",
        told.outcome,
        f"{left[0]} records left, {beside} on the other half",
    )
    assert (told.outcome, left) == ("sanitized", (0, [])), told.target
    assert [what for what, _ in steps(told)] == planned
    assert {ended for _, ended in steps(told)} == {"done"}
    assert beside > 0, "the other half is no target"
    assert any("VOL-RIGHT" in line and "stood on" in line for line in told.target["not_covered"])
    other = wipe(bench.guest, bench.node("right"), "nist-clear", "--deactivate")
    assert (other.outcome, bench.records("right"), bench.backing["right"].remains()) == ("sanitized", 0, [])


def test_a_mapping_is_a_target_and_its_header_is_not(bench: Bench, lab_report: Report) -> None:
    disk = bench.node("spare")
    bench.run(
        f"printf pass | cryptsetup luksFormat -q {QUICK} {disk} - && printf pass | cryptsetup open -d - {disk} labmap"
    )
    uuid = bench.run(
        "mkfs.ext4 -q -F /dev/mapper/labmap; udevadm settle; blkid -o value -s UUID /dev/mapper/labmap"
    )
    bench.run("mv /run/udev/data /run/udev/off")
    try:
        shown = bench.guest.run(f"expunge-agent plan UUID={uuid} --profile nist-clear")
    finally:
        bench.run("mv /run/udev/off /run/udev/data")
    assert (shown.code, f"UUID={uuid} is /dev/dm-" in shown.err) == (0, True), "blkid knows it without udev"
    told = wipe(bench.guest, f"UUID={uuid}")
    lab_report.row("nist-clear", "LUKS mapping by UUID=", "", told.outcome, "the header stays")
    assert told.outcome == "sanitized"
    assert (identity(told)["bus"], identity(told)["model"]) == ("dm-crypt", "labmap")
    assert any("keyslots" in line for line in told.target["not_covered"])
    bench.run(f"cryptsetup isLuks {disk}")
    bench.run("cryptsetup close labmap")
    table = f"0 65536 snapshot-origin {disk}"
    bench.guest.run(["dmsetup", "create", "laborigin"], stdin=table.encode()).ok()
    assert "mapped by snapshot-origin" in bench.refused("/dev/mapper/laborigin")
    bench.run("dmsetup remove --retry laborigin; udevadm settle")


@pytest.mark.slow
def test_killed_while_it_takes_down(bench: Bench, lab_report: Report) -> None:
    """kill -9 in the middle of a step, and of the next run of it: the order ends truthfully all the same."""
    guest, disk = bench.guest, bench.node("killed")
    bench.run(
        f"vgcreate -qq -ff -y labkill {disk} && lvcreate -qq -y -Wn -L 24M -n one labkill && udevadm settle"
    )
    bench.write("/dev/labkill/one", 24)
    bench.run("mkfs.ext4 -q -F /dev/labkill/one; mkdir -p /run/k; mount /dev/labkill/one /run/k")
    bench.run("mv /usr/sbin/lvchange /usr/sbin/lvchange.real")
    guest.put("/usr/sbin/lvchange", b'#!/bin/sh\nsleep 4\nexec lvchange.real "$@"\n', 0o755)
    pid = guest.spawn(
        f"expunge-agent wipe {disk} --profile nist-clear --deactivate --yes --json", "/run/kill.log"
    )
    bench.run("for i in $(seq 200); do pgrep -x lvchange >/dev/null && break; sleep 0.1; done")
    bench.run(f"kill -9 {pid}; rm /usr/sbin/lvchange; mv /usr/sbin/lvchange.real /usr/sbin/lvchange")
    digest = bench.run("cd /var/lib/expunge/orders && ls -t | head -1")
    # Whether the program that was started went on after its agent had gone decides which end is true.
    bench.run("sleep 6; udevadm settle")
    gone = guest.run("test -e /dev/labkill/one").code != 0
    done = guest.run(f"expunge-agent run {digest} --json", timeout=300)
    found = guest.run(
        f"cd /var/lib/expunge/receipts && cat $(grep -lx {digest} */order | xargs dirname)/receipt.json"
    )
    receipt = json.loads(found.ok().out)["predicate"]
    ended = [(one["what"], one["ended"]) for one in receipt["targets"][0]["deactivated"]]
    left = bench.records("killed")
    lab_report.row(
        "nist-clear, --deactivate",
        "LVM",
        "kill -9 in a step",
        receipt["outcome"],
        f"{ended}, {left} left",
        harmless=True,
    )
    assert (receipt["outcome"], left) == ("sanitized", 0), done.out + done.err
    assert ended[:2] == [("unmount", "done"), ("deactivate-lv", "gone" if gone else "interrupted")]
    assert receipt["interruptions"]


def raid(bench: Bench) -> str:
    """RAID 1 over two disks: its node."""
    bench.run(
        "mdadm --create /dev/md/lab --run --assume-clean --metadata=1.2 --level=1 --raid-devices=2 "
        f"{bench.node('left')} {bench.node('right')} && udevadm settle"
    )
    return bench.run("readlink -f /dev/md/lab")
