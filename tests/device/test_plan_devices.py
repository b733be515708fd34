"""The plan on block devices made here, and which other devices of a drive it takes for being in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from expunge_agent.core.drive import Drive, NvmeNamespace
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.usage import Eyes

MIB = 1 << 20


def plan(tmp_path: Path, code: int, *args: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "expunge_agent", "--state", str(tmp_path / "state"), "plan", *args, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def why_not(told: dict[str, Any], technique: str) -> str:
    candidates = told["plans"][0]["selection"]["candidates"]
    return str(next(one["why_not"] for one in candidates if one["technique"] == technique))


def test_a_loop_device_is_overwritten_and_earns_clear(lab, tmp_path: Path) -> None:
    device = lab.loop()
    told = plan(tmp_path, 0, device)
    assert told["plans"][0]["selection"]["chosen"] == "overwrite"
    assert "kernel makes up" in why_not(told, "nvme-sanitize-crypto")
    refused = plan(tmp_path, 3, device, "--level", "purge")["plans"][0]["selection"]["chosen"]
    assert refused["reason"] == "level-not-achievable"
    assert "Take it apart" in refused["remedy"]


def test_a_partition_never_gets_a_command_of_the_whole_drive(lab, tmp_path: Path) -> None:
    part = lab.partition(lab.loop(), 1, MIB, 4 * MIB)
    told = plan(tmp_path, 3, part, "--level", "purge")
    assert "a partition" in why_not(told, "ata-sanitize-block")
    assert plan(tmp_path, 0, part)["plans"][0]["selection"]["chosen"] == "overwrite"


def test_what_is_open_elsewhere_is_blocked(lab, tmp_path: Path) -> None:
    device = lab.loop()
    fd = os.open(device, os.O_RDWR)
    try:
        told = plan(tmp_path, 3, device)
    finally:
        os.close(fd)
    assert [one["reason"] for one in told["plans"][0]["blocked"]] == ["in-use"]


def test_a_neighbour_that_is_mounted_or_open_is_in_use_and_an_idle_one_is_not(lab) -> None:
    """Loop devices stand in for namespaces: what counts here is the block device, not who made it."""
    own, idle, mounted = lab.loop(), lab.loop(), lab.loop()
    lab.mount(lab.ext4(mounted))
    names = [Path(device).name for device in (own, idle, mounted)]
    spaces = [NvmeNamespace(nsid=n, attached=True, node=name) for n, name in enumerate(names, 1)]
    spaces.append(NvmeNamespace(nsid=9, attached=False))
    drive = Drive(protocol="nvme", nsid=1, namespaces=spaces)
    scope = scope_of(drive, own, [own, idle], Eyes.open())
    assert scope.ordered == frozenset(names[:2])
    assert set(scope.in_use) == {names[2]}
    assert "mounted" in scope.in_use[names[2]]
    assert scope_of(None, own, [own], Eyes.open()).in_use == {}


def test_a_drive_beside_its_own_partition_is_refused(lab, tmp_path: Path) -> None:
    device = lab.loop()
    part = lab.partition(device, 1, MIB, 4 * MIB)
    image = Path(Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text().strip())
    before = image.read_bytes()
    told = plan(tmp_path, 3, device, part)["plans"]
    assert [[one["reason"] for one in target["blocked"]] for target in told] == [[], ["overlapping-targets"]]
    assert told[1]["blocked"][0]["detail"] == f"Target 2 ({part}) lies on target 1 ({device})."
    plan(tmp_path, 0, part)
    agent = [sys.executable, "-m", "expunge_agent", "--state", str(tmp_path / "state")]
    done = subprocess.run(
        [*agent, "wipe", part, device, "--profile", "zero", "--yes"],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 3, done.stdout + done.stderr
    assert f"Target 2 ({device}) holds target 1 ({part})." in done.stderr
    assert "Receipt 1 says so." in done.stderr
    assert image.read_bytes() == before
