"""kill -9 at random moments of an order for files: none is called sanitized that was not, and a rerun completes."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Outcome, timestamp
from support.agents import Bench
from support.trees import MARK, files_of, record, tree

KILLS = 100
FILES = 60


def start(bench: Bench, digest: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "expunge_agent", "--state", str(bench.state.root), "run", digest]
    return subprocess.Popen(
        [*command, "--checkpoint-seconds", "0.01"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def fill(folder: Path) -> dict[Path, int]:
    """Files whose descriptors stay open, so that their contents can be looked at when the names are gone."""
    held = {}
    for number in range(FILES):
        path = folder / f"{number % 7}" / f"{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record(path.name, 9_000_000 if number == 30 else 100 * number))
        held[path] = path.stat().st_ino
    os.sync()
    return held


def still_marked(folder: Path) -> set[int]:
    """Inodes of the files below `folder` that hold a record."""
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file() and MARK in path.read_bytes()}


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    bench = Bench.make(tmp_path / "state")
    killed = orders = resumed = 0
    while killed < KILLS:
        folder = tmp_path / f"tree{orders}"
        held = fill(folder)
        now = datetime.now(UTC)
        times = {"not_before": timestamp(now), "expires": timestamp(now + timedelta(minutes=30))}
        order = bench.order(policy="random-verified", targets=[tree(folder)], **times)
        digest = bench.hand_in(*bench.sign(order))
        journal = bench.state.order_folder(digest) / "journal.jsonl"
        tries = 0
        while bench.state.receipt_number(digest) is None:
            before = journal.stat().st_size if journal.exists() else 0
            process = start(bench, digest)
            while process.poll() is None and (not journal.exists() or journal.stat().st_size == before):
                time.sleep(0.001)
            try:
                # After some kills in a row without a gain a run is let through, as an operator would.
                process.wait(chance.uniform(0, 0.05) if tries < 4 else 60)
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
                tries += 1
            _, error = process.communicate()
            assert b"Traceback" not in error, error.decode()
            check_names(bench, digest, folder, held)
        orders += 1
        receipt = bench.checked(Outbox(bench.state.root).get(orders))
        resumed += len(receipt.interruptions)
        files = files_of(receipt.targets[0])
        assert receipt.outcome is Outcome.SANITIZED, (receipt.targets[0].failure, files.listed)
        assert int(files.sanitized.files) == int(files.found.files) == FILES
        assert list(folder.iterdir()) == []
    print(f"{killed} kills over {orders} orders, {resumed} resumed")
    assert resumed > KILLS // 2, "most kills should hit an order that is under way"


def check_names(bench: Bench, digest: str, folder: Path, held: dict[Path, int]) -> None:
    """No name is gone before the journal says that what was under it is durable."""
    lines = (bench.state.order_folder(digest) / "journal.jsonl").read_bytes().splitlines()
    kinds = [json.loads(line)["record"]["kind"] for line in lines if line.endswith(b"}")]
    inodes = {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
    if "files-written" not in kinds:
        assert inodes == set(held.values()), "a name is gone too early"
    elif "target-finished" not in kinds:
        assert not still_marked(folder), "called durable, and a record is still there"
