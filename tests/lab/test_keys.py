"""LUKS volumes with a real device mapper: refused while a table holds the key, shredded when closed, and what a backup
of the header does afterwards. The disks' files on the host are the ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.disks import MIB, Backing, Scsi
from lab.guest import Guest, GuestError, Machine
from lab.orders import Wiped, wipe
from lab.report import Report

MARK = b"SECRET-RECORD-OF-A-CUSTOMER"
SIZE = 20 * MIB
STATED = (
    "validated-module",
    "key-entropy",
    "always-encrypted",
    "no-key-in-memory",
    "no-header-backup",
    "no-escrow",
)


@dataclass(frozen=True)
class Spinning(Scsi):
    """A SCSI disk that says that it rotates."""

    def arguments(self, slot: int) -> list[str]:
        names = {"vendor": "LAB", "product": "LAB DISK", "rotation_rate": 7200}
        node = f"b-{self.name}"
        shown = self._device(
            "scsi-hd", drive=node, bus="scsi0.0", **{"scsi-id": slot}, **self._blocks(), **names
        )
        return [*self.backing.blockdev(node), *shown]


class Bench:
    """A guest with two rotating disks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backing = {name: Backing.make(folder, name, SIZE) for name in ("one", "two")}
        self.disks = [Spinning(name, each, f"{name.upper()}SERIAL") for name, each in self.backing.items()]
        self.guest: Guest

    def node(self, name: str) -> str:
        return self.guest.node(f"{name.upper()}SERIAL")

    def format(self, name: str, kind: str, *more: str) -> str:
        """Make a volume on the disk and write marked records into it; its node."""
        node = self.node(name)
        pbkdf = "--pbkdf pbkdf2" if kind == "luks2" else ""
        self.guest.run(
            f"modprobe -a dm-crypt xts; wipefs -qa {node}; printf pw | cryptsetup luksFormat -q --type {kind} {pbkdf} "
            f"--pbkdf-force-iterations 1000 {' '.join(more)} {node} -"
        ).ok()
        with self.opened(node, *more) as mapped:
            self.guest.run(
                f"yes {MARK.decode()} | dd of={mapped} bs=1M count=1 iflag=fullblock oflag=direct"
            ).ok()
        return node

    @contextmanager
    def opened(self, node: str, *more: str) -> Iterator[str]:
        self.guest.run(f"printf pw | cryptsetup open {' '.join(more)} {node} labkey -d -").ok()
        try:
            yield "/dev/mapper/labkey"
        finally:
            self.guest.run("dmsetup resume labkey; cryptsetup close labkey; udevadm settle")

    def readable(self, node: str, *more: str) -> bool:
        """Whether the passphrase opens the volume and the records are in it."""
        try:
            with self.opened(node, *more) as mapped:
                return MARK.decode() in self.guest.run(f"head -c 4096 {mapped} | tr -d '\\n'").ok().out
        except GuestError:
            return False

    def on_host(self, name: str, length: int) -> bytes:
        with self.backing[name].path.open("rb") as file:
            return file.read(length)


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("keys"))
    with Guest(machine, made.folder, made.disks) as made.guest:
        yield made


def shred(bench: Bench, node: str, *options: str, but: tuple[str, ...] = ()) -> Wiped:
    said = [f"--statement={one}=yes" for one in STATED if one not in but]
    return wipe(bench.guest, node, "luks-crypto-erase", *said, *options)


def receipt_of(bench: Bench, digest: str) -> dict[str, Any]:
    """The receipt of the order with this digest."""
    found = bench.guest.run(
        f"cd /var/lib/expunge/receipts && cat $(grep -lx {digest} */order | xargs dirname)/receipt.json"
    ).ok()
    return dict(json.loads(found.out)["predicate"])


def refused(bench: Bench, node: str, *options: str) -> str:
    """What the agent says when it refuses; there must be no receipt of anything done."""
    said = " ".join([*(f"--statement={one}=yes" for one in STATED), *options])
    done = bench.guest.run(f"expunge-agent wipe {node} --profile luks-crypto-erase --yes {said}")
    assert done.code == 3, (done.out, done.err)
    return done.out + done.err


def holds(target: dict[str, Any]) -> dict[str, str]:
    return {one["id"]: one["holds"] for one in target["key"]["conditions"]}


