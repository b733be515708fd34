"""Power cuts and pulled disks in the middle of an overwrite. Each test has a guest of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.disks import MIB, Backing, Namespace, Nvme, Sata, Scsi, Usb
from lab.guest import Guest
from lab.orders import receipts
from lab.report import Report


def test_a_power_cut_costs_no_fact(power: Callable[..., Guest], tmp_path: Path, lab_report: Report) -> None:
    backing = Backing.make(tmp_path, "cut", 64 * MIB)
    backing.fill()
    guest = power(Sata("cut", backing, "CUTSERIAL"))
    node = guest.node("CUTSERIAL")
    pid = guest.spawn(
        f"expunge-agent wipe {node} --profile nist-clear --yes --json --rate 6M --checkpoint-seconds 0.5"
    )
    _until_left(guest, pid, backing, 64 * MIB // 512 * 3 // 4)
    guest.kill()
    left = len(backing.remains())
    assert 0 < left < 64 * MIB // 512
    guest.boot()
    done = guest.run("expunge-agent run --pending --json", timeout=300)
    (ended,) = (json.loads(line) for line in done.out.splitlines())
    lab_report.row(
        "overwrite (nist-clear)",
        "sata",
        "",
        ended["outcome"],
        f"power cut with {left} sectors left, then {len(backing.remains())}",
    )
    assert (ended["outcome"], backing.remains(), backing.nonzero()) == ("sanitized", [], 0)
    (receipt,) = receipts(guest)
    assert receipt["interruptions"] or receipt["targets"][0]["passes"][0]["resumed_at"]
    assert receipt["targets"][0]["passes"][0]["resumed_at"] != ["0"]
    again = guest.run("expunge-agent run --pending --json").ok()
    assert again.out == ""


@pytest.mark.parametrize("kind", ["nvme", "scsi", "usb"])
def test_a_disk_that_is_pulled_is_never_called_erased(
    power: Callable[..., Guest], tmp_path: Path, lab_report: Report, kind: str
) -> None:
    backing = Backing.make(tmp_path, kind, 64 * MIB)
    backing.fill()
    disk = {
        "nvme": Nvme("gone", (Namespace(1, backing),), "GONESERIAL"),
        "scsi": Scsi("gone", backing, "GONESERIAL"),
        "usb": Usb("gone", backing, "GONESERIAL"),
    }[kind]
    guest = power(disk)
    node = guest.node("GONESERIAL")
    pid = guest.spawn(f"expunge-agent wipe {node} --profile nist-clear --yes --json --rate 6M --absence 3")
    _until_left(guest, pid, backing, 64 * MIB // 512 * 7 // 8)
    guest.unplug("gone")
    _wait_for(lambda: not guest.alive(pid), "the agent has ended")
    left = len(backing.remains())
    assert left > 0, guest.run("cat /run/spawn.log").out
    (receipt,) = receipts(guest)
    lab_report.row(
        "overwrite (nist-clear)", kind, "pulled on the way", receipt["outcome"], f"{left} sectors left"
    )
    assert receipt["outcome"] in ("failed", "unknown")
    assert receipt["level_achieved"] == "none"


def _until_left(guest: Guest, pid: int, backing: Backing, sectors: int) -> None:
    """Wait until less than this is left of the disk; fail in the agent's words if it ended before."""

    def enough() -> bool:
        assert guest.alive(pid), f"the agent ended: {guest.run('tail -c 2000 /run/spawn.log').out}"
        return len(backing.remains()) < sectors

    _wait_for(enough, f"fewer than {sectors} sectors left")


def _wait_for(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.3)
