"""What a device may be called by, on the recorded machine and on a folder that stands for /dev."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.devices.aliases import resolve
from expunge_agent.devices.nodes import Node, all_disks
from expunge_agent.devices.roots import Roots
from expunge_agent.devices.udev import array_name, plain
from expunge_agent.errors import NotFoundError, RefusedError
from support.recorded import lay_out


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return lay_out(tmp_path)


def disk(roots: Roots, name: str) -> Node:
    return next(one for one in all_disks(roots) if one.name == name)


def known(roots: Roots, node: Node, *lines: str) -> None:
    """Let udev's database say this of the device."""
    folder = roots.run / "udev/data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"b{node.number}").write_text("".join(f"E:{line}\n" for line in lines))


def test_a_tag_leads_to_its_device(roots: Roots) -> None:
    part = disk(roots, "sdb").partitions[0]
    known(
        roots,
        part,
        "ID_FS_UUID=2c4fdb5e-6b4e-4a6a",
        "ID_FS_LABEL_ENC=two\\x20words",
        "ID_PART_ENTRY_UUID=AB-01",
    )
    for text in ("UUID=2c4fdb5e-6b4e-4a6a", "UUID=2C4FDB5E-6B4E-4A6A", "LABEL=two words", 'PARTUUID="ab-01"'):
        assert resolve(text, roots) == "/dev/sdb1"


@pytest.mark.parametrize("text", ["UUID=", "UUID=none", "LABEL=two\\x20words", "PARTLABEL=x"])
def test_a_tag_that_no_device_has(roots: Roots, text: str) -> None:
    known(roots, disk(roots, "sdb"), "ID_FS_UUID=2c4f", "ID_FS_LABEL_ENC=two\\x20words")
    with pytest.raises(NotFoundError):
        resolve(text, roots)


def test_a_tag_that_a_copy_has_too_is_refused(roots: Roots) -> None:
    for name in ("sda", "vdb"):
        known(roots, disk(roots, name), "ID_FS_UUID=2c4f")
    with pytest.raises(RefusedError) as caught:
        resolve("UUID=2c4f", roots)
    assert "/dev/sda, /dev/vdb" in caught.value.message


@pytest.mark.parametrize("text", ["/dev/sda", "relative", "/tmp/a=b", "TYPE=ext4", "uuid=2c4f", "", "UUID"])
def test_all_else_stays_as_it_is(roots: Roots, text: str) -> None:
    assert resolve(text, roots) == text


def test_a_link_that_is_none_of_a_devices_own_names_is_not_followed(roots: Roots, tmp_path: Path) -> None:
    """The guard then refuses it: links in a folder that stands for /dev, to nothing that is a device."""
    dev = tmp_path / "devices"
    (dev / "disk/by-id").mkdir(parents=True)
    (dev / "disk/by-id/x").symlink_to("../../file")
    (dev / "file").write_bytes(b"data")
    (dev / "vg").mkdir()
    (dev / "vg/lv").symlink_to("/etc/hostname")
    here = Roots(sys=roots.sys, proc=roots.proc, dev=dev, etc=roots.etc, run=roots.run)
    for name in ("disk/by-id/x", "vg/lv", "disk/by-id/../by-id/x", "gone"):
        assert resolve(f"{dev}/{name}", here) == f"{dev}/{name}"


def test_the_name_of_an_array(roots: Roots) -> None:
    md = disk(roots, "md0")
    assert array_name(md) == ""
    known(roots, md, "MD_LEVEL=raid1", "MD_NAME=lab\\x3astore")
    assert array_name(md) == "lab:store"
    assert plain("a\\x0ab") == "a\\x0ab", "a control character stays written out"