@pytest.mark.parametrize(("kind", "area"), [("luks2", 16 * MIB), ("luks1", 2 * MIB)])
def test_a_volume_is_purged_when_closed_and_every_condition_holds(
    bench: Bench, lab_report: Report, kind: str, area: int
) -> None:
    node = bench.format("one", kind)
    assert MARK not in bench.backing["one"].path.read_bytes()
    with bench.opened(node):
        assert "labkey" in refused(bench, node)
        bench.guest.run("dmsetup suspend labkey").ok()
        assert "labkey" in refused(bench, node)
        bench.guest.run("dmsetup resume labkey").ok()
    assert bench.readable(node)
    before = bench.backing["one"].path.read_bytes()
    told = shred(bench, node, "--level", "purge")
    lab_report.row(
        "luks-crypto-erase", "SCSI, rotating", "", told.outcome, f"{kind}: {told.target['level_achieved']}"
    )
    assert (told.outcome, told.target["level_achieved"]) == ("sanitized", "purge"), told.target
    assert set(holds(told.target).values()) == {"yes"}
    assert told.target["key"]["readable"] == []
    assert not bench.readable(node)
    after = bench.backing["one"].path.read_bytes()
    assert after[:area] == bytes(area)
    assert after[area:] == before[area:]


@pytest.mark.parametrize("kind", ["luks2", pytest.param("luks1", marks=pytest.mark.slow)])
def test_a_backup_of_the_header_opens_it_again_and_the_receipt_had_said_so(
    bench: Bench, lab_report: Report, kind: str
) -> None:
    node = bench.format("one", kind)
    bench.guest.run(
        f"rm -rf /root/bk; mkdir -p /root/bk; cryptsetup luksHeaderBackup {node} --header-backup-file /root/bk/h"
    ).ok()
    told = shred(bench, node, "--allow-downgrade", "--search", "/root/bk", but=("no-header-backup",))
    assert not bench.readable(node)
    assert (told.outcome, told.target["level_achieved"]) == ("sanitized-with-exceptions", "none")
    assert holds(told.target)["no-header-backup"] == "no"
    assert any("/root/bk/h" in one for one in told.target["key"]["readable"])
    bench.guest.run(f"cryptsetup luksHeaderRestore -q {node} --header-backup-file /root/bk/h").ok()
    again = bench.readable(node)
    lab_report.row(
        "luks-crypto-erase", "SCSI", f"{kind}, header restored", told.outcome, f"readable again: {again}"
    )
    assert again


def test_a_table_over_another_device_holds_the_key_too(bench: Bench) -> None:
    """The volume was copied to a second disk and is open there: the same key is in the kernel's memory."""
    node, other = bench.format("one", "luks2"), bench.node("two")
    bench.guest.run(f"dd if={node} of={other} bs=1M oflag=direct").ok()
    with bench.opened(other):
        said = refused(bench, node)
        assert "labkey" in said
        assert "in use" in said
    assert bench.readable(node)
    bench.guest.run(f"wipefs -qa {other}").ok()


@pytest.mark.parametrize("kind", ["luks2", pytest.param("luks1", marks=pytest.mark.slow)])
def test_a_detached_header(bench: Bench, lab_report: Report, kind: str) -> None:
    bench.guest.run("rm -f /root/header; truncate -s 16M /root/header").ok()
    node = bench.format("one", kind, "--header", "/root/header")
    with bench.opened(node, "--header", "/root/header"):
        assert "labkey" in refused(bench, node, "--header", "/root/header")
    bench.guest.run("cp /root/header /root/kept").ok()
    before = bench.backing["one"].path.read_bytes()
    told = shred(bench, node, "--header", "/root/header")
    lab_report.row(
        "luks-crypto-erase", "SCSI", "", told.outcome, f"{kind}, detached: {told.target['level_achieved']}"
    )
    assert (told.outcome, told.target["level_achieved"]) == ("sanitized", "clear"), told.target
    assert told.target["key"]["copies"][0]["where"] == "/root/header"
    assert bench.backing["one"].path.read_bytes() == before
    assert not bench.readable(node, "--header", "/root/header")
    # A copy of the header is what its holder vouched against; it opens the volume.
    assert bench.readable(node, "--header", "/root/kept")


def test_a_key_that_comes_into_use_between_order_and_run(bench: Bench) -> None:
    """Handed in while closed, carried out while open: refused, and nothing is touched. Closed again it goes."""
    node = bench.format("one", "luks2")
    words = [
        "python3",
        "-m",
        "lab.spool",
        "--profile",
        "luks-crypto-erase-purge",
        "--level",
        "purge",
        "--vouch",
        node,
    ]
    first, second = (bench.guest.run(words).ok().out.strip() for _ in range(2))
    with bench.opened(node):
        bench.guest.run(f"expunge-agent run {first} --json")
    refusal = receipt_of(bench, first)["targets"][0]["refusal"]
    assert refusal["reason"] == "held"
    assert "labkey" in refusal["detail"]
    assert bench.readable(node)
    done = bench.guest.run(f"expunge-agent run {second} --json")
    assert done.code == 0, (done.out, done.err)
    assert not bench.readable(node)
