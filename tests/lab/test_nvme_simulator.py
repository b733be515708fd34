"""The simulated NVMe drive under Linux's own driver: stock `nvme` must see what the drive means to show."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.drives.nvme_served import Served
from lab.guest import HOST, Guest, Machine

MIB = 1 << 20
SIZE = 8 * MIB
"""Of each of the two namespaces."""
SECONDS = (
    "--block-seconds",
    "4",
    "--crypto-seconds",
    "3",
    "--overwrite-seconds",
    "4",
    "--format-seconds",
    "1",
)


class Bench:
    """A guest, and the drive it is connected to."""

    def __init__(self, guest: Guest, drive: Served) -> None:
        self.guest, self.drive = guest, drive
        self.mark = os.urandom(4096)

    def json(self, command: str) -> Any:
        return json.loads(self.guest.run(f"nvme {command} -o json").ok().out)

    def log(self) -> dict[str, int]:
        """The sanitize log as stock nvme reads it."""
        text = self.guest.run("nvme sanitize-log /dev/nvme0").ok().out
        names = {"sprog": "SPROG", "state": "SSTAT", "cdw10": "SCDW10"}
        found = {key: re.search(rf"\({name}\)\s*:\s*(\w+)", text) for key, name in names.items()}
        numbers = {key: int(each[1], 0) for key, each in found.items() if each}
        return numbers | {"state": numbers["state"] & 7}

    def node(self, nsid: int) -> str:
        return self.guest.node("SIM0001", nsid)

    def put_mark(self, nsid: int, offset: int = 0) -> None:
        """Write the mark (4 KiB) through the kernel, past its cache."""
        self.guest.put("/run/mark", self.mark)
        dd = f"dd if=/run/mark of={self.node(nsid)} bs=4k count=1 seek={offset // 4096} oflag=direct"
        self.guest.run(dd).ok()

    def reads(self, nsid: int, offset: int = 0) -> bytes | None:
        """4 KiB as the kernel reads them; None when it cannot."""
        dd = f"dd if={self.node(nsid)} of=/run/seen bs=4k count=1 skip={offset // 4096} iflag=direct"
        if self.guest.run(dd).code:
            return None
        return self.guest.get("/run/seen")

    @property
    def on_medium(self) -> bool:
        """Whether the mark is anywhere on the medium itself."""
        return self.mark in self.drive.image.read_bytes()

    def wait(self, state: int = 1) -> None:
        """Until the sanitize log shows `state`."""
        until = time.monotonic() + 60
        while self.log()["state"] != state:
            assert time.monotonic() < until, self.log()
            time.sleep(0.5)


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("nvme-simulator")
    with (
        Served(folder, "--size", str(2 * SIZE // MIB), "--namespaces", "2", *SECONDS) as drive,
        Guest(machine, folder, state=False) as guest,
    ):
        guest.run(drive.connect_command(HOST)).ok()
        yield Bench(guest, drive)


@pytest.fixture
def fault(bench: Bench) -> Iterator[Callable[[str], None]]:
    """Switches a fault on for one test."""
    on: list[str] = []

    def switch(name: str) -> None:
        bench.drive.control(f"fault {name} on")
        on.append(name)

    yield switch
    for name in on:
        bench.drive.control(f"fault {name} off")


def test_what_it_is(bench: Bench) -> None:
    controller = bench.json("id-ctrl /dev/nvme0")
    assert controller["sn"].strip() == "SIM0001"
    assert controller["sanicap"] == 0b111 | 1 << 30
    assert (controller["fna"], controller["oncs"], controller["oacs"]) == (4, 15, 10)
    namespace = bench.json(f"id-ns {bench.node(2)}")
    assert namespace["nsze"] == SIZE // 512
    assert [each["ds"] for each in namespace["lbafs"]] == [9, 12]
    size = bench.guest.run(f"blockdev --getsize64 {bench.node(2)}").ok()
    assert int(size.out) == SIZE


@pytest.mark.parametrize(
    ("action", "number"),
    [("start-crypto-erase", 4), ("start-block-erase", 2), ("start-overwrite -n 1", 0x13)],
)
def test_sanitize(bench: Bench, action: str, number: int) -> None:
    bench.put_mark(1)
    bench.put_mark(2, SIZE - 4096)
    assert bench.reads(1) == bench.mark and bench.on_medium
    bench.guest.run(f"nvme sanitize /dev/nvme0 -a {action}").ok()
    log = bench.log()
    assert log["state"] == 2 and log["cdw10"] == number and log["sprog"] < 65535
    assert bench.reads(1) is None
    bench.wait()
    assert bench.log()["sprog"] == 65535
    assert bench.reads(1) == bytes(4096) and not bench.on_medium


def test_sanitize_that_fails_is_left_by_exit_failure(bench: Bench, fault: Callable[[str], None]) -> None:
    fault("fails-at-40")
    bench.put_mark(2, SIZE - 4096)
    bench.guest.run("nvme sanitize /dev/nvme0 -a start-block-erase --ause").ok()
    bench.wait(3)
    assert bench.reads(1) is None and bench.on_medium
    bench.guest.run("nvme sanitize /dev/nvme0 -a exit-failure").ok()
    assert bench.reads(2, SIZE - 4096) == bench.mark


def test_a_lying_sanitize(bench: Bench, fault: Callable[[str], None]) -> None:
    fault("lies-success")
    bench.put_mark(1)
    bench.guest.run("nvme sanitize /dev/nvme0 -a start-crypto-erase").ok()
    assert bench.log()["state"] == 2
    bench.wait()
    assert bench.reads(1) == bench.mark


def test_format(bench: Bench) -> None:
    for ses in (0, 1, 2):
        bench.put_mark(1)
        bench.put_mark(2)
        bench.guest.run(f"nvme format {bench.node(1)} --ses={ses} --force").ok()
        assert bench.reads(1) == bytes(4096)
        assert bench.reads(2) == bench.mark
    bench.guest.run(f"nvme format {bench.node(1)} --ses=1 --lbaf=1 --force").ok()
    assert int(bench.guest.run(f"blockdev --getss {bench.node(1)}").ok().out) == 4096
    bench.guest.run(f"nvme format {bench.node(1)} --ses=1 --lbaf=0 --force").ok()


def test_discard_leaves_the_medium_as_it_was(bench: Bench) -> None:
    bench.guest.run(f"nvme format {bench.node(2)} --ses=1 --force").ok()
    bench.put_mark(1)
    bench.guest.run(f"blkdiscard {bench.node(1)}").ok()
    assert bench.reads(1) == bytes(4096) and bench.on_medium
    bench.guest.run(f"blkdiscard -z {bench.node(1)}").ok()
    assert not bench.on_medium


def test_unreadable_blocks_can_be_written_again(bench: Bench) -> None:
    bench.guest.run(f"nvme write-uncor {bench.node(1)} -s 16 -c 7").ok()
    assert bench.reads(1, 8192) is None
    bench.put_mark(1, 8192)
    assert bench.reads(1, 8192) == bench.mark


def test_power_cuts_of_guest_and_drive(bench: Bench) -> None:
    bench.put_mark(2, SIZE - 4096)
    bench.guest.run("nvme sanitize /dev/nvme0 -a start-overwrite -n 3").ok()
    before = bench.log()
    bench.guest.kill()
    bench.drive.kill()
    assert bench.on_medium
    bench.drive.__enter__()
    bench.guest.boot()
    bench.guest.run(bench.drive.connect_command(HOST)).ok()
    bench.wait()
    assert bench.log()["cdw10"] == before["cdw10"] == 0x33
    assert not bench.on_medium


def test_a_drive_that_disappears_and_comes_back(bench: Bench, fault: Callable[[str], None]) -> None:
    fault("disappears-midway")
    bench.guest.run("nvme sanitize /dev/nvme0 -a start-crypto-erase").ok()
    until = time.monotonic() + 20
    while not bench.drive.control("status")["gone"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert bench.guest.run("nvme sanitize-log /dev/nvme0").code
    bench.drive.control("fault disappears-midway off")
    bench.drive.control("power on")
    until = time.monotonic() + 30
    while bench.guest.run("nvme sanitize-log /dev/nvme0").code:
        assert time.monotonic() < until
        time.sleep(1)
    bench.wait()
