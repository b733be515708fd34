"""Holding a block device open: exclusively, locked, and noticing when it changes or goes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from expunge_agent.core.medium import Medium
from expunge_agent.devices import opening
from expunge_agent.devices.look import look
from expunge_agent.devices.opening import TargetRefused, identity_of, open_target
from expunge_agent.devices.patience import PATIENCE
from expunge_agent.devices.roots import Roots
from expunge_agent.protocol.receipt import Reason

MIB = 1 << 20


def medium_at(path: str | Path) -> Medium:
    medium = look(path).medium
    assert medium is not None
    return medium


def test_a_device_is_opened_as_what_it_is(lab) -> None:
    device = lab.loop(None, "--sector-size", "4096")
    medium = medium_at(device)
    with open_target(device, medium.identity, write=True) as opened:
        assert opened.identity == opened.identity_now() == medium.identity == identity_of(opened.fd, device)
        assert (opened.size, opened.logical_sector, opened.physical_sector) == (16 * MIB, 4096, 4096)
        os.pwrite(opened.fd, b"y" * 4096, 0)
        direct = os.open(f"/proc/self/fd/{opened.fd}", os.O_RDWR | os.O_DIRECT)  # as the engine does
        os.close(direct)
        opened.recheck()


def test_two_orders_on_one_device(lab) -> None:
    device = lab.loop()
    identity = medium_at(device).identity
    with open_target(device, identity, write=True):
        for write in (True, False):
            with pytest.raises(TargetRefused) as caught:
                open_target(device, identity, write=write).close()
            assert caught.value.refusal.reason is Reason.IN_USE
    open_target(device, identity, write=True).close()


def test_a_glance_at_the_device_does_not_end_in_a_refusal(lab) -> None:
    """As udev, blkid and losetup do: somebody claims it, or only has it open, and lets go."""
    device = lab.loop()
    identity = medium_at(device).identity
    for flags in ("os.O_EXCL", "0"):
        glance = lab.helper(
            f"import os,sys,time; fd=os.open(sys.argv[1], os.O_RDONLY | {flags});"
            "print(flush=True); time.sleep(0.5); os.close(fd); sys.stdin.read()",
            device,
        )
        open_target(device, identity, write=True).close()
        assert glance.poll() is None


LOOKS_FOR = (
    "import os,sys,time; fd=os.open(sys.argv[1], os.O_RDONLY);"
    "print(flush=True); time.sleep(float(sys.argv[2])); os.close(fd); sys.stdin.read()"
)


def test_whoever_has_the_claim_waits_for_another_order_that_only_looks(lab) -> None:
    """An order asks a slow drive what it is; the other, which has the claim already, is not refused for it."""
    device = lab.loop()
    identity = medium_at(device).identity
    lab.helper(LOOKS_FOR, device, str(PATIENCE + 1))
    with open_target(device, identity, write=True) as opened:
        lab.helper(LOOKS_FOR, device, str(PATIENCE + 1))
        opened.recheck()


def test_whoever_keeps_it_open_is_in_the_way_of_a_claim(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "CLAIMED_PATIENCE", 0.3)
    device = lab.loop()
    lab.helper(LOOKS_FOR, device, "60")
    with pytest.raises(TargetRefused) as caught:
        open_target(device, medium_at(device).identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IN_USE


def test_nobody_can_mount_what_is_being_wiped(lab) -> None:
    device = lab.ext4(lab.loop())
    with open_target(device, medium_at(device).identity, write=True):
        assert subprocess.run(["mount", device, "/mnt"], check=False, capture_output=True).returncode != 0


def test_a_lock_without_a_claim_is_respected(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_LOCK_PATIENCE", 0.1)
    device = lab.loop()
    lab.helper(
        "import fcntl,os,sys; fd=os.open(sys.argv[1], os.O_RDONLY); fcntl.flock(fd, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.read()",
        device,
    )
    with pytest.raises(TargetRefused) as caught:
        open_target(device, medium_at(device).identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IN_USE


def test_a_device_that_shrinks_while_open(lab) -> None:
    image = lab.image()
    device = lab.loop(image)
    with open_target(device, medium_at(device).identity, write=True) as opened:
        os.truncate(image, 8 * MIB)
        subprocess.run(["losetup", "--set-capacity", device], check=True)
        with pytest.raises(TargetRefused) as caught:
            opened.recheck()
        assert caught.value.refusal.reason is Reason.IDENTITY_MISMATCH
        assert f"found {8 * MIB}" in caught.value.refusal.detail


def test_a_memory_disk_that_is_reset_is_another(lab) -> None:
    device = lab.zram()
    identity = medium_at(device).identity
    Path(f"/sys/block/{Path(device).name}/reset").write_text("1")
    Path(f"/sys/block/{Path(device).name}/disksize").write_text(str(8 * MIB))
    with pytest.raises(TargetRefused) as caught:
        open_target(device, identity, write=True).close()
    assert caught.value.refusal.reason is Reason.IDENTITY_MISMATCH


def test_a_device_that_left_sysfs_has_gone(lab, tmp_path: Path) -> None:
    device = lab.loop()
    with open_target(device, medium_at(device).identity, write=True) as opened:
        with pytest.raises(TargetRefused) as caught:
            identity_of(opened.fd, device, Roots(sys=tmp_path))
        assert caught.value.refusal.reason is Reason.TARGET_NOT_FOUND


def test_another_device_under_the_same_number_is_not_ours(lab, tmp_path: Path) -> None:
    device = lab.loop()
    real = Path(f"/sys/block/{Path(device).name}")
    number = (real / "dev").read_text().strip()
    copy = tmp_path / "devices/virtual/block" / real.name
    copy.mkdir(parents=True)
    for name in ("dev", "size"):
        (copy / name).write_text((real / name).read_text())
    (copy / "diskseq").write_text(str(int((real / "diskseq").read_text()) + 1))
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block" / number).symlink_to(copy)
    with open_target(device, medium_at(device).identity, write=True) as opened:
        with pytest.raises(TargetRefused) as caught:
            identity_of(opened.fd, device, Roots(sys=tmp_path))
        assert caught.value.refusal.reason is Reason.TARGET_NOT_FOUND
        assert "another device" in caught.value.refusal.detail
