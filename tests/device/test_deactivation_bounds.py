"""What does not stand on a target stays, and what forbids taking things down is known before the first step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent import deactivating, shredding
from expunge_agent.core.deactivation import Step
from expunge_agent.core.guard import SystemPaths
from expunge_agent.deactivating import taking_of
from expunge_agent.devices import deactivate
from expunge_agent.devices.look import look
from expunge_agent.outbox import Outbox
from expunge_agent.preparing import Preparation
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import Reason, Receipt, parse_statement
from support.agents import Bench, Crash

MIB = 1 << 20


def made(path: Path) -> Path:
    path.mkdir()
    return path


def run(bench: Bench, device: str, **more: object) -> Receipt:
    return bench.run(bench.order(Path(device), policy="nist-clear", deactivate=True, **more))


def refused(bench: Bench, device: str, reason: Reason, *words: str) -> None:
    """The order is refused for `reason`, and nothing was taken down."""
    (target,) = run(bench, device).targets
    assert target.refusal is not None, target
    assert (target.outcome, target.refusal.reason, target.deactivated) == (Outcome.REFUSED, reason, [])
    for word in words:
        assert word in target.refusal.detail


def test_a_foreign_file_system_over_the_targets_own_stays(lab: Any, bench: Bench) -> None:
    target, foreign = lab.ext4(lab.loop()), lab.ext4(lab.loop())
    point = lab.mount(target)
    lab.mount(foreign, at=point)
    (point / "image").write_bytes(bytes(MIB))
    loop = lab.loop(point / "image")
    refused(bench, target, Reason.MOUNTED, "hidden by another file system", str(point))
    assert Path(f"/sys/block/{Path(loop).name}/loop").exists()
    assert os.stat(point).st_dev == os.stat(foreign).st_rdev
    lab.detach(loop)
    (one,) = run(bench, foreign).targets
    assert [(step.on, step.ended) for step in one.deactivated] == [(str(point), "done")]
    assert os.stat(point).st_dev == os.stat(target).st_rdev


def test_a_third_one_where_the_targets_own_is_hidden_stays(lab: Any, bench: Bench) -> None:
    target, over, third = (lab.ext4(lab.loop()) for _ in range(3))
    outer = made(lab.name("outer"))
    inner = lab.mount(target, at=made(outer / "x"))
    lab.mount(over, at=outer)
    lab.mount(third, at=made(outer / "x"))
    refused(bench, target, Reason.MOUNTED, "hidden by another", str(outer))
    assert os.stat(inner).st_dev == os.stat(third).st_rdev
    lab.unmount(inner)
    lab.unmount(outer)


def test_what_hides_each_other_and_is_the_targets_goes_in_its_order(lab: Any, bench: Bench) -> None:
    disk = lab.loop(size=24 * MIB)
    first = lab.ext4(lab.partition(disk, 1, MIB, 8 * MIB))
    second = lab.ext4(lab.partition(disk, 2, 10 * MIB, 8 * MIB))
    outer = made(lab.name("outer"))
    lab.mount(first, at=made(outer / "x"))
    lab.mount(second, at=outer)
    (one,) = run(bench, disk).targets
    assert one.outcome is Outcome.SANITIZED, one.refusal
    assert [step.on for step in one.deactivated] == [str(outer), str(outer / "x")]


def test_what_was_mounted_over_it_since_the_plan_stays(lab: Any) -> None:
    target, foreign = lab.ext4(lab.loop()), lab.ext4(lab.loop())
    point = lab.mount(target)
    (step,) = taking_of(target, SystemPaths(), frozenset()).steps
    lab.mount(foreign, at=point)
    assert "another file system is mounted over it" in deactivate.take_down(step)
    assert os.stat(point).st_dev == os.stat(foreign).st_rdev
    lab.unmount(point)
    assert deactivate.take_down(step) == ""
    assert "not mounted there any more" in deactivate.take_down(step)


@contextmanager
def namespace(propagation: str) -> Iterator[None]:
    """Another mount namespace, with copies of all mounts."""
    command = ["unshare", "-m", "--propagation", propagation, "sh", "-c", "echo up && read x"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        yield
    finally:
        process.communicate(b"\n", timeout=20)


def test_a_private_copy_of_a_mount_is_named_and_one_that_follows_is_not(lab: Any, bench: Bench) -> None:
    base = made(lab.name("base"))
    lab.mount("none", "-t", "tmpfs", at=base)
    subprocess.run(["mount", "--make-private", str(base)], check=True)
    subprocess.run(["mount", "--make-shared", str(base)], check=True)
    device = lab.ext4(lab.loop())
    point = lab.mount(device, at=made(base / "m"))
    with namespace("private"):
        refused(bench, device, Reason.MOUNTED, "in the mount namespace of process")
        assert os.path.ismount(point)
    with namespace("slave"):
        assert run(bench, device).outcome is Outcome.SANITIZED
    assert not os.path.ismount(point)


def test_what_uses_the_data_below_a_loop_device_is_known_first(lab: Any, bench: Bench) -> None:
    below = lab.ext4(lab.loop())
    lab.mount(below)
    target = lab.loop(below)
    above = lab.loop(target)
    refused(bench, target, Reason.MOUNTED, "is mounted on")
    assert Path(f"/sys/block/{Path(above).name}/loop").exists()


def test_a_file_with_two_loop_devices(lab: Any, bench: Bench) -> None:
    image = lab.image()
    target = lab.ext4(lab.loop(image))
    point = lab.mount(target)
    second = lab.loop(image)
    refused(bench, target, Reason.HELD, second)
    assert os.path.ismount(point)


def test_an_overlay_keeps_what_it_uses(lab: Any, bench: Bench, tmp_path: Path) -> None:
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    lower, merged = made(tmp_path / "lower"), made(tmp_path / "merged")
    options = f"lowerdir={lower},upperdir={made(point / 'up')},workdir={made(point / 'work')}"
    done = subprocess.run(["mount", "-t", "overlay", "x", "-o", options, str(merged)], capture_output=True)
    if done.returncode:
        pytest.skip("needs overlayfs")
    try:
        refused(bench, device, Reason.MOUNTED, f"file system on {point}: {merged}")
        assert os.path.ismount(point)
        taking = taking_of(device, SystemPaths(mounts=(str(merged),)), frozenset())
        assert taking.refusals[0].reason is Reason.SYSTEM
        lab.unmount(point)  # now nothing but an exclusive open shows that it is in use
        found = taking_of(device, SystemPaths(mounts=()), frozenset())
        assert [one.reason for one in found.refusals] == [Reason.IN_USE]
        assert "held by something" in found.refusals[0].detail
    finally:
        subprocess.run(["umount", str(merged)], check=True)


def test_a_refusal_of_the_plan_leaves_a_receipt(lab: Any, tmp_path: Path) -> None:
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    lab.helper("import os, sys; os.chdir(sys.argv[1]); print('in', flush=True); sys.stdin.read()", str(point))
    command = ["expunge_agent", "--state", str(tmp_path / "cli"), "wipe", device, "--profile", "nist-clear"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command, "--deactivate", "--yes"], capture_output=True, text=True
    )
    assert done.returncode == 3
    assert "Receipt 1 says so" in done.stderr
    statement = parse_statement(Outbox(tmp_path / "cli").get(1).body)
    refusal = statement.predicate.refusal
    assert refusal is not None and refusal.reason is Reason.IN_USE


def test_a_step_is_settled_when_another_medium_is_there_by_then(
    lab: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    order = bench.order(Path(device), policy="nist-clear", deactivate=True)
    real = deactivating.take_down

    def dies(step: Step) -> str:
        real(step)
        raise Crash

    monkeypatch.setattr("expunge_agent.deactivating.take_down", dies)
    with pytest.raises(Crash):
        bench.run(order)
    assert not os.path.ismount(point)
    lab.detach(device)
    subprocess.run(["losetup", device, str(lab.image())], check=True)
    (target,) = bench.run(order).targets
    assert target.outcome is Outcome.REFUSED
    assert [(step.what, step.ended) for step in target.deactivated] == [("unmount", "gone")]


def luks(device: str) -> None:
    """A LUKS header on `device`."""
    if shutil.which("cryptsetup") is None:
        pytest.skip("needs cryptsetup")
    words = ["luksFormat", "-q", "--type", "luks1", "--pbkdf-force-iterations", "1000", device, "-"]
    subprocess.run(["cryptsetup", *words], input=b"pw", capture_output=True, check=True)


def test_a_mapping_that_is_going_to_be_closed_does_not_keep_the_key(
    lab: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop device stands for the mapping: this kernel may have no device mapper."""
    device = lab.loop()
    luks(device)
    above = lab.loop(device)
    folder, elsewhere = Path(f"/sys/block/{Path(above).name}/loop"), ["dm-77 (elsewhere)"]

    def holding(uuid: str, numbers: object) -> list[str]:
        return elsewhere + ([f"{Path(above).name} (secret)"] if folder.exists() else [])

    monkeypatch.setattr(shredding, "holding", holding)
    order = {"policy": "luks-crypto-erase", "allow_downgrade": True, "deactivate": True}
    (kept,) = bench.run(bench.order(Path(device), **order)).targets
    assert kept.refusal is not None and "in use by dm-77 (elsewhere)." in kept.refusal.detail.replace(
        ":", "."
    )
    assert (kept.refusal.reason, kept.deactivated) == (Reason.HELD, [])
    elsewhere.clear()
    (target,) = bench.run(bench.order(Path(device), **order)).targets
    assert target.refusal is None
    assert [(step.what, step.ended) for step in target.deactivated] == [("detach-loop", "done")]


