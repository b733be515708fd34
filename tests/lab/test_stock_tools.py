"""The simulated ATA and SCSI drives under Linux's own drivers: stock tools must see what the drives mean to show.

hdparm, sg3-utils and smartmontools were written by people who knew real drives; what is left on the medium is looked
for in the medium's file.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.guest import Guest, Machine, Result
from lab.inside import Inside

RECORD = "RECORD-OF-A-CUSTOMER"
SIZE = 4 << 20
SECTORS = SIZE // 512
SURE = "--yes-i-know-what-i-am-doing"
PASSWORD = "--user-master u --security-{} SECRET"


class Drive:
    """A simulated drive full of records, and the stock tools that are pointed at it."""

    def __init__(self, guest: Guest, inside: Inside) -> None:
        self.guest, self.inside = guest, inside

    def hdparm(self, options: str) -> Result:
        return self.guest.run(f"hdparm {options} {self.inside.node}")

    def sg(self, tool: str, options: str = "") -> Result:
        return self.guest.run(f"sg_{tool} {options} {self.inside.node}")

    def smartctl(self, options: str) -> str:
        return self.guest.run(f"smartctl {options} {self.inside.node}").ok().out

    @property
    def left(self) -> int:
        """Records on the medium itself."""
        return int(self.guest.run(f"grep -ao {RECORD} {self.inside.image} | wc -l").ok().out)

    def sanitize_status(self) -> str:
        """hdparm's words for the state of an ATA drive, once it is no longer at work."""
        until = time.monotonic() + 60
        while "In Process" in (said := self._said(self.hdparm("--sanitize-status"))):
            assert time.monotonic() < until, said
            time.sleep(0.3)
        return said

    def sense(self) -> str:
        """sg_requests' words for the state of a SCSI drive, once it is no longer at work."""
        until = time.monotonic() + 60
        while "in progress" in (said := self._said(self.sg("requests"))):
            assert time.monotonic() < until, said
            time.sleep(0.3)
        return said

    @staticmethod
    def _said(done: Result) -> str:
        return done.out + done.err


