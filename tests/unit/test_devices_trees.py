"""Multipath, RAID volumes, stacks and doubts, on the recorded machine with the named fields changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.cli import inventory as cli_inventory
from expunge_agent.core import capabilities
from expunge_agent.core.doubts import doubts, filler, garbled
from expunge_agent.core.drive import Ability, AtaSecurity, Drive, Health, HiddenArea, NvmeNamespace, Opal
from expunge_agent.core.guard import SystemPaths, guard
from expunge_agent.core.medium import Kind, Medium, MediumType, Usage
from expunge_agent.core.stack import Layer
from expunge_agent.core.technique import Technique
from expunge_agent.devices import describe, drives, raid, sectors, uevents, zfs
from expunge_agent.devices import inventory as inventories
from expunge_agent.devices.inventory import survey
from expunge_agent.devices.look import find, look_at_node
from expunge_agent.devices.multipath import groups
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.stack import stack
from expunge_agent.devices.usage import Eyes
from expunge_agent.inventory_report import _item
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.receipt import Reason
from support.recorded import lay_out


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path)


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def twin(roots: Roots, serial: bytes = b"SCSI-0001") -> None:
    """Give sdd, which is of the same kind, the name and number of sdc: a second path to it."""
    for path in ("device/wwid", "device/vendor", "device/model", "size"):
        (disk(roots, "sdd").folder / path).write_bytes((disk(roots, "sdc").folder / path).read_bytes())
    page = b"\0\x80" + len(serial).to_bytes(2, "big") + serial
    (disk(roots, "sdd").folder / "device/vpd_pg80").write_bytes(page)


def test_two_paths_to_one_disk_are_one_medium(roots: Roots) -> None:
    twin(roots)
    sdc, sdd = disk(roots, "sdc"), disk(roots, "sdd")
    assert describe.identity(sdc) == describe.identity(sdd)
    entries = {entry.found.usage.path: entry for entry in survey((), roots)}
    assert entries["/dev/sdc"].paths == ("/dev/sdc", "/dev/sdd")
    assert "/dev/sdd" not in entries
    assert find(describe.identity(sdc), "/dev/sdd", roots) == "/dev/sdd"
    assert find(describe.identity(sdc), "/dev/elsewhere", roots) == "/dev/sdc"


def test_what_uses_one_path_binds_the_other(roots: Roots) -> None:
    twin(roots)
    usage = survey((), roots)
    held = next(entry.found.usage for entry in usage if entry.found.usage.path == "/dev/sdc")
    assert "md0" in " ".join(held.holders)  # holds sdd
    assert "/mnt/inner" in held.mounts  # stands on sdc


def test_a_path_of_a_multipath_disk_is_refused_by_that_name(roots: Roots) -> None:
    mapped = disk(roots, "dm-0").folder / "dm/uuid"
    mapped.write_text("mpath-35000c50000000011\n")
    found = next(e.found for e in survey((), roots) if e.found.usage.path == "/dev/sdc")
    refusal = guard(
        None, found.medium, Usage(path="/dev/sdc", kind=Kind.BLOCK, holders=found.usage.holders[:1])
    )
    assert refusal is not None
    assert refusal.reason is Reason.HELD
    assert "one path of the multipath disk dm-0 (vault, multipath)" in refusal.detail


def test_a_multipath_map_and_its_paths_name_each_other(roots: Roots) -> None:
    twin(roots)
    (disk(roots, "dm-0").folder / "dm/uuid").write_text("mpath-35000c50000000011\n")
    entries = {entry.found.usage.path: entry for entry in survey((), roots)}
    assert entries["/dev/sdc"].map == "/dev/dm-0"
    assert entries["/dev/sdc"].paths == ("/dev/sdc", "/dev/sdd")
    assert entries["/dev/dm-0"].paths == ("/dev/sdc",), "what the kernel shows below it"
    assert entries["/dev/dm-0"].map == ""
    assert [path for path, entry in entries.items() if entry.map] == ["/dev/sdc"]
    row = cli_inventory._row(entries["/dev/dm-0"], SystemPaths())
    assert row[2] == "multipath map"
    assert "multipath map: /dev/dm-0" in list(cli_inventory._details(entries["/dev/sdc"], SystemPaths()))
    assert cli_inventory._plain(entries["/dev/sdc"], SystemPaths())["map"] == "/dev/dm-0"
    item = _item(entries["/dev/sdc"], [])
    assert item is not None
    assert "one medium with the multipath map /dev/dm-0" in item.notes


def test_a_path_that_is_named_stands_for_its_medium(roots: Roots) -> None:
    twin(roots)
    eyes = Eyes.open(roots)
    seen = inventories._disks(eyes)
    before = [found.usage.path for _node, found in seen]
    second = disk(roots, "sdd")
    inventories._name(seen, second, look_at_node(second, eyes), eyes)
    after = [found.usage.path for _node, found in seen]
    assert after == ["/dev/sdd" if path == "/dev/sdc" else path for path in before]
    part = disk(roots, "sdb").partitions[0]
    for _ in range(2):
        inventories._name(seen, part, look_at_node(part, eyes), eyes)
    assert [found.usage.path for _node, found in seen] == [*after, "/dev/sdb1"]


def test_a_mapping_that_is_no_multipath_is_no_map(roots: Roots) -> None:
    assert not any(entry.map for entry in survey((), roots)), "dm-0 is a volume on sdc"


def test_the_same_name_with_another_serial_number_is_another_disk(roots: Roots) -> None:
    twin(roots, serial=b"SCSI-0002")
    assert groups(all_disks(roots)) == {}


@pytest.mark.parametrize("name", ["naa.0000000000000000", "naa.5555555555555555", "t10.ATA X"])
def test_a_filler_for_a_name_joins_nothing(roots: Roots, name: str) -> None:
    twin(roots)
    for path in ("sdc", "sdd"):
        (disk(roots, path).folder / "device/wwid").write_text(f"{name}\n")
    assert groups(all_disks(roots)) == {}
    if name.startswith("t10"):
        with pytest.raises(TargetRefused):
            find(describe.identity(disk(roots, "sdc")), "", roots)


def with_driver(roots: Roots, name: str, driver: str) -> Node:
    node = disk(roots, name)
    host = next(folder for folder in node.parents() if folder.name.startswith("host"))
    place = host / "scsi_host" / host.name
    place.mkdir(parents=True, exist_ok=True)
    (place / "proc_name").write_text(f"{driver}\n")
    return node


@pytest.mark.parametrize(
    ("driver", "volume"),
    [
        ("aacraid", True),
        ("arcmsr", True),
        ("megaraid_sas", False),
        ("mpt3sas", False),
        ("virtio_scsi", False),
    ],
)
def test_a_volume_of_a_raid_controller_by_driver_and_channel(roots: Roots, driver: str, volume: bool) -> None:
    node = with_driver(roots, "sdc", driver)  # on channel 0
    assert raid.is_volume(node) is volume


@pytest.mark.parametrize(("level", "volume"), [("RAID 1(+0)", True), ("N/A", False), ("", False)])
def test_a_volume_by_the_level_its_driver_gives(roots: Roots, level: str, volume: bool) -> None:
    node = with_driver(roots, "sdc", "hpsa")
    (node.folder / "device/raid_level").write_text(f"{level}\n")
    assert raid.is_volume(node) is volume
    medium = describe.medium(node)
    assert (medium.type is MediumType.VIRTUAL) is volume
    assert any("RAID controller (hpsa)" in note for note in medium.notes) is volume


def test_drives_without_a_block_device_are_the_members(roots: Roots) -> None:
    node = with_driver(roots, "sdc", "aacraid")
    assert raid.members(node) == []
    host = next(folder for folder in node.parents() if folder.name.startswith("host"))
    hidden = roots.sys / "bus/scsi/devices" / f"{host.name.removeprefix('host')}:1:4:0"
    (hidden / "scsi_generic/sg9").mkdir(parents=True)
    (hidden / "type").write_text("0\n")
    (hidden / "vendor").write_text("ACME    \n")
    (hidden / "model").write_text("ROTOR           \n")
    (hidden / "vpd_pg80").write_bytes(b"\0\x80\0\x04HID1")
    assert raid.members(node) == ["sg9 ACME ROTOR HID1"]
    entry = next(e for e in survey((), roots) if e.found.usage.path == "/dev/sdc")
    assert entry.members == ("sg9 ACME ROTOR HID1",)
    assert entry.drive is not None
    assert entry.drive.protocol == "none"


def test_the_stack_as_a_tree(roots: Roots) -> None:
    tree = stack(disk(roots, "sdc"), Eyes.open(roots))
    vault = tree.layers[0]
    assert (vault.label, vault.kind) == ("vault", "lvm")
    inner = vault.layers[0]
    assert (inner.name, inner.mounts) == ("dm-1", ["/mnt/inner"])
    sdb = stack(disk(roots, "sdb"), Eyes.open(roots))
    assert [(part.name, part.mounts, part.swap) for part in sdb.layers] == [
        ("sdb1", ["/mnt/with blank"], False),
        ("sdb2", [], True),
    ]
    assert stack(disk(roots, "sda"), Eyes.open(roots)).layers[0].kind == "md raid1"
    assert stack(disk(roots, "vda"), Eyes.open(roots)).layers[0].kind == "loop"
    assert sdb.lines()[1].startswith("  sdb1  partition")
    assert msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(sdb, enc_hook=str)), type=dict)


def test_what_the_kernel_knows_of_each_drive(roots: Roots) -> None:
    found = {one.name: drives.examine_node(one) for one in all_disks(roots)}
    assert {name: found[name].protocol for name in ("sda", "sdc", "nvme0n1", "mmcblk0", "vda", "sr0")} == {
        "sda": "ata",
        "sdc": "scsi",
        "nvme0n1": "nvme",
        "mmcblk0": "mmc",
        "vda": "none",
        "sr0": "none",
    }
    assert found["sdb"].names == ["naa.5000c50000000001"]
    assert (found["sda"].rotation, found["sdb"].rotation) == (1, 7200)
    assert found["sda"].bridge == ""
    assert "(" in found["sdf"].bridge


def test_the_drives_word_goes_first_and_the_kernels_fills_the_gaps(roots: Roots) -> None:
    known = drives.examine_node(disk(roots, "sdb"))
    told = Drive(
        protocol="ata", serial="OWN", abilities=[Ability(technique=Technique.DISCARD, offered=False)]
    )
    both = drives.joined(known, told)
    assert (both.serial, both.model) == ("OWN", known.model)
    assert not both.ability(Technique.DISCARD).offered
    assert both.ability(Technique.ZERO_OUT).offered


def medium(**fields: object) -> Medium:
    who = BlockIdentity(bus="ata", model="ACME ROTOR", serial="S1234", wwn="", size=U64(1 << 30))
    plain: dict[str, object] = {"logical_sector": 512, "rotational": True, **fields}
    return Medium(path="/dev/x", identity=who, type=MediumType.HDD, **plain)  # type: ignore[arg-type]


def drive(**fields: object) -> Drive:
    plain: dict[str, object] = {
        "protocol": "ata",
        "model": "ACME ROTOR",
        "serial": "S1234",
        "apparent": U64(1 << 30),
        "logical_sector": 512,
        "rotation": 7200,
        **fields,
    }
    return Drive(**plain)  # type: ignore[arg-type]


def test_an_honest_drive_leaves_no_doubt() -> None:
    assert doubts(medium(), drive()) == []
    assert doubts(medium(), drive(model="ACME ROTOR 4000", serial=" S1234")) == []
    assert doubts(medium(), Drive(protocol="none")) == []
    behind_an_adapter = replace(
        medium(), identity=msgspec.structs.replace(medium().identity, model="ATA EXPUNGE LAB SSD")
    )
    assert doubts(behind_an_adapter, drive(model="EXPUNGE LAB SSD 870")) == [], (
        "cut after 16 characters, a space last"
    )


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"serial": "S9999"}, "S9999"),
        ({"serial": "S9999", "bridge": "ASMT 2115"}, "the bridge gives"),
        ({"model": "OTHER"}, "OTHER"),
        ({"apparent": U64(1 << 20)}, "1048576"),
        ({"native": U64(1 << 20)}, "native"),
        ({"logical_sector": 4096}, "4096"),
        ({"serial": "S1234\\xff"}, "characters"),
        ({"serial": "00000000"}, "repeated"),
        ({"serial": "0123456789"}, "many units"),
    ],
)
def test_each_contradiction_is_said(fields: dict[str, object], word: str) -> None:
    found = doubts(medium(), drive(**fields))
    assert any(word in one for one in found), found


@pytest.mark.parametrize(
    ("bus", "flag", "rate", "doubted"),
    [
        ("ata", False, -1, True),  # the drive's own word 217
        ("ata", True, -1, False),
        ("ata", False, 7200, False),  # somebody set the flag
        ("scsi", False, -1, False),
        ("usb", False, -1, False),
        ("scsi", False, 0, False),
        ("scsi", False, 10500, False),
        ("scsi", True, 1, True),
        ("usb", False, 1, True),
    ],
)
def test_a_flag_that_rules_can_set_casts_no_doubt_on_a_rotation_rate(
    bus: str, flag: bool, rate: int, doubted: bool
) -> None:
    who = msgspec.structs.replace(medium().identity, bus=bus)
    found = doubts(replace(medium(rotational=flag, rotation=rate), identity=who), drive())
    assert found == (
        ["the drive says 7200 turns a minute, the kernel that it does not rotate"] if doubted else []
    )


def test_a_sas_disk_whose_flag_a_rule_set_is_no_less_trusted(roots: Roots) -> None:
    node = disk(roots, "sdc")
    (node.folder / "queue/rotational").write_text("0\n")
    (node.folder / "device/vpd_pgb1").write_bytes(b"\0\xb1\0\x3c" + (1).to_bytes(2, "big") + bytes(58))
    told = drives.joined(drives.examine_node(node), Drive(protocol="scsi", rotation=10500))
    assert any("10500 turns" in doubt for doubt in drives.judged(describe.medium(node), told).distrusted)
    (node.folder / "device/vpd_pgb1").unlink()
    assert describe.medium(node).rotational is False
    assert drives.judged(describe.medium(node), told).distrusted == []


@given(st.text(max_size=60))
def test_any_text_is_judged(text: str) -> None:
    garbled(text), filler(text)
    doubts(medium(), drive(serial=text, model=text))


def test_capabilities_in_short() -> None:
    one = drive(
        abilities=[
            Ability(technique=Technique.ATA_SANITIZE_CRYPTO, offered=True),
            Ability(technique=Technique.ATA_SANITIZE_BLOCK, offered=True),
            Ability(technique=Technique.ATA_SANITIZE_OVERWRITE, offered=False),
            Ability(technique=Technique.ATA_SECURITY_ERASE, offered=True),
        ],
        hidden=[HiddenArea(kind="hpa", size=U64(1 << 20), restorable=True)],
        security=AtaSecurity(
            supported=True, enabled=False, locked=False, frozen=True, expired=False, enhanced=False
        ),
        health=Health(passed=False, celsius=41),
        namespaces=[NvmeNamespace(nsid=1, attached=True)],
    )
    assert capabilities.can(one) == "sanitize crypto+block, security erase normal"
    assert capabilities.hidden(one) == "hpa 1048576"
    assert capabilities.condition(one) == "frozen, FAILING, 41 °C"
    assert capabilities.can(Drive(protocol="none")) == capabilities.condition(Drive(protocol="none")) == ""


def test_all_that_a_drive_answers_is_in_the_details() -> None:
    """Every field of it, but the raw bytes, and the doubts that stand in two lists: whatever it says, a line changes."""
    space = NvmeNamespace(nsid=3, attached=True)
    locks = AtaSecurity(
        supported=True, enabled=False, locked=False, frozen=True, expired=False, enhanced=True, minutes=4
    )
    opal = Opal(ssc="Opal 2", locking_enabled=True, locked=False, mbr_enabled=False, media_encryption=True)
    spoken: dict[str, object] = {
        "protocol": "nvme", "transport": "tcp", "bridge": "ACME", "vendor": "MAKER", "model": "ROTOR", "serial": "S77",
        "firmware": "FW9", "names": ["naa.5000c50000000001"], "rotation": 5400, "logical_sector": 512,
        "physical_sector": 4096, "apparent": U64(1001), "native": U64(2002), "total": U64(9009), "unallocated": U64(3003),
        "hidden": [HiddenArea(kind="hpa", size=U64(77), restorable=False)],
        "abilities": [Ability(technique=Technique.DISCARD, offered=True)], "security": locks, "sanitize_frozen": True,
        "sanitize_state": "done", "media_verification": True, "namespaces": [space], "unlisted": "nobody knows",
        "health": Health(power_on_hours=41), "opal": opal, "unreached": ["RPMB"], "astray": "boot0 is in the way",
        "doubtful": ["odd"],
    }  # fmt: skip
    silent = Drive(protocol="none")
    assert capabilities.details(silent) == []
    left_out = {"answers", "doubtful_names", "doubtful_areas", "nsid"}
    assert spoken.keys() == set(Drive.__struct_fields__) - left_out
    for name, value in spoken.items():
        lines = capabilities.details(msgspec.structs.replace(silent, **{name: value}))
        assert len(lines) == 1, (name, lines)
    whole = capabilities.details(Drive(**spoken))  # type: ignore[arg-type]
    assert "capacity: 1001 bytes, native 2002 bytes" in whole
    assert "sectors: 512 bytes logical, 4096 bytes physical" in whole
    assert "unallocated: 3003 of 9009 bytes are in no namespace, as of deleted ones" in whole
    assert "hidden: HPA of 77 bytes, cannot be given back" in whole
    assert "namespace 3: attached" in whole
    assert any(
        line.startswith("ATA security: ") and "frozen yes" in line and "erase 4 min" in line for line in whole
    )


def test_each_figure_of_health_is_in_the_details() -> None:
    figures: dict[str, object] = {
        "passed": False, "celsius": 0, "power_on_hours": 0, "used_percent": 0, "media_errors": 0, "reallocated": 0,
    }  # fmt: skip
    assert figures.keys() == set(Health.__struct_fields__)
    told = {
        tuple(capabilities.details(Drive(protocol="none", health=Health(**{name: value}))))  # type: ignore[arg-type]
        for name, value in figures.items()
    }
    assert told == {
        (f"health: {words}",)
        for words in ("FAILING", "0 °C", "0 hours on", "0 % worn", "0 media errors", "0 reallocated sectors")
    }


@pytest.mark.parametrize("length", [520, 528, 4160])
def test_sectors_that_linux_cannot_address_are_named_in_the_refusal(length: int) -> None:
    who = BlockIdentity(bus="scsi", model="ACME", serial="1", wwn="", size=U64(0))
    empty = Medium(path="/dev/x", identity=who, type=MediumType.HDD, logical_sector=length)
    refusal = guard(None, empty, Usage(path="/dev/x", kind=Kind.BLOCK))
    assert refusal is not None
    assert refusal.reason is Reason.EMPTY
    assert f"sectors of {length} bytes" in refusal.detail
    assert not sectors.addressable(length)
    assert sectors.addressable(512) and sectors.addressable(4096)


@given(st.binary(max_size=300))
def test_any_announcement_is_read_or_passed_over(message: bytes) -> None:
    uevents.parse(message)


def test_an_announcement_of_the_kernel() -> None:
    event = uevents.parse(
        b"add@/devices/virtual/block/loop9\0ACTION=add\0DEVPATH=/devices/virtual/block/loop9\0"
        b"SUBSYSTEM=block\0MAJOR=7\0MINOR=9\0DEVNAME=loop9\0DEVTYPE=disk\0SEQNUM=1"
    )
    assert event == uevents.Uevent("add", "/devices/virtual/block/loop9", "block", "disk", "loop9")
    assert uevents.parse(b"libudev\0\xfe\xed\xca\xfe") is None


@given(st.binary(max_size=400))
def test_any_output_of_zpool_is_read(output: bytes) -> None:
    zfs.parse_status(output)


def test_members_of_pools() -> None:
    status = b"  pool: tank\n state: ONLINE\nconfig:\n\n\tNAME  STATE\n\ttank  ONLINE\n\t  /dev/sda1  ONLINE  0 0 0\n"
    assert zfs.parse_status(status) == {"/dev/sda1": "tank"}


def test_a_layer_is_a_document() -> None:
    layer = Layer(name="a", kind="disk", path="/dev/a", size=U64(1), layers=[])
    assert msgspec.to_builtins(layer, enc_hook=lambda value: str(int(value)))["size"] == "1"
