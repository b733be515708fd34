"""eMMC and UFS as QEMU has them, through Linux's own drivers: what the agent says of them, what it refuses, and what
its commands leave in the backing files.

QEMU's eMMC (11.1.3 lets one be added, 10.0.2 does not) erases, and offers neither secure erase nor sanitize; its UFS
device (10.0.2 has it, 7.2 does not) unmaps, and refuses a purge. So what is shown here is the kernel's path, and that
nothing is called erased which was not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import qemu
from lab.disks import MIB, Backing, Emmc, Ufs, marker
from lab.guest import Guest, Machine
from lab.orders import PROFILE, inventory, receipts, wipe
from lab.report import Report

USER, UNIT = 16 * MIB, 8 * MIB
BIG = 2048 * MIB + 16 * MIB
GROUP = 512 * 1024
EMMC, UFS = "QEMU's eMMC", "QEMU's UFS"
CLAIMING = "QEMU's eMMC, made to offer it"
CLAIMS = "python3 -m lab.emmc_claims"
MODULES = "modprobe -a sdhci_pci mmc_block ufshcd_pci"
BIND = "echo 1b36 0013 >/sys/bus/pci/drivers/ufshcd/new_id"
"""Linux 6.1 does not know QEMU's UFS controller, and is told that it is one. Where it is known this fails, and no harm."""


class Bench:
    """A guest with an eMMC, one of more than 2 GiB, and a UFS device of two units, as far as this QEMU has them."""

    def __init__(self, folder: Path) -> None:
        self.disks: list[Emmc | Ufs] = []
        if not qemu.lacks("emmc"):
            areas = 2 * MIB + 128 * 1024
            self.emmc = Emmc("emmc", Backing.make(folder, "emmc", areas + USER))
            self.big = Emmc("big", Backing.make(folder, "big", BIG), boot=0, rpmb=0)
            self.emmc.backing.fill()
            self.disks += [self.emmc, self.big]
        if not qemu.lacks("ufs", "ufs-lu"):
            self.ufs = Ufs("ufs", (Backing.make(folder, "lu0", UNIT), Backing.make(folder, "lu1", UNIT)))
            for unit in self.ufs.units:
                unit.fill()
            self.disks.append(self.ufs)
        self.guest: Guest
        self.listed: list[dict[str, Any]] = []

    def set_up(self) -> None:
        """Load the drivers, wait for the disks, teach the agent profiles for virtual media, and take the inventory."""
        wanted = sum(disk.nodes for disk in self.disks)
        count = "ls /sys/block | grep -c -e ^mmcblk -e ^sd"
        wait = (
            f"for i in $(seq 300); do [ $({count}) -ge {wanted} ] && break; sleep 0.1; done; udevadm settle"
        )
        self.guest.run(f"{MODULES}; {BIND} 2>/dev/null; {wait}; [ $({count}) -ge {wanted} ]").ok()
        folder = "/var/lib/expunge/profiles"
        self.guest.run(["mkdir", "-p", folder]).ok()
        for technique in ("mmc-sanitize", "mmc-secure-erase", "ufs-purge"):
            text = PROFILE.format(technique=technique, level="clear", medium="virtual")
            self.guest.put(f"{folder}/only-{technique}.toml", text.encode())
        self.listed = inventory(self.guest)

    def entry(self, path: str) -> dict[str, Any]:
        """What the inventory says of it."""
        (found,) = (one for one in self.listed if one["path"] == path)
        return found

    @property
    def user(self) -> str:
        """The node of the small eMMC's user area."""
        return next(p for p in self._paths("mmc") if self.entry(p)["identity"]["size"] == str(USER))

    @property
    def units(self) -> list[str]:
        """The nodes of the UFS device's logical units."""
        return self._paths("ufs")

    def claims(self, *words: str) -> dict[str, Any]:
        """What `lab.emmc_claims` says in the guest."""
        answer: dict[str, Any] = json.loads(self.guest.run([*CLAIMS.split(), *words]).ok().out)
        return answer

    def areas(self) -> dict[str, int]:
        """How many sectors of each area of the small eMMC still hold their marker, from the host."""
        borders = {"boot0": 0, "boot1": MIB, "rpmb": 2 * MIB, "user": self.emmc.user}
        found = dict.fromkeys(borders, 0)
        for offset in self.emmc.backing.remains():
            found[[name for name, start in borders.items() if start <= offset][-1]] += 1
        return found

    def user_bytes(self) -> set[int]:
        """The values of bytes that the user area holds, from the host."""
        with self.emmc.backing.path.open("rb") as file:
            file.seek(self.emmc.user)
            return set(file.read())

    def _paths(self, bus: str) -> list[str]:
        return [one["path"] for one in self.listed if one["identity"]["bus"] == bus]


