"""An order over a disk with a dead region, on the kernel's own path, killed with kill -9 while it steps over it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome, timestamp
from support.agents import Bench
from support.fuse_lab import FuseLab, why_not

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

MIB = 1 << 20
SIZE = 40 * MIB
DEAD = (4 * MIB + 512, 20 * MIB + 512)
OLD = b"\xa5"
PIECE = 256 * 1024
FINE = MIB
"""What 2048 blocks of 512 bytes are: the fine work of one run."""


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[FuseLab]:
    with FuseLab(tmp_path.resolve()) as lab:
        yield lab


def start(bench: Bench, digest: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "expunge_agent", "--state", str(bench.state.root), "run", digest]
    how = ["--checkpoint-seconds", "0.01", "--chunk", "256", "--stripes", "2", "--rate", "16M"]
    return subprocess.Popen([*command, *how], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def checkpoints(journal: Path) -> list[dict[str, Any]]:
    """The checkpoints in the whole lines of the journal."""
    if not journal.exists():
        return []
    records = [json.loads(line)["record"] for line in journal.read_bytes().split(b"\n")[:-1]]
    return [one["data"]["checkpoint"] for one in records if one["kind"] == "checkpoint"]


def killed_beyond(bench: Bench, digest: str, journal: Path, place: int, pause: float) -> bool:
    """Run until a checkpoint at `place` or beyond, and a moment more; False when it was over before."""
    process = start(bench, digest)
    try:
        while process.poll() is None:
            if any(int(one["durable"]) >= place for one in checkpoints(journal)):
                time.sleep(pause)
                process.kill()
                break
            time.sleep(0.005)
    finally:
        process.kill()
        _, complaint = process.communicate()
    assert b"Traceback" not in complaint, complaint.decode()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_in_a_dead_region_again_and_again_it_lists_what_failed(disks: FuseLab, tmp_path: Path) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    disk = disks.disk(OLD * SIZE)
    device = disk.loop()
    disk.set(bad_writes=[[*DEAD, "EIO", None]])
    bench = Bench.make(tmp_path / "agent")
    now = datetime.now(UTC)
    order = bench.order(
        Path(device), policy="zero", not_before=timestamp(now), expires=timestamp(now + timedelta(minutes=9))
    )
    digest = bench.hand_in(*bench.sign(order))
    journal = bench.state.order_folder(digest) / "journal.jsonl"
    kills, place = 0, DEAD[0] + FINE
    while (
        place < SIZE and kills < 4 and killed_beyond(bench, digest, journal, place, chance.uniform(0, 0.02))
    ):
        kills += 1
        place = int(checkpoints(journal)[-1]["durable"]) + FINE + PIECE
    process = start(bench, digest)
    _, complaint = process.communicate(timeout=120)
    assert b"Traceback" not in complaint, complaint.decode()
    receipt = bench.checked(Outbox(bench.state.root).get(1))
    assert kills >= 2, "the runs were over before they could be killed"
    assert len(receipt.interruptions) == kills
    assert (receipt.outcome, receipt.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    (only,) = receipt.targets[0].passes

    listed = sorted((int(one.range.start), int(one.range.start + one.range.length)) for one in only.errors)
    assert all(end <= start for (_, end), (start, _) in pairwise(listed)), "they overlap"
    lost = sum(end - start for start, end in listed)
    assert (int(only.error_bytes), int(only.bytes_written)) == (lost, SIZE - lost)
    first, last = listed[0][0], listed[-1][1]
    assert first == DEAD[0], "fine work comes first, and ends on the block"
    assert DEAD[1] <= last < DEAD[1] + PIECE, (
        "behind the dead region all is written but what shares its last piece"
    )
    assert lost == last - first, "what lies between is listed without a gap"
    assert disk.truth() == bytes(first) + OLD * lost + bytes(SIZE - last)
    assert any(f"{lost} of {SIZE} bytes (" in one for one in receipt.targets[0].exceptions)
    print(f"{kills} kills, taken up again at {[int(at) for at in only.resumed_at]}")
