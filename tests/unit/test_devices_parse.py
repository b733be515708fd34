"""Reading the kernel's tables: escapes, odd bytes, cut pages, keys, the clock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.devices import host, vpd
from expunge_agent.devices.mounts import parse_mountinfo, swaps, unescape
from expunge_agent.devices.roots import Roots, clean, read_bytes, read_int, read_text

LINE = b"36 35 98:0 /mnt1 /mnt/parent\\040dir rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


def test_a_line_of_the_manual_page_is_read() -> None:
    (mount,) = parse_mountinfo(LINE + b"\n")
    assert (mount.number, mount.root, mount.point) == ("98:0", "/mnt1", "/mnt/parent dir")
    assert (mount.fstype, mount.source, mount.options) == ("ext3", "/dev/root", "rw,errors=continue")


def test_optional_fields_may_be_missing_or_many() -> None:
    none = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw"
    many = b"1 0 8:1 / / rw shared:1 master:2 unbindable - ext4 /dev/sda1 rw"
    assert [mount.point for mount in parse_mountinfo(none + b"\n" + many)] == ["/", "/"]


def test_garbage_is_passed_over() -> None:
    assert parse_mountinfo(b"\n - \nx y z\n1 2 3 4 5 6 - \n") == []


@given(st.text(alphabet=st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1))
def test_every_mount_point_survives_the_kernels_escapes(name: str) -> None:
    raw = os.fsencode(name)
    for byte in b"\\ \t\n#":  # fs/proc_namespace.c mangle(), the backslash first
        raw = raw.replace(bytes([byte]), b"\\%03o" % byte) if byte != 0x5C else raw.replace(b"\\", b"\\134")
    assert unescape(raw) == name


def test_a_name_that_is_no_utf8_keeps_its_bytes() -> None:
    (mount,) = parse_mountinfo(b"1 0 8:1 / /mnt/\xff\\012x rw - ext4 /dev/sda1 rw")
    assert os.fsencode(mount.point) == b"/mnt/\xff\nx"


def test_file_systems_name_further_devices_in_their_options() -> None:
    (mount,) = parse_mountinfo(b"1 0 8:1 / /m rw - xfs /dev/sda1 rw,logdev=/dev/sdb1,rtdev=/dev/sdc,attr2")
    assert mount.sources() == ["/dev/sda1", "/dev/sda1", "/dev/sdb1", "/dev/sdc"]
    (several,) = parse_mountinfo(b"1 0 0:1 / /m rw - bcachefs /dev/sda:/dev/sdb rw")
    assert several.sources()[1:] == ["/dev/sda", "/dev/sdb"]
    (remote,) = parse_mountinfo(b"1 0 0:1 / /m rw - nfs server:/export rw")
    assert remote.sources() == []


def test_swap_areas_with_blanks(tmp_path: Path) -> None:
    (tmp_path / "swaps").write_bytes(
        b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/srv/my\\040swap file 1 0 -2\n/dev/sda2 partition 1 0 -3\n"
    )
    assert swaps(Roots(proc=tmp_path)) == ["/srv/my swap", "/dev/sda2"]


def test_attributes_are_cleaned_the_same_way_every_time(tmp_path: Path) -> None:
    attribute = tmp_path / "serial"
    attribute.write_bytes(b"  S1\xff\x01 2  \0\0\n")
    assert read_text(attribute) == "S1\\xff\\x01 2"
    assert read_text(tmp_path / "missing") == ""
    assert read_bytes(tmp_path) == b""
    attribute.write_bytes(b"x" * 200_001)  # more than one read(2) gives
    assert read_bytes(attribute) == b"x" * 200_001
    assert read_int(attribute) == -1
    assert read_int(tmp_path / "missing", 7) == 7


@given(st.binary(max_size=300))
def test_whatever_a_drive_says_can_be_written_into_a_document(raw: bytes) -> None:
    text = clean(raw)
    assert text.isprintable()
    assert text.isascii()
    assert len(text) <= 1000


@given(st.binary(max_size=300))
def test_no_page_however_broken_breaks_the_reader(page: bytes) -> None:
    vpd.unit_serial(page)
    vpd.ata_names(page)
    vpd.rotation_rate(page)


def test_a_cut_page_says_nothing() -> None:
    assert vpd.unit_serial(b"\0\x80\0") == ""
    assert vpd.unit_serial(b"\0\x83\0\x04ABCD") == ""
    assert vpd.rotation_rate(b"\0\xb1\0\x3c\x1c") is None


def test_the_machines_id_is_not_given_away(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    derived = host.machine_id(Roots(etc=tmp_path))
    # printf expunge | openssl dgst -sha256 -mac HMAC -macopt hexkey:0123456789abcdef0123456789abcdef
    assert derived == "4f2f65924c220521ff0be41999b694da82e7d9f5096cca408f727ccea159dcb9"
    (tmp_path / "machine-id").write_text("uninitialized\n")
    assert host.machine_id(Roots(etc=tmp_path)) == ""


def test_host_keys_are_shown_as_ssh_keygen_shows_them(tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh/ssh_host_ed25519_key.pub").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINHakcmL3SMiQzNIgTnqh2/uL/HxXO2gTZJb7v0FT1DL root@host\n"
    )
    (tmp_path / "ssh/ssh_host_rsa_key.pub").write_text("ssh-rsa !!!\n")
    (tmp_path / "ssh/ssh_host_ecdsa_key.pub").write_text("\n")
    assert host.ssh_host_keys(Roots(etc=tmp_path)) == [
        "ssh-ed25519 SHA256:8QDu0MyqpGcxTs9CDpcHv/3OmgmRxgIWh4HLIYiPf28"
    ]


def test_this_machine_answers() -> None:
    assert len(host.boot_id()) == 36
    assert host.hostname()
    assert host.kernel().startswith("Linux ")
    assert host.clock() in ("synchronized", "unsynchronized", "unknown")


@pytest.mark.parametrize("marked", [True, False])
def test_timesyncds_mark_counts(tmp_path: Path, marked: bool) -> None:
    if marked:
        (tmp_path / "systemd/timesync").mkdir(parents=True)
        (tmp_path / "systemd/timesync/synchronized").touch()
    assert host.clock(Roots(run=tmp_path, sys=tmp_path)) == ("synchronized" if marked else "unknown")
