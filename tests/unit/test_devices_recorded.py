"""What the eyes make of a recorded machine (tests/recorded/linux-6.1-qemu.json): nothing here is invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.core.guard import SystemPaths, guard
from expunge_agent.core.medium import Found, Kind, Medium, MediumType, Usage
from expunge_agent.devices import describe, host, vpd
from expunge_agent.devices.inventory import inventory
from expunge_agent.devices.look import find
from expunge_agent.devices.mounts import all_mounts, mounts_of_devices, swaps
from expunge_agent.devices.nodes import all_disks, by_number, family
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import Roots
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.receipt import Reason
from support.recorded import lay_out

BOOT = "1e761106-c3fc-423e-bb7e-0491df32075f"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Roots:
    return lay_out(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def seen(roots: Roots) -> dict[str, Found]:
    return {found.usage.path: found for found in inventory((), roots)}


def medium_of(seen: dict[str, Found], name: str) -> Medium:
    medium = seen[f"/dev/{name}"].medium
    assert medium is not None
    return medium


def usage_of(seen: dict[str, Found], name: str) -> Usage:
    return seen[f"/dev/{name}"].usage


def test_every_disk_with_a_medium_is_listed_and_empty_ones_are_not(seen: dict[str, Found]) -> None:
    names = "dm-0 dm-1 loop0 loop1 md0 mmcblk0 nvme0n1 nvme0n2 sda sdb sdc sdd sde sdf sr0 vda vdb vdc zram0"
    assert list(seen) == [f"/dev/{name}" for name in names.split()]


@pytest.mark.parametrize(
    ("name", "bus", "model", "serial", "wwn"),
    [
        ("sdb", "ata", "QEMU HARDDISK", "ATA-0001", "naa.5000c50000000001"),
        ("sda", "ata", "QEMU HARDDISK", "ATA-0002", ""),
        ("sdc", "scsi", "ACME ROTOR", "SCSI-0001", "naa.5000c50000000011"),
        ("sde", "usb", "QEMU HARDDISK", "UASDISK-1", ""),
        ("sdf", "usb", "QEMU HARDDISK", "USB-0001", ""),
        ("vda", "virtio", "", "VIRT-0001", ""),
        ("mmcblk0", "mmc", "QEMU!", "0xdeadbeef", ""),
        ("dm-0", "lvm", "vault", "LVM-recorded", ""),
        ("md0", "md", "raid1", "8d618a7b-c20a-747e-7c59-8ea48589f542", ""),
    ],
)
def test_a_drive_is_named_by_what_it_says_of_itself(
    seen: dict[str, Found], name: str, bus: str, model: str, serial: str, wwn: str
) -> None:
    identity = medium_of(seen, name).identity
    assert isinstance(identity, BlockIdentity)
    assert (identity.bus, identity.model, identity.serial, identity.wwn) == (bus, model, serial, wwn)
    assert identity.instance == ""


def test_namespaces_of_one_controller_are_told_apart(seen: dict[str, Found]) -> None:
    one, two = medium_of(seen, "nvme0n1").identity, medium_of(seen, "nvme0n2").identity
    assert isinstance(one, BlockIdentity)
    assert isinstance(two, BlockIdentity)
    assert (one.bus, one.serial) == (two.bus, two.serial) == ("nvme", "NVME-0001")
    assert one.wwn != two.wwn


@pytest.mark.parametrize(
    ("name", "bus", "sequence"),
    [("vdb", "virtio", 2), ("loop0", "loop", 28), ("zram0", "zram", 22), ("dm-1", "dm", 25)],
)
def test_what_has_no_name_of_its_own_is_known_until_it_is_detached(
    seen: dict[str, Found], name: str, bus: str, sequence: int
) -> None:
    identity = medium_of(seen, name).identity
    assert isinstance(identity, BlockIdentity)
    assert (identity.bus, identity.serial, identity.wwn) == (bus, "", "")
    assert identity.instance == f"{BOOT}/{sequence}"


def test_sizes_sectors_and_firmware(seen: dict[str, Found]) -> None:
    nvme = medium_of(seen, "nvme0n1")
    assert (nvme.size, nvme.logical_sector, nvme.physical_sector) == (64 << 20, 4096, 4096)
    assert nvme.firmware == "7.2.22"
    assert (medium_of(seen, "sdb").logical_sector, medium_of(seen, "sdb").firmware) == (512, "2.5+")
    assert medium_of(seen, "zram0").size == 16 << 20


def test_virtual_disks_are_called_virtual_and_memory_memory(seen: dict[str, Found]) -> None:
    types = {path.removeprefix("/dev/"): found.medium.type for path, found in seen.items() if found.medium}
    assert types.pop("zram0") is MediumType.MEMORY
    assert types.pop("sdc") is MediumType.UNKNOWN  # SCSI, and its page B1h says "not reported"
    assert set(types.values()) == {MediumType.VIRTUAL}


def test_a_rotation_rate_the_drive_reports_decides(roots: Roots) -> None:
    pages = {disk.name: disk.folder / "device/vpd_pgb1" for disk in all_disks(roots)}
    rates = {name: vpd.rotation_rate(pages[name].read_bytes()) for name in ("sda", "sdb", "sdc")}
    assert rates == {"sda": 1, "sdb": 7200, "sdc": 0}
    plain = BlockIdentity(bus="ata", model="ACME", serial="1", wwn="", size=describe.U64(1))
    kinds = {disk.name: describe.medium_type(disk, plain) for disk in all_disks(roots) if disk.name in rates}
    # The vendor's name is "ATA" there, so that only the model tells an emulated disk.
    assert kinds["sda"] is MediumType.SSD
    assert kinds["sdb"] is MediumType.HDD


def test_partitions_swap_and_a_mount_point_with_a_blank(seen: dict[str, Found]) -> None:
    usage = usage_of(seen, "sdb")
    assert usage.partitions == ("sdb1", "sdb2")
    assert usage.mounts == ("/mnt/with blank",)
    assert usage.swaps == ("/dev/sdb2",)
    refusal = guard(None, medium_of(seen, "sdb"), usage)
    assert refusal is not None
    assert refusal.reason is Reason.SWAP


def test_nested_holders_and_the_mount_on_top_of_them(seen: dict[str, Found]) -> None:
    bottom = usage_of(seen, "sdc")
    assert bottom.holders == ("dm-0 (vault)", "dm-1 (inner)")
    assert bottom.mounts == usage_of(seen, "dm-0").mounts == usage_of(seen, "dm-1").mounts == ("/mnt/inner",)
    assert usage_of(seen, "dm-1").holders == ()


@pytest.mark.parametrize("member", ["sda", "sdd"])
def test_members_of_an_array_are_held(seen: dict[str, Found], member: str) -> None:
    refusal = guard(None, medium_of(seen, member), usage_of(seen, member))
    assert refusal is not None
    assert refusal.reason is Reason.HELD
    assert "md0" in refusal.detail


@pytest.mark.parametrize("member", ["nvme0n2", "vdb"])
def test_every_member_of_a_btrfs_is_mounted_though_the_table_names_one(
    seen: dict[str, Found], member: str
) -> None:
    assert usage_of(seen, member).mounts == ("/mnt/pool",)


def test_a_btrfs_mounted_out_of_sight_is_still_seen(roots: Roots) -> None:
    vdb = next(disk for disk in all_disks(roots) if disk.name == "vdb")
    found = mounts_of_devices([], family(vdb).numbers, roots)
    assert [mount.point for mount in found] == ["(btrfs 0e0badcb-feab-4c80-b831-b8395271c520)"]


def test_a_loop_device_over_a_disk_binds_both(seen: dict[str, Found]) -> None:
    assert usage_of(seen, "vda").loops == ("/dev/loop1",)
    assert usage_of(seen, "loop1").loops == ()
    assert usage_of(seen, "loop1").read_only
    assert "loop device over /dev/vda" in medium_of(seen, "loop1").notes


def test_what_nobody_uses_passes(seen: dict[str, Found]) -> None:
    free = [
        path
        for path, found in seen.items()
        if guard(None, found.medium, found.usage) is None and path != "/dev/loop0"
    ]
    assert free == [
        "/dev/md0",
        "/dev/mmcblk0",
        "/dev/nvme0n1",
        "/dev/sde",
        "/dev/sdf",
        "/dev/vdc",
        "/dev/zram0",
    ]


def test_the_system_disk_is_the_one_below_all_that_stands_on_it(roots: Roots) -> None:
    seen = {f.usage.path: f for f in inventory((), roots, SystemPaths(mounts=("/mnt/inner", "/mnt/pool")))}
    system = [path for path, found in seen.items() if found.usage.system]
    assert system == ["/dev/dm-0", "/dev/dm-1", "/dev/nvme0n2", "/dev/sdc", "/dev/vdb"]


def test_a_partition_is_its_own_target(roots: Roots) -> None:
    part, disk = by_number("8:17", roots), by_number("8:16", roots)
    assert part is not None
    assert disk is not None
    medium = describe.medium(part)
    assert medium.partition
    assert isinstance(medium.identity, BlockIdentity)
    assert medium.identity.instance == "part1@1048576"
    assert medium.identity.serial == describe.identity(disk).serial
    assert medium.size == 32 << 20
    assert [node.name for node in family(part).above] == ["sdb"]
    # The sibling's swap is the disk's matter, not this partition's.
    assert "8:18" not in family(part).numbers


def test_a_drive_is_found_by_identity_whatever_the_hint_says(roots: Roots, seen: dict[str, Found]) -> None:
    for path, found in seen.items():
        assert found.medium is not None
        assert find(found.medium.identity, "/dev/elsewhere", roots) == path


def test_a_drive_that_is_not_here_is_not_found(roots: Roots) -> None:
    gone = BlockIdentity(bus="ata", model="QEMU HARDDISK", serial="ATA-0003", wwn="", size=describe.U64(1))
    assert find(gone, "", roots) is None
    assert find(gone, "/dev/does-not-exist", roots) is None


def test_a_drive_whose_size_changed_is_found_for_the_guard_to_refuse(
    roots: Roots, seen: dict[str, Found]
) -> None:
    known = medium_of(seen, "sdc").identity
    assert isinstance(known, BlockIdentity)
    smaller = BlockIdentity(
        bus=known.bus, model=known.model, serial=known.serial, wwn=known.wwn, size=describe.U64(512)
    )
    assert find(smaller, "", roots) == "/dev/sdc"


def test_two_devices_with_one_identity_are_refused(tmp_path: Path) -> None:
    roots = lay_out(tmp_path)
    for disk in all_disks(roots):  # two paths of one disk, or a bridge that gives everyone one number
        if disk.name in ("sde", "sdd"):
            (disk.folder / "device/vpd_pg80").write_bytes(b"\0\x80\0\x04SAME")
            (disk.folder / "size").write_text("131072\n")
    twin = BlockIdentity(
        bus="scsi", model="QEMU HARDDISK", serial="SAME", wwn="", size=describe.U64(64 << 20)
    )
    assert find(twin, "", roots) == "/dev/sdd"  # the other is on USB: not the same yet
    sdf = next(disk for disk in all_disks(roots) if disk.name == "sdf")
    (sdf.folder / "device/vpd_pg80").write_bytes(b"\0\x80\0\x04SAME")
    with pytest.raises(TargetRefused) as caught:
        find(
            BlockIdentity(bus="usb", model="QEMU HARDDISK", serial="SAME", wwn="", size=twin.size), "", roots
        )
    assert caught.value.refusal.reason is Reason.NO_IDENTITY
    assert "/dev/sde, /dev/sdf" in caught.value.refusal.detail


def test_without_serial_and_sequence_number_there_is_no_identity(tmp_path: Path) -> None:
    roots = lay_out(tmp_path)  # as on kernels before 5.15
    vdb = next(disk for disk in all_disks(roots) if disk.name == "vdb")
    (vdb.folder / "diskseq").unlink()
    (tmp_path / "proc/self/mountinfo").write_text("")
    medium = describe.medium(vdb)
    refusal = guard(None, medium, Usage(path="/dev/vdb", kind=Kind.BLOCK))
    assert refusal is not None
    assert refusal.reason is Reason.NO_IDENTITY


def test_a_name_with_a_slash_is_spelled_as_dev_spells_it(tmp_path: Path) -> None:
    roots = lay_out(tmp_path)  # the driver's name c0d0 lives below /dev/cciss
    vdc = next(disk for disk in all_disks(roots) if disk.name == "vdc")
    vdc.folder.rename(vdc.folder.with_name("cciss!c0d0"))
    link = tmp_path / "sys/block/vdc"
    target = link.readlink()
    link.unlink()
    (tmp_path / "sys/block/cciss!c0d0").symlink_to(target.with_name("cciss!c0d0"))
    assert "/dev/cciss/c0d0" in [str(disk.path) for disk in all_disks(roots)]


def test_the_host_of_the_recording(roots: Roots) -> None:
    assert host.boot_id(roots) == BOOT
    assert host.kernel(roots) == "Linux 6.1.0-56-amd64"
    assert host.machine_id(roots) == ""
    assert host.clock(roots) == "unknown"
    assert swaps(roots) == ["/dev/sdb2"]
    assert {mount.fstype for mount in all_mounts(roots).mounts} >= {"btrfs", "ext4", "rootfs"}
