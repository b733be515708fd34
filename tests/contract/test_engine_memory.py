"""Memory of the whole program while it works: as large as before the first pass, whatever the method."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge_agent.protocol.base import timestamp
from support.agents import Bench

MB = 1_000_000
GOAL = 64 * MB
SIZE = 24 * MB
OFTEN = ("--checkpoint-seconds", "0.01")
PEAK = """
import sys
from expunge_agent.cli import main
try:
    main()
finally:
    line = next(one for one in open("/proc/self/status") if one.startswith("VmHWM"))
    print("PEAK", int(line.split()[1]) * 1024, file=sys.stderr)
"""


def peak_of(bench: Bench, digest: str) -> int:
    """Bytes in memory at the most while a process of its own carries out the order."""
    run = subprocess.run(
        [sys.executable, "-c", PEAK, "--state", str(bench.state.root), "run", digest, *OFTEN],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert bench.state.receipt_number(digest) == 1, run.stderr
    return int(run.stderr.rpartition("PEAK")[2])


@pytest.mark.parametrize("policy", ["gutmann", "bsi-vsitr", "random-verified"])
def test_a_method_of_many_passes_needs_no_more_memory_than_the_goal(tmp_path: Path, policy: str) -> None:
    bench = Bench.make(tmp_path / "state")
    image = tmp_path / "disk.img"
    image.write_bytes(b"old data" * (SIZE // 8))
    now = datetime.now(UTC)
    order = bench.order(
        image, policy=policy, not_before=timestamp(now), expires=timestamp(now + timedelta(minutes=9))
    )
    digest = bench.hand_in(*bench.sign(order))
    peak = peak_of(bench, digest)
    print(f"{policy}: {peak / MB:.1f} MB")
    assert peak < GOAL
