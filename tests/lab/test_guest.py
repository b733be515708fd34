"""The agent in a virtual machine: it sees each kind of disk, overwrites what it says, and is not deceived by the
kernel's fault devices. What was left is read from the backing files on the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.disks import MIB, Backing, Disk, Namespace, Nvme, Sata, Scsi, Uas, Usb
from lab.guest import HOST, Guest, GuestError, Machine
from lab.orders import Wiped, inventory, wipe
from lab.report import Report

SIZE = 16 * MIB
SECTORS = SIZE // 512
MODULES = (
    "target_core_user",
    "tcm_loop",
    "nvme-tcp",
    "scsi_debug",
    "null_blk",
    "dm-flakey",
    "dm-delay",
    "uio",
)


class Bench:
    """A guest with disks of every kind, and three behind which a test puts a device-mapper fault."""

    def __init__(self, folder: Path) -> None:
        names = (
            "nvme-512",
            "nvme-4096",
            "sata",
            "scsi",
            "scsi-4096",
            "usb",
            "uas",
            "lying",
            "broken",
            "slow",
        )
        self.backing = {name: Backing.make(folder, name, SIZE) for name in names}
        for backing in self.backing.values():
            backing.fill()
        back = self.backing
        spaces = (Namespace(1, back["nvme-512"]), Namespace(2, back["nvme-4096"], 4096))
        self.disks: list[Disk | Nvme] = [
            Nvme("nvme0", spaces, "NVMESERIAL"),
            Sata("sata", back["sata"], "SATASERIAL", wwn=0x5000C500A1B2C3D4),
            Scsi("scsi", back["scsi"], "SCSISERIAL"),
            Scsi("scsi4096", back["scsi-4096"], "SCSI4096", 4096),
            Usb("usb", back["usb"], "USBSERIAL"),
            Uas("uas", back["uas"], "UASSERIAL"),
            *(Scsi(name, back[name], name.upper()) for name in ("lying", "broken", "slow")),
        ]
        self.guest: Guest

    def node(self, name: str) -> str:
        """The disk's node in the guest."""
        if name.startswith("nvme"):
            return self.guest.node("NVMESERIAL", 1 if name == "nvme-512" else 2)
        return self.guest.node(
            {"scsi-4096": "SCSI4096", "lying": "LYING", "broken": "BROKEN", "slow": "SLOW"}.get(
                name, f"{name.upper()}SERIAL"
            )
        )

    def mapped(self, name: str, table: str) -> str:
        """The node of a new device-mapper device."""
        self.guest.run(["dmsetup", "create", name, "--uuid", f"LAB-{name}"], stdin=table.encode()).ok()
        self.guest.run("udevadm settle").ok()
        return self.guest.run(["readlink", "-f", f"/dev/mapper/{name}"]).ok().out.strip()


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    made = Bench(folder)
    with Guest(machine, folder, made.disks) as made.guest:
        yield made


def test_it_boots_in_reasonable_time(bench: Bench) -> None:
    assert bench.guest.run("cat /proc/1/comm").ok().out.strip() == "init"
    assert bench.guest.boot_seconds < 90
    assert "no route" not in bench.guest.run(f"ip route get {HOST}").ok().out


def test_the_modules_that_simulated_drives_need_can_be_loaded(bench: Bench) -> None:
    for name in MODULES:
        bench.guest.run(["modprobe", "-n", name]).ok()
    bench.guest.run("modprobe -a target_core_user tcm_loop nvme-tcp").ok()
    assert bench.guest.run("test -d /sys/kernel/config/target/core && test -c /dev/nvme-fabrics").code == 0


@pytest.fixture(scope="module")
def listed(bench: Bench) -> list[dict[str, Any]]:
    """What the agent sees before anything is attached by a test."""
    return inventory(bench.guest)