class Bench:
    """A guest; drives come and go."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._numbers = itertools.count(1)

    @contextmanager
    def drive(self, kind: str, *options: str) -> Iterator[Drive]:
        name = f"stock{next(self._numbers)}"
        image = f"/run/{name}.img"
        self.guest.run(f"yes {RECORD} | head -c {SIZE} >{image}").ok()
        more = ("--serial", name.upper(), "--seconds", "1", *options)
        with Inside(self.guest, name, kind, *more) as inside:
            self.guest.run(f"udevadm wait --timeout=30 {inside.node}").ok()
            drive = Drive(self.guest, inside)
            assert drive.left > 100_000
            yield drive
        self.guest.run(f"rm {image}")


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Guest(machine, tmp_path_factory.mktemp("stock-tools"), state=False) as guest:
        guest.run("modprobe -a target_core_user tcm_loop").ok()
        yield Bench(guest)


def test_who_an_ata_drive_is(bench: Bench) -> None:
    with bench.drive("ata") as drive:
        told = drive.hdparm("-I").ok().out
        assert "Checksum: correct" in told
        for word in ("EXPUNGE LAB SSD 870", "SANITIZE feature set", "BLOCK_ERASE_EXT", "CRYPTO_SCRAMBLE_EXT"):
            assert word in told
        assert f"LBA48  user addressable sectors:{SECTORS:12}" in told
        assert "supported: enhanced erase" in told
        who = drive.smartctl("-d sat -i -H")
        assert f"{SIZE:,} bytes" in who
        assert "Solid State Device" in who
        assert "PASSED" in who


def test_hidden_sectors_of_an_ata_drive(bench: Bench) -> None:
    with bench.drive("ata", "--hide", "1024") as drive:
        assert f"{SECTORS - 1024}/{SECTORS}, HPA is enabled" in drive.hdparm("-N").ok().out
        drive.hdparm(f"{SURE} -N p{SECTORS}").ok()
        assert f"{SECTORS}/{SECTORS}, HPA is disabled" in drive.hdparm("-N").ok().out
        told = drive.hdparm("--dco-identify").ok().out
        assert "DCO Checksum verified" in told
        assert f"Real max sectors: {SECTORS}" in told


@pytest.mark.parametrize("action", ["block-erase", "crypto-scramble"])
def test_ata_sanitize(bench: Bench, action: str) -> None:
    with bench.drive("ata") as drive:
        assert "SD0 Sanitize Idle" in drive.sanitize_status()
        assert "started in background" in drive.hdparm(f"{SURE} --sanitize-{action}").ok().out
        assert "Last Sanitize Operation Completed Without Error" in drive.sanitize_status()
        assert drive.left == 0


def test_ata_security_erase(bench: Bench) -> None:
    with bench.drive("ata") as drive:
        drive.hdparm(PASSWORD.format("set-pass")).ok()
        assert "Security level high" in drive.hdparm("-I").ok().out
        drive.hdparm(PASSWORD.format("erase")).ok()
        assert drive.left == 0
        assert "Security level" not in drive.hdparm("-I").ok().out


def test_a_frozen_ata_drive(bench: Bench) -> None:
    """Frozen security stops no sanitize, and frozen sanitize no security erase."""
    with bench.drive("ata", "--fault", "frozen") as drive:
        assert "\n\t\tfrozen" in drive.hdparm("-I").ok().out
        assert "Input/output error" in drive.hdparm(PASSWORD.format("set-pass")).err
        assert drive.left > 100_000
    with bench.drive("ata", "--fault", "sanitize-frozen") as drive:
        assert "SD1 Sanitize Frozen" in drive.sanitize_status()
        assert "Device in FROZEN state" in drive.hdparm(f"{SURE} --sanitize-block-erase").err
        assert drive.left > 100_000


def test_a_locked_ata_drive(bench: Bench) -> None:
    with bench.drive("ata", "--fault", "locked") as drive:
        assert "\n\t\tlocked" in drive.hdparm("-I").ok().out
        assert "SANITIZE failed" in drive.hdparm(f"{SURE} --sanitize-block-erase").err
        assert "Input/output error" in drive.hdparm(PASSWORD.format("erase")).err
        assert drive.left > 100_000


def test_an_ata_sanitize_that_fails(bench: Bench) -> None:
    with bench.drive("ata", "--fault", "fails-at-40") as drive:
        drive.hdparm(f"{SURE} --sanitize-block-erase").ok()
        assert "SD3 Sanitize Operation Failed" in drive.sanitize_status()
        assert drive.left > 10_000


def test_stock_tools_believe_a_lying_drive(bench: Bench) -> None:
    """What the laboratory is for: nothing that a drive says tells of it."""
    with bench.drive("ata", "--fault", "lies-success") as drive:
        drive.hdparm(f"{SURE} --sanitize-block-erase").ok()
        assert "Completed Without Error" in drive.sanitize_status()
        assert drive.left > 100_000
    with bench.drive("scsi", "--fault", "lies-success") as drive:
        drive.sg("sanitize", "--block --quick --early").ok()
        assert "No Sense" in drive.sense()
        assert drive.left > 100_000


def test_who_a_scsi_drive_is(bench: Bench) -> None:
    with bench.drive("scsi") as drive:
        assert "[SPC-5]" in drive.sg("inq").ok().out
        assert "Non-rotating medium" in drive.sg("vpd", "-p bdc").ok().out
        assert f"Number of logical blocks={SECTORS}" in drive.sg("readcap").ok().out
        who = drive.smartctl("-i")
        assert "LAB SAS SSD" in who
        assert f"{SIZE:,} bytes" in who
        offers = drive.sg("opcodes").ok().out
        for offer in ("overwrite", "block erase", "cryptographic erase", "exit failure mode"):
            assert f"Sanitize, {offer}" in offers


@pytest.mark.parametrize("action", ["block", "crypto", "overwrite --zero"])
def test_scsi_sanitize(bench: Bench, action: str) -> None:
    with bench.drive("scsi") as drive:
        drive.sg("sanitize", f"--{action} --quick --early").ok()
        assert "No Sense" in drive.sense()
        drive.sg("turs").ok()
        assert drive.left == 0


def test_scsi_format(bench: Bench) -> None:
    with bench.drive("scsi") as drive:
        drive.sg("format", "--format --quick --early").ok()
        assert "No Sense" in drive.sense()
        assert drive.left == 0


def test_a_scsi_sanitize_that_fails_is_left_only_if_that_was_allowed(bench: Bench) -> None:
    """SBC-4: EXIT FAILURE MODE is for an operation that was begun with AUSE."""
    with bench.drive("scsi", "--fault", "fails-at-40") as drive:
        drive.sg("sanitize", "--block --quick --early").ok()
        assert "Sanitize command failed" in drive.sense()
        assert "Illegal request" in drive.sg("sanitize", "--fail --quick --early").err
        assert drive.sg("turs").code != 0
    with bench.drive("scsi", "--fault", "fails-at-40") as drive:
        drive.sg("sanitize", "--block --ause --quick --early").ok()
        assert "Sanitize command failed" in drive.sense()
        drive.sg("sanitize", "--fail --quick --early").ok()
        drive.sg("turs").ok()
        assert drive.left > 10_000