def test_a_detached_header_in_use_is_known_first(lab: Any, bench: Bench, tmp_path: Path) -> None:
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    header = tmp_path / "header"
    header.write_bytes(bytes(2 * MIB))
    loop = lab.loop(header)
    luks(loop)
    medium = look(header).medium
    assert medium is not None and isinstance(medium.identity, FileIdentity)
    wish = KeyWish(header=medium.identity)
    order = bench.order(
        Path(device), policy="luks-crypto-erase", allow_downgrade=True, deactivate=True, keys=wish
    )
    (target,) = bench.run(order).targets
    assert target.refusal is not None and loop in target.refusal.detail
    assert target.deactivated == []
    assert os.path.ismount(point)


def test_a_target_that_shows_what_it_hid_is_freed_all_the_same(
    lab: Any, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a resume after a hidden area was given back: the plan knows the size it grows to."""
    device = lab.ext4(lab.loop())
    point = lab.mount(device)
    medium = look(device).medium
    assert medium is not None
    monkeypatch.setattr(Preparation, "grows_to", property(lambda _: medium.size))
    ordered = replace(medium.identity, size=U64(medium.size - MIB))
    order = bench.order(policy="nist-clear", targets=[Target(identity=ordered, hint=device)], deactivate=True)
    (target,) = bench.run(order).targets
    assert [(step.what, step.ended) for step in target.deactivated] == [("unmount", "done")], target.refusal
    assert not os.path.ismount(point)