def test_the_agent_sees_each_disk_for_what_it_is(listed: list[dict[str, Any]]) -> None:
    seen = {
        (each["identity"]["bus"], each["identity"]["serial"], each["facts"]["logical_sector"])
        for each in listed
    }
    assert seen >= {
        ("nvme", "NVMESERIAL", 512),
        ("nvme", "NVMESERIAL", 4096),
        ("ata", "SATASERIAL", 512),
        ("scsi", "SCSISERIAL", 512),
        ("scsi", "SCSI4096", 4096),
        ("usb", "USBSERIAL", 512),
        ("usb", "UASSERIAL", 512),
    }


def test_the_disk_that_holds_the_agents_state_is_not_offered(listed: list[dict[str, Any]]) -> None:
    (state,) = (each for each in listed if each["identity"]["serial"] == "labstate")
    assert {each["reason"] for each in state["blocked"]} & {"mounted", "system"}


def test_an_overwrite_leaves_nothing_of_the_disk_and_touches_no_other(
    bench: Bench, lab_report: Report
) -> None:
    others = {name: each.digest() for name, each in bench.backing.items() if name != "sata"}
    assert len(bench.backing["sata"].remains()) == SECTORS
    done = wipe(bench.guest, bench.node("sata"))
    is_overwritten(bench, lab_report, "sata", done.target)
    assert (done.code, done.outcome) == (0, "sanitized")
    assert [name for name, digest in others.items() if bench.backing[name].digest() != digest] == []


OVERWRITTEN = ("nvme-512", "nvme-4096", "scsi", "scsi-4096", "usb", "uas")


@pytest.fixture(scope="module")
def overwritten(bench: Bench) -> tuple[Wiped, dict[str, str]]:
    """One order for disks of every kind, and what was on the others before."""
    others = {name: each.digest() for name, each in bench.backing.items() if name not in OVERWRITTEN}
    assert all(len(bench.backing[name].remains()) == SECTORS for name in OVERWRITTEN)
    return wipe(bench.guest, " ".join(bench.node(name) for name in OVERWRITTEN)), others


@pytest.mark.parametrize("name", OVERWRITTEN)
def test_an_order_overwrites_disks_of_every_kind(
    bench: Bench, overwritten: tuple[Wiped, dict[str, str]], lab_report: Report, name: str
) -> None:
    done, _ = overwritten
    is_overwritten(bench, lab_report, name, done.receipt["targets"][OVERWRITTEN.index(name)])


def test_an_order_touches_no_disk_that_it_does_not_name(
    bench: Bench, overwritten: tuple[Wiped, dict[str, str]]
) -> None:
    done, others = overwritten
    assert (done.code, done.outcome) == (0, "sanitized")
    assert [name for name, digest in others.items() if bench.backing[name].digest() != digest] == []


def is_overwritten(bench: Bench, report: Report, name: str, target: dict[str, Any]) -> None:
    """Nothing is left of the disk `name`, and `target` is what the receipt says of it."""
    left = len(bench.backing[name].remains())
    report.row("overwrite (nist-clear)", name, "", target["outcome"], f"{left} of {SECTORS} sectors left")
    assert (target["outcome"], left, bench.backing[name].nonzero()) == ("sanitized", 0, 0)
    assert int(target["passes"][0]["bytes_written"]) == SIZE
    assert target["identity_opened"] == target["identity_after"]


# The kernel's fault devices


def test_medium_errors_of_a_scsi_disk_are_exceptions_with_their_place(
    bench: Bench, lab_report: Report
) -> None:
    options = "dev_size_mb=16 medium_error_start=4096 medium_error_count=8 opts=2"
    bench.guest.run(f"modprobe scsi_debug {options} && udevadm settle").ok()
    found = bench.guest.run("grep -l scsi_debug /sys/block/sd*/device/model").ok().out
    done = wipe(bench.guest, f"/dev/{found.split('/')[3]}")
    lab_report.row(
        "overwrite (nist-clear)", "scsi_debug", "8 sectors cannot be read", done.outcome, "unreadable"
    )
    assert (done.code, done.outcome) == (5, "sanitized-with-exceptions")
    ranges = [each["range"] for each in done.target["verifications"][0]["unreadable"]]
    assert ranges == [{"start": str(4096 * 512), "length": str(8 * 512)}]
    assert done.target["level_achieved"] == "none"


