"""Who holds the key of a volume, in trees laid out as sysfs has them; what crypttab names; copies of headers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expunge_agent.core.luks_case import HEADER_COPY
from expunge_agent.devices.crypt_maps import holding, in_keyring
from expunge_agent.devices.crypttab import Sought, from_crypttab
from expunge_agent.devices.key_traces import header_copies
from expunge_agent.devices.nodes import all_disks
from expunge_agent.devices.roots import LIVE, Roots
from support.luks import recorded
from support.recorded import lay_out

UUID = "00000000-0000-4000-8000-000000000002"
PLAIN = UUID.replace("-", "")


def tree(folder: Path, **maps: tuple[str, str, bool]) -> Roots:
    """dm devices: name → (dm/uuid, number of the device below, suspended)."""
    roots = Roots(sys=folder / "sys", proc=folder / "proc", dev=folder / "dev")
    (roots.sys / "block").mkdir(parents=True)
    roots.proc.mkdir()
    for index, (name, (uuid, below, suspended)) in enumerate(maps.items()):
        device = roots.sys / "devices/virtual/block" / f"dm-{index}"
        (device / "dm").mkdir(parents=True)
        (device / "dev").write_text(f"254:{index}\n")
        (device / "dm/uuid").write_text(uuid + "\n")
        (device / "dm/name").write_text(name + "\n")
        (device / "dm/suspended").write_text(f"{int(suspended)}\n")
        (device / "slaves/sdz").mkdir(parents=True)
        (device / "slaves/sdz/dev").write_text(below + "\n")
        (roots.sys / "block" / device.name).symlink_to(device)
    return roots


@pytest.mark.parametrize(
    ("uuid", "below", "held"),
    [
        (f"CRYPT-LUKS2-{PLAIN}-secret", "8:0", True),
        (f"CRYPT-LUKS1-{PLAIN}-secret", "9:9", True),
        (f"CRYPT-LUKS2-{PLAIN.upper()}-secret", "9:9", True),
        ("CRYPT-PLAIN-secret", "8:0", True),
        ("CRYPT-LUKS2-ffffffffffffffffffffffffffffffff-secret", "8:0", True),
        ("CRYPT-LUKS2-ffffffffffffffffffffffffffffffff-secret", "9:9", False),
        (f"LVM-{PLAIN}-secret", "8:0", False),
        ("", "8:0", False),
    ],
)
def test_a_mapping_of_the_volume_or_over_the_device(
    tmp_path: Path, uuid: str, below: str, held: bool
) -> None:
    roots = tree(tmp_path, secret=(uuid, below, False))
    assert holding(UUID, ["8:0"], roots) == (["dm-0 (secret)"] if held else [])


def test_a_suspended_one_too_and_all_are_named(tmp_path: Path) -> None:
    one = f"CRYPT-LUKS2-{PLAIN}-a"
    roots = tree(tmp_path, a=(one, "8:0", True), b=(f"CRYPT-LUKS2-{PLAIN}-b", "8:16", False))
    assert holding(UUID, (), roots) == ["dm-0 (a, suspended)", "dm-1 (b)"]
    assert holding(UUID, (), tree(tmp_path / "none")) == []


def test_keys_in_the_keyring(tmp_path: Path) -> None:
    roots = tree(tmp_path)
    (roots.proc / "keys").write_text(
        f"12f1e9ab I--Q---     1 perm 1f3f0000     0     0 logon     cryptsetup:{UUID}-d0: 64\n"
        "3a5e6c01 I------     2 perm 1f0b0000     0 65534 keyring   .dns_resolver: empty\n"
    )
    assert in_keyring(UUID, roots) == [f"logon cryptsetup:{UUID}-d0"]
    assert in_keyring("11111111-2222", roots) == []


def test_crypttab_by_uuid_or_path(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/key").write_bytes(b"k")
    (tmp_path / "etc/crypttab").write_text(
        f'a UUID={UUID} /etc/key luks\nb UUID="{UUID}" none luks,fido2-device=auto\nc /dev/sdz1 /dev/sdk4\n'
        "d UUID=other /etc/key\n#e /dev/sdz1 /etc/key\nshort\n\xff\n",
        encoding="latin-1",
    )
    found = {
        one.where: one.fate
        for one in from_crypttab([str(tmp_path), "/nowhere"], Sought(UUID, "", ["/dev/sdz1"]))
    }
    assert found == {
        f"{tmp_path}/etc/key": "remains",
        "fido2-device=auto": "unknown",
        "/dev/sdk4": "remains" if os.path.lexists("/dev/sdk4") else "unknown",
    }


@pytest.fixture
def machine(tmp_path: Path) -> Roots:
    """The recorded machine; its /dev/sdb1 has tags, and udev knows that a copy of its label is on vdb."""
    roots = lay_out(tmp_path / "machine")
    data = roots.run / "udev/data"
    data.mkdir(parents=True)
    for disk in all_disks(roots):
        if disk.name == "sdb":
            (data / f"b{disk.partitions[0].number}").write_text(
                "E:ID_FS_LABEL_ENC=archive\nE:ID_PART_ENTRY_UUID=AB-01\nE:ID_PART_ENTRY_NAME=two\\x20words\n"
            )
        if disk.name in ("sda", "vdb"):
            (data / f"b{disk.number}").write_text(
                "E:ID_FS_LABEL_ENC=twice\nE:ID_PART_ENTRY_UUID=AB-02-" + disk.name
            )
    return roots


def keys_of(folder: Path, roots: Roots, device: str, label: str = "") -> list[tuple[str, str]]:
    """What a crypttab with one entry for `device` names for /dev/sdb1: how, and with which fate."""
    (folder / "etc").mkdir(exist_ok=True)
    (folder / "etc/key").write_bytes(b"k")
    (folder / "etc/crypttab").write_text(f"secret {device} /etc/key luks\n")
    found = from_crypttab([str(folder)], Sought(UUID, label, ["/dev/sdb1"]), roots)
    return [(one.what.partition(" named")[0], one.fate) for one in found]


OURS, PERHAPS = [("the key file", "remains")], [("perhaps the key file", "unknown")]


@pytest.mark.parametrize(
    ("device", "named"),
    [
        (f"UUID={UUID.upper()}", OURS),
        (f"/dev/disk/by-uuid/{UUID}", OURS),
        ("UUID=11111111-2222", []),
        ("LABEL=archive", OURS),
        ('LABEL="archive"', OURS),
        ("PARTUUID=ab-01", OURS),
        ("PARTUUID=ab-02-sda", []),
        ("PARTLABEL=two\\040words", OURS),
        ("LABEL=twice", PERHAPS),
        ("LABEL=gone", PERHAPS),
        ("ID=ata-disk", PERHAPS),
        ("/dev/disk/by-id/ata-gone-part1", PERHAPS),
        ("/dev/mapper/gone", PERHAPS),
        ("/dev/sda", PERHAPS),
    ],
)
def test_crypttab_by_any_name(tmp_path: Path, machine: Roots, device: str, named: object) -> None:
    assert keys_of(tmp_path, machine, device) == named


def test_crypttab_by_the_label_in_the_header(tmp_path: Path, machine: Roots) -> None:
    assert keys_of(tmp_path, machine, "LABEL=vault", label="vault") == OURS


def test_crypttab_by_a_file_with_the_header(tmp_path: Path) -> None:
    """A path that is no device belongs to the system of the table; what lies there is read for its UUID."""
    (tmp_path / "secret.img").write_bytes(recorded("luks2")[0])
    (tmp_path / "other.img").write_bytes(recorded("luks2-tokens")[0])
    assert keys_of(tmp_path, LIVE, "/secret.img") == OURS
    assert keys_of(tmp_path, LIVE, "/other.img") == []
    assert keys_of(tmp_path, LIVE, "/gone.img") == PERHAPS


def test_a_key_that_is_drawn_anew_each_time_is_no_copy(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/crypttab").write_text("swap /dev/sdz1 /dev/urandom swap\n")
    assert from_crypttab([str(tmp_path)], Sought(UUID, "", ["/dev/sdz1"])) == []


def test_headers_below_a_folder(tmp_path: Path) -> None:
    head, _ = recorded("luks2")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "first").write_bytes(head)
    (deep / "second").write_bytes(bytes(0x4000) + head[0x4000:])
    (deep / "other").write_bytes(recorded("luks2-tokens")[0])
    (deep / "text").write_text(UUID)
    (deep / "link").symlink_to(deep / "first")
    os.link(deep / "first", deep / "same")
    (tmp_path / "own").write_bytes(head)
    own = (tmp_path / "own").stat()
    found = header_copies(UUID, [str(tmp_path)], [(own.st_dev, own.st_ino)])
    assert [(one.where, one.what) for one in found] == [
        (str(deep / "first"), HEADER_COPY),
        (str(deep / "second"), HEADER_COPY),
    ]
    (blind,) = header_copies(UUID, [str(tmp_path / "gone")])
    assert blind.fate == "unknown"


@pytest.mark.parametrize("kind", ["fifo", "endless"])
def test_a_crypttab_that_is_no_file_is_named_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    """The root of another system is what somebody else made of it."""
    (tmp_path / "etc").mkdir()
    if kind == "fifo":
        os.mkfifo(tmp_path / "etc/crypttab")
    else:
        (tmp_path / "etc/crypttab").symlink_to("/dev/zero")
    (copy,) = from_crypttab([str(tmp_path)], Sought(UUID, "", []))
    assert (copy.where, copy.fate) == (str(tmp_path / "etc/crypttab"), "unknown")
    assert "no regular file" in copy.detail