WHOLE = {"boot0": MIB // 512, "boot1": MIB // 512, "rpmb": 256}


@pytest.fixture(scope="module")
def bench(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("embedded")
    made = Bench(folder)
    with Guest(machine, folder, made.disks, name="embedded") as made.guest:
        made.set_up()
        yield made


@pytest.fixture
def emmc(request: pytest.FixtureRequest) -> Bench:
    if reason := qemu.lacks("emmc", "sdhci-pci"):
        pytest.skip(reason)
    bench: Bench = request.getfixturevalue("bench")
    return bench


@pytest.fixture
def ufs(request: pytest.FixtureRequest) -> Bench:
    if reason := qemu.lacks("ufs", "ufs-lu"):
        pytest.skip(reason)
    bench: Bench = request.getfixturevalue("bench")
    return bench


def refused(guest: Guest, node: str, profile: str = "nist-clear") -> tuple[str, str]:
    """The outcome in the receipt of an order that is refused, and its sentence."""
    done = guest.run(["expunge-agent", "wipe", node, "--profile", profile, "--yes", "--json"])
    assert done.code == 3, done
    told = receipts(guest)[-1]
    return str(told["outcome"]), str(told["refusal"]["detail"])


def test_an_emmc_is_called_what_it_is(emmc: Bench) -> None:
    seen = emmc.entry(emmc.user)
    assert (seen["identity"]["serial"], seen["type"]) == ("0xdeadbeef", "virtual")
    assert not seen["drive"]["doubtful"]
    (register,) = seen["drive"]["answers"]
    assert (register["name"], len(register["hex"])) == ("EXT_CSD", 1024)
    note = next(note for note in seen["facts"]["notes"] if "beside the user area" in note)
    assert all(f"{emmc.user.removeprefix('/dev/')}{area}" in note for area in ("boot0", "boot1", "rpmb"))


def test_its_boot_partitions_are_areas_of_it(emmc: Bench) -> None:
    for name in ("boot0", "boot1"):
        seen = emmc.entry(f"{emmc.user}{name}")
        whole = emmc.entry(emmc.user)["identity"]
        assert seen["identity"] == {**whole, "size": str(MIB), "instance": name}
        assert [one["reason"] for one in seen["blocked"]] == ["read-only"]
        assert "force_ro" in seen["blocked"][0]["detail"]
        assert not [one for one in seen["drive"]["abilities"] if "SD card" in one["why"]]


@pytest.mark.parametrize("technique", ["mmc-sanitize", "mmc-secure-erase"])
def test_what_an_emmc_does_not_offer_is_refused(emmc: Bench, lab_report: Report, technique: str) -> None:
    before = emmc.areas()
    outcome, why = refused(emmc.guest, emmc.user, f"only-{technique}")
    assert f"{technique}: SEC_FEATURE_SUPPORT says that there is no" in why
    assert emmc.areas() == before
    lab_report.row(technique, EMMC, "it does not offer it", outcome, "untouched")


def test_an_erase_that_the_device_only_says_it_did_is_a_failure(emmc: Bench, lab_report: Report) -> None:
    assert emmc.areas() == {**WHOLE, "user": USER // 512}
    done = wipe(emmc.guest, emmc.user, "only-mmc-secure-erase", agent=f"{CLAIMS} lying")
    assert (done.outcome, done.target["level_achieved"]) == ("failed", "none")
    assert done.target["erasure"]["accepted"]
    assert done.target["erasure"]["canaries"]["found"] > 0
    left = emmc.areas()["user"]
    canaries = done.target["erasure"]["canaries"]
    assert left == (USER - canaries["written"] * canaries["block"]) // 512  # all but where canaries lie now
    lab_report.row("mmc-secure-erase", CLAIMING, "lies about success", done.outcome, f"{left} sectors left")


def test_its_groups_are_erased_through_the_kernel(emmc: Bench, lab_report: Report) -> None:
    """Also that data addresses of so small a device count bytes: by sectors it would lose one part in 512."""
    done = wipe(emmc.guest, emmc.user, "only-mmc-secure-erase", agent=f"{CLAIMS} honest")
    assert (done.outcome, done.target["level_achieved"]) == ("sanitized", "clear"), done.target
    assert emmc.areas() == {**WHOLE, "user": 0}
    assert emmc.user_bytes() == {0xFF}  # its register says 00h
    truth = "user area: nothing left, all FFh; boot partitions and RPMB untouched"
    lab_report.row("mmc-secure-erase", CLAIMING, "", done.outcome, truth)


def test_a_sanitize_that_the_kernel_refuses_is_no_sanitize(emmc: Bench, lab_report: Report) -> None:
    done = wipe(emmc.guest, emmc.user, "only-mmc-sanitize", agent=f"{CLAIMS} honest")
    assert (done.outcome, done.target["level_achieved"]) == ("failed", "none")
    assert "CMD6" in done.target["failure"]
    lab_report.row("mmc-sanitize", CLAIMING, "the kernel refuses it", done.outcome, "erased, not sanitized")


def test_above_two_gigabytes_addresses_count_sectors(emmc: Bench) -> None:
    backing = emmc.big.backing
    offsets = [BIG - 3 * GROUP, BIG - 2 * GROUP, BIG - GROUP - 512, BIG - GROUP, 0]
    with backing.path.open("r+b") as file:
        for offset in offsets:
            file.seek(offset)
            file.write(marker(backing.path.name, offset))
    node = next(p for p in emmc._paths("mmc") if emmc.entry(p)["identity"]["size"] == str(BIG))
    told = emmc.claims("erase", node, str(BIG - 2 * GROUP), str(BIG - GROUP))
    assert (told["unit"], set(told["statuses"])) == (512, {0x900})
    assert sorted(backing.remains()) == [0, BIG - 3 * GROUP, BIG - GROUP]


def test_an_overwrite_of_the_user_area_says_what_it_leaves(emmc: Bench, lab_report: Report) -> None:
    done = wipe(emmc.guest, emmc.user)
    assert (done.code, done.outcome, done.target["level_achieved"]) == (0, "sanitized", "clear")
    assert emmc.user_bytes() == {0}
    assert emmc.areas() == {**WHOLE, "user": 0}
    assert any("boot0" in note and "not covered" in note for note in done.target["medium"]["notes"])
    truth = "user area: zeros; boot partitions and RPMB untouched, and named in the receipt"
    lab_report.row("overwrite", EMMC, "", done.outcome, truth)


def test_a_boot_partition_is_a_target_of_its_own(emmc: Bench, lab_report: Report) -> None:
    node = f"{emmc.user}boot0"
    assert "force_ro" in refused(emmc.guest, node)[1]
    emmc.guest.run(f"echo 0 >/sys/block/{node.removeprefix('/dev/')}/force_ro").ok()
    done = wipe(emmc.guest, node)
    assert (done.code, done.outcome) == (0, "sanitized")
    assert done.target["identity_opened"]["instance"] == "boot0"
    assert emmc.areas() == {**WHOLE, "boot0": 0, "user": 0}
    lab_report.row("overwrite", f"boot partition of {EMMC}", "", done.outcome, "this area only: zeros")


def test_a_ufs_device_is_called_what_it_is(ufs: Bench) -> None:
    assert len(ufs.units) == 2
    for node in ufs.units:
        seen = ufs.entry(node)
        assert (seen["type"], seen["facts"]["logical_sector"]) == ("virtual", 4096)
        assert not seen["drive"]["doubtful"]
        (purge,) = (one for one in seen["drive"]["abilities"] if one["technique"] == "ufs-purge")
        assert (purge["offered"], bool(purge["why"])) == (False, True)
    assert len({json.dumps(ufs.entry(node)["identity"]) for node in ufs.units}) == 2


def test_a_purge_that_cannot_be_asked_for_is_refused_and_nothing_is_unmapped(
    ufs: Bench, lab_report: Report
) -> None:
    outcome, why = refused(ufs.guest, ufs.units[0], "only-ufs-purge")
    assert "ufs-purge: the kernel shows no ufs-bsg node" in why or "bProvisioningType" in why
    assert [len(unit.remains()) for unit in ufs.ufs.units] == [UNIT // 512] * 2
    lab_report.row("ufs-purge", UFS, "no way to ask for it", outcome, "untouched")


def test_an_overwrite_reaches_one_logical_unit(ufs: Bench, lab_report: Report) -> None:
    done = wipe(ufs.guest, ufs.units[0])
    assert (done.code, done.outcome, done.target["level_achieved"]) == (0, "sanitized", "clear")
    left = sorted(len(unit.remains()) for unit in ufs.ufs.units)
    assert left == [0, UNIT // 512]
    assert sorted(unit.nonzero() for unit in ufs.ufs.units)[0] == 0
    assert any("the others, and its RPMB, are not covered" in note for note in done.target["medium"]["notes"])
    lab_report.row("overwrite", UFS, "", done.outcome, "this logical unit: zeros; the other one untouched")


def test_an_emmc_that_stands_switched_elsewhere_is_not_called_erased(emmc: Bench, lab_report: Report) -> None:
    """QEMU reports an error of a switch for ever after, and Linux then takes the next switch, to a boot partition,
    for one that did not happen: what is written to the user area goes there."""
    assert emmc.claims("upset", emmc.user)["statuses"][0] & 0x80
    emmc.guest.run(f"dd if={emmc.user}boot1 of=/dev/null bs=512 count=1 iflag=direct")
    before = emmc.emmc.backing.digest()
    outcome, why = refused(emmc.guest, emmc.user)
    assert "what is written to it goes elsewhere" in why
    assert emmc.emmc.backing.digest() == before
    lab_report.row("overwrite", EMMC, "switched to a boot partition unseen", outcome, "untouched")