def test_a_disk_that_drops_writes_is_found_out(bench: Bench, lab_report: Report) -> None:
    under, backing = bench.node("lying"), bench.backing["lying"]
    node = bench.mapped("lying", f"0 {SECTORS} flakey {under} 0 0 3600 1 drop_writes")
    done = wipe(bench.guest, node)
    left = len(backing.remains())
    lab_report.row(
        "overwrite (nist-clear)", "dm-flakey", "drops writes", done.outcome, f"{left} sectors left"
    )
    assert left == SIZE // 512  # the fault is real
    assert done.outcome == "failed"
    assert done.code == 4
    assert done.target["level_achieved"] == "none"


def test_a_part_that_gives_errors_is_never_called_erased(bench: Bench, lab_report: Report) -> None:
    under, backing = bench.node("broken"), bench.backing["broken"]
    half, rest = SECTORS // 2, SECTORS // 2 - 2048
    node = bench.mapped(
        "broken",
        f"0 {half} linear {under} 0\n{half} 2048 error\n{half + 2048} {rest} linear {under} {half + 2048}",
    )
    done = wipe(bench.guest, node)
    left = backing.remains()
    lab_report.row(
        "overwrite (nist-clear)", "dm-error", "1 MiB gives errors", done.outcome, f"{len(left)} sectors left"
    )
    assert left == list(range(SIZE // 2, SIZE // 2 + MIB, 512))  # all that could be written is gone
    assert done.outcome in ("sanitized-with-exceptions", "failed")
    assert done.target["level_achieved"] == "none"
    assert int(done.target["passes"][0]["error_bytes"]) == MIB


def test_a_slow_disk_is_waited_for(bench: Bench, lab_report: Report) -> None:
    under, backing = bench.node("slow"), bench.backing["slow"]
    node = bench.mapped("slow", f"0 {SECTORS} delay {under} 0 20 {under} 0 60")
    done = wipe(bench.guest, node)
    left = len(backing.remains())
    lab_report.row(
        "overwrite (nist-clear)",
        "dm-delay",
        "60 ms a write",
        done.outcome,
        f"{left} sectors left",
        harmless=True,
    )
    assert (done.outcome, left) == ("sanitized", 0)


NULL_BLK = """
modprobe null_blk nr_devices=0
d=/sys/kernel/config/nullb/{name}; mkdir $d
echo 16 >$d/size; echo {memory} >$d/memory_backed
[ -z "{bad}" ] || echo "+{bad}" >$d/badblocks
echo 1 >$d/power
udevadm settle
cat $d/index
"""


def null_blk(guest: Guest, name: str, *, memory: bool, bad: str = "") -> str:
    """A null_blk device; without `memory` it forgets whatever is written to it."""
    index = guest.run(NULL_BLK.format(name=name, memory=int(memory), bad=bad)).ok().out.strip()
    for node in (f"/dev/{name}", f"/dev/nullb{index}"):
        if guest.run(["test", "-b", node]).code == 0:
            return node
    raise GuestError(f"null_blk made no node for {name}")


@pytest.mark.parametrize(
    ("name", "memory", "bad", "fault", "outcomes"),
    [
        ("labgood", True, "", "", {"sanitized"}),
        ("labbad", True, "8192-8199", "8 sectors fail", {"sanitized-with-exceptions", "failed"}),
        ("labhole", False, "", "keeps nothing", {"failed"}),
    ],
)
def test_null_blk(
    bench: Bench, lab_report: Report, name: str, memory: bool, bad: str, fault: str, outcomes: set[str]
) -> None:
    node = null_blk(bench.guest, name, memory=memory, bad=bad)
    # The kernel says nothing of what this medium is, so the profile must be one for any medium.
    done = wipe(bench.guest, node, "nist-clear-complement")
    lab_report.row("overwrite (nist-clear-complement)", "null_blk", fault, done.outcome, "")
    assert done.outcome in outcomes
