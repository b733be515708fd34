"""Free space of real file systems: what was deleted is gone from the raw device, or the receipt names what is left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from expunge_agent.core.guard import SystemPaths
from expunge_agent.devices.space import look_at_space
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceWish, Target
from expunge_agent.protocol.receipt import Reason, TargetResult
from support.agents import Bench

MIB = 1 << 20
RECORD = b"RECORD-OF-A-CUSTOMER-%08d;"
MARK = b"RECORD-OF-A-CUSTOMER-"
SIZES = {"ext4": 96, "xfs": 320, "btrfs": 160}


def plant(mount: Path) -> None:
    """Large and small files full of records, then deleted plainly."""
    big = b"".join(RECORD % number for number in range(8 * MIB // len(RECORD % 0)))
    for number in range(3):
        (mount / f"big{number}").write_bytes(big)
    for number in range(200):
        (mount / f"small{number}").write_bytes((RECORD % number) * 20)
    os.sync()
    for path in [*mount.glob("big*"), *mount.glob("small*")]:
        path.unlink()
    os.sync()


def space_target(mount: Path, **wish: object) -> Target:
    seen = look_at_space(str(mount), SystemPaths())
    assert not hasattr(seen, "reason"), seen
    return Target(identity=seen.identity, hint=str(mount), space=SpaceWish(**wish))


def filled(tmp_path: Path, mount: Path, policy: str = "random-verified", **wish: object) -> TargetResult:
    bench = Bench.make(tmp_path / "state")
    order = bench.order(policy=policy, targets=[space_target(mount, **wish)])
    (result,) = bench.run(order).targets
    return result


def marks(image: Path) -> list[int]:
    """Where a record begins in the raw image."""
    data, found, at = image.read_bytes(), [], -1
    while (at := data.find(MARK, at + 1)) >= 0:
        found.append(at)
    return found


@pytest.mark.parametrize("kind", SIZES)
def test_what_was_deleted_is_gone_from_the_device(lab, tmp_path: Path, kind: str) -> None:
    image, mount = lab.formatted(kind, *(["-F"] if kind == "ext4" else []), size=SIZES[kind] * MIB)
    plant(mount)
    (mount / "keep").write_bytes(b"stays" * 1000)
    os.sync()
    assert len(marks(image)) > 100_000
    result = filled(tmp_path, mount, reserve=U64(0))
    print(result.outcome, result.failure, result.exceptions, result.refusal, result.space)
    assert (mount / "keep").read_bytes() == b"stays" * 1000
    assert [path.name for path in mount.iterdir() if path.name.startswith(".")] == []
    lab.unmount(mount)
    left = marks(image)
    print(kind, len(left), left[:5])
