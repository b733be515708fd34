"""Power cuts and pulled disks in the middle of an overwrite."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.disks import MIB, Backing, Disk, Namespace, Nvme, Sata, Scsi, Usb
from lab.guest import Guest, Machine
from lab.orders import receipts
from lab.report import Report

SIZE = 64 * MIB
SECTORS = SIZE // 512
PULLED = ("nvme", "scsi", "usb")


class Bench:
    """One guest, a disk for each test."""

    def __init__(self, guest: Guest, backing: dict[str, Backing]) -> None:
        self.guest, self.backing = guest, backing

    def begin(self, name: str, *options: str) -> int:
        """Order the overwrite of the disk `name`, slowly; the agent's process."""
        words = (
            f"expunge-agent wipe {self.guest.node(serial(name))} --profile nist-clear --yes --json --rate 6M"
        )
        return self.guest.spawn(" ".join([words, *options]), f"/run/{name}.log")

    def until_left(self, name: str, pid: int, sectors: int) -> None:
        """Wait until less than this is left of the disk; fail in the agent's words if it ended before."""

        def enough() -> bool:
            said = f"tail -c 2000 /run/{name}.log"
            assert self.guest.alive(pid), f"the agent ended: {self.guest.run(said).out}"
            return len(self.backing[name].remains()) < sectors

        wait_for(enough, f"fewer than {sectors} sectors left")

    def receipt(self, name: str) -> dict[str, Any]:
        """The only one for this disk."""
        (found,) = (
            one
            for one in receipts(self.guest)
            if one["targets"][0]["target"]["identity"]["serial"] == serial(name)
        )
        return found


def serial(name: str) -> str:
    return f"{name.upper()}SERIAL"


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("power")
    backing = {name: Backing.make(folder, name, SIZE) for name in ("cut", *PULLED)}
    for each in backing.values():
        each.fill()
    disks: list[Disk | Nvme] = [
        Sata("cut", backing["cut"], serial("cut")),
        Nvme("nvme", (Namespace(1, backing["nvme"]),), serial("nvme")),
        Scsi("scsi", backing["scsi"], serial("scsi")),
        Usb("usb", backing["usb"], serial("usb")),
    ]
    with Guest(machine, folder, disks) as guest:
        yield Bench(guest, backing)


def test_a_power_cut_costs_no_fact(bench: Bench, lab_report: Report) -> None:
    guest, backing = bench.guest, bench.backing["cut"]
    pid = bench.begin("cut", "--checkpoint-seconds", "0.5")
    bench.until_left("cut", pid, SECTORS * 3 // 4)
    guest.kill()
    left = len(backing.remains())
    assert 0 < left < SECTORS
    guest.boot()
    done = guest.run("expunge-agent run --pending --json", timeout=300)
    (ended,) = (json.loads(line) for line in done.out.splitlines())
    truth = f"power cut with {left} sectors left, then {len(backing.remains())}"
    lab_report.row("overwrite (nist-clear)", "sata", "", ended["outcome"], truth)
    assert (ended["outcome"], backing.remains(), backing.nonzero()) == ("sanitized", [], 0)
    receipt = bench.receipt("cut")
    assert receipt["interruptions"] or receipt["targets"][0]["passes"][0]["resumed_at"]
    assert receipt["targets"][0]["passes"][0]["resumed_at"] != ["0"]
    again = guest.run("expunge-agent run --pending --json").ok()
    assert again.out == ""


@pytest.mark.parametrize("kind", PULLED)
def test_a_disk_that_is_pulled_is_never_called_erased(bench: Bench, lab_report: Report, kind: str) -> None:
    guest, backing = bench.guest, bench.backing[kind]
    pid = bench.begin(kind, "--absence", "3")
    bench.until_left(kind, pid, SECTORS * 7 // 8)
    guest.unplug(kind)
    wait_for(lambda: not guest.alive(pid), "the agent has ended")
    left = len(backing.remains())
    assert left > 0, guest.run(f"cat /run/{kind}.log").out
    receipt = bench.receipt(kind)
    lab_report.row(
        "overwrite (nist-clear)", kind, "pulled on the way", receipt["outcome"], f"{left} sectors left"
    )
    assert receipt["outcome"] in ("failed", "unknown")
    assert receipt["level_achieved"] == "none"


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)
