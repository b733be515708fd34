"""What a disk is reached over, and disks that are made up: on the recorded machine with the named fields changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.core import capabilities
from expunge_agent.core.medium import MediumType
from expunge_agent.devices import describe, drives, makers
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.transport import remarks, transport
from support.recorded import lay_out

MADE_UP = (
    "NETAPP LUN C-Mode", "LIO-ORG disk0", "DGC VRAID", "NUTANIX VDISK", "HITACHI OPEN-V", "HP OPEN-V", "EMC SYMMETRIX",
    "3PARdata VV", "PURE FlashArray", "IBM 2145", "IBM 2107900", "COMPELNT Compellent Vol", "DellEMC PowerStore",
    "DELL MD36xxf", "HUAWEI XSG1", "HP HSV450", "HPE MSA 2060 SAN", "FUJITSU ETERNUS_DXM", "IET VIRTUAL-DISK", "AIX VDASD",
    "SYNOLOGY Storage", "SYNOLOGY iSCSI Storage", "TrueNAS iSCSI Disk", "Msft Virtual Disk", "VMware Virtual disk", "QEMU HARDDISK", "VBOX HARDDISK",
    "NetApp ONTAP Controller", "Pure Storage FlashArray", "SPDK bdev Controller", "Linux", "Amazon Elastic Block Store",
)  # fmt: skip
DRIVES = (
    "SEAGATE ST4000NM0023", "HGST HUS724040ALS640", "HITACHI HUS156060VLS600", "IBM-ESXS ST300MM0006", "IBM DDYS-T18350N",
    "HP EG0600FBDSR", "HPE EG001200JWJNQ", "TOSHIBA AL13SEB600", "WD WD4001FYYG", "FUJITSU MBF2600RC", "NETAPP X422_HCOBD600A10",
    "LENOVO-X ST300MP0006", "SAMSUNG MZILT960HAHQ0D3", "INTEL SSDPE2KX010T8", "DELL Ent NVMe AGN MU U.2 1.6TB",
    "Linux scsi_debug", "EXPUNGE LAB SAS SSD", "LAB LAB DISK", "SUN300G", "HUAWEI HWE52SS3960L005N", "ORACLE NVMe SSD",
    "SYNOLOGY HAS5300-8T", "Synology SNV3410-400G",
)  # fmt: skip


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path)


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


@pytest.mark.parametrize("name", MADE_UP)
def test_a_disk_of_a_hypervisor_or_storage_system_is_known_by_its_name(name: str) -> None:
    assert makers.is_made_up(name)


@pytest.mark.parametrize("name", DRIVES)
def test_a_drive_of_a_maker_who_also_builds_storage_systems_is_a_drive(name: str) -> None:
    assert not makers.is_made_up(name)


@pytest.mark.parametrize(("vendor", "model"), [("NETAPP", "LUN C-Mode"), ("HITACHI", "OPEN-V")])
def test_a_lun_is_virtual_whatever_it_says_of_rotation(roots: Roots, vendor: str, model: str) -> None:
    device = disk(roots, "sdc").folder / "device"
    (device / "vendor").write_text(f"{vendor:8}\n")
    (device / "model").write_text(f"{model:16}\n")
    (device / "vpd_pgb1").write_bytes(b"\0\xb1\0\x3c" + (10000).to_bytes(2, "big") + bytes(58))
    assert describe.medium(disk(roots, "sdc")).type is MediumType.VIRTUAL


@pytest.mark.parametrize("flag", ["0", "1"])
def test_without_a_rotation_rate_a_scsi_disk_is_of_no_known_type(roots: Roots, flag: str) -> None:
    sdc = disk(roots, "sdc")
    (sdc.folder / "device/vpd_pgb1").unlink()
    (sdc.folder / "queue/rotational").write_text(f"{flag}\n")
    found = describe.medium(sdc)
    assert found.type is MediumType.UNKNOWN
    assert "the device does not say whether it rotates" in found.notes


@pytest.mark.parametrize(
    ("rate", "kind"),
    [
        (0, "unknown"),
        (1, "ssd"),
        (2, "unknown"),
        (0x400, "unknown"),
        (0x401, "hdd"),
        (15000, "hdd"),
        (0xFFFF, "unknown"),
    ],
)
def test_only_a_rate_that_is_one_tells_a_rotating_disk(roots: Roots, rate: int, kind: str) -> None:
    page = disk(roots, "sdc").folder / "device/vpd_pgb1"
    page.write_bytes(b"\0\xb1\0\x3c" + rate.to_bytes(2, "big") + bytes(58))
    assert describe.medium(disk(roots, "sdc")).type.value == kind


def test_what_each_disk_is_reached_over(roots: Roots) -> None:
    (disk(roots, "nvme0n1").folder.parent / "transport").write_text("pcie\n")
    (next(one for one in disk(roots, "sdb").parents() if one.name == "ata1") / "ata_port").mkdir(
        exist_ok=True
    )
    found = {one.name: transport(one) for one in all_disks(roots)}
    assert {
        name: found[name]
        for name in ("nvme0n1", "sdb", "sdc", "sde", "sdf", "vda", "mmcblk0", "loop0", "dm-0")
    } == {
        "nvme0n1": "pcie",
        "sdb": "ata",
        "sdc": "virtio",
        "sde": "usb",
        "sdf": "usb",
        "vda": "virtio",
        "mmcblk0": "mmc",
        "loop0": "",
        "dm-0": "",
    }
    known = drives.examine_node(disk(roots, "sdc"))
    assert known.transport == "virtio"
    assert "transport: virtio" in capabilities.details(known)


def host_class(roots: Roots, name: str, kind: str) -> Node:
    """The SCSI host of the disk `name` is one of this transport class."""
    node = disk(roots, name)
    host = next(folder for folder in node.parents() if folder.name.startswith("host"))
    (host / f"{kind}_host" / host.name).mkdir(parents=True)
    return node


@pytest.mark.parametrize("kind", ["sas", "fc", "srp", "spi"])
def test_the_transport_of_a_scsi_host_goes_before_what_the_host_hangs_on(roots: Roots, kind: str) -> None:
    node = host_class(roots, "sdc", kind)
    assert transport(node) == kind
    assert describe.medium(node).type is MediumType.UNKNOWN
    assert any("Fibre Channel" in note for note in describe.medium(node).notes) is (kind == "fc")


def test_a_disk_over_iscsi_is_virtual_and_says_why(roots: Roots) -> None:
    node = disk(roots, "sdc")
    (node.folder / "device/vpd_pgb1").write_bytes(b"\0\xb1\0\x3c" + (7200).to_bytes(2, "big") + bytes(58))
    assert describe.medium(node).type is MediumType.HDD
    host_class(roots, "sdc", "iscsi")
    found = describe.medium(node)
    assert found.type is MediumType.VIRTUAL
    assert any("iSCSI" in note for note in found.notes)


@pytest.mark.parametrize(
    ("over", "word"), [("tcp", "TCP"), ("rdma", "RDMA"), ("fc", "Fibre Channel"), ("pcie", "")]
)
def test_nvme_over_a_network_is_said(roots: Roots, over: str, word: str) -> None:
    node = disk(roots, "nvme0n1")
    (node.folder.parent / "transport").write_text(f"{over}\n")
    assert [word in note for note in remarks(node)] == [True] * bool(word)


def test_with_native_multipath_the_controllers_tell(roots: Roots) -> None:
    above = roots.sys / "devices/virtual/nvme-subsystem/nvme-subsys0"
    for number, over in enumerate(("tcp", "rdma")):
        (above / f"nvme{number}").mkdir()
        (above / f"nvme{number}/transport").write_text(f"{over}\n")
    there = disk(roots, "nvme0n1").folder.rename(above / "nvme0n1")
    (roots.sys / "block/nvme0n1").unlink()
    (roots.sys / "block/nvme0n1").symlink_to(there)
    assert transport(disk(roots, "nvme0n1")) == "rdma,tcp"
    assert remarks(disk(roots, "nvme0n1")) == [
        "reached over NVMe over RDMA and TCP: a storage system may make it up"
    ]
