"""kill -9 at random moments of a wipe: nothing is lost, nothing is claimed that was not done, nothing runs twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge_agent.engine.sources import KeyedStream
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.receipt import PassResult, Receipt
from support.agents import Bench

SIZE = 48 * 1024 * 1024 + 4097
KILLS = 60
RECORD = b"RECORD 4711 "


def start(bench: Bench, digest: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "expunge_agent",
            "--state",
            str(bench.state.root),
            "run",
            digest,
            "--checkpoint-seconds",
            "0.02",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def content_of(result: PassResult, length: int) -> bytes:
    """The first `length` bytes that a pass leaves."""
    if result.stream is None:
        return (bytes.fromhex(result.fixed) * (length // (len(result.fixed) // 2) + 1))[:length]
    data = bytearray(length)
    KeyedStream(result.stream.cipher, bytes.fromhex(result.stream.key)).fill(memoryview(data), 0)
    return bytes(data)


def check_truth(receipt: Receipt, image: Path) -> None:
    """What the receipt claims is on the medium."""
    (result,) = receipt.targets
    data = image.read_bytes()
    if not result.passes:  # on a slow machine every kill may come before anything is written
        assert receipt.outcome is Outcome.INTERRUPTED, (receipt.outcome, result.failure, result.refusal)
        assert "without getting ahead" in result.failure
        return
    last = result.passes[-1]
    if receipt.outcome is Outcome.SANITIZED:
        assert [int(one.bytes_written) for one in result.passes] == [SIZE, SIZE]
        assert data == content_of(last, SIZE)
        assert RECORD not in data
        return
    assert receipt.outcome is Outcome.INTERRUPTED
    done = int(last.bytes_written)
    if last.stream is None or last.stream.key:
        assert data[:done] == content_of(last, done)


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    bench = Bench.make(tmp_path / "state")
    killed = orders = resumed = 0
    while killed < KILLS:
        image = tmp_path / f"{orders}.img"
        image.write_bytes((RECORD * (SIZE // len(RECORD) + 1))[:SIZE])
        now = datetime.now(UTC)
        order = bench.order(image, not_before=timestamp(now), expires=timestamp(now + timedelta(minutes=9)))
        digest = bench.hand_in(*bench.sign(order))
        journal = bench.state.order_folder(digest) / "journal.jsonl"
        while bench.state.receipt_number(digest) is None:
            before = journal.stat().st_size if journal.exists() else 0
            process = start(bench, digest)
            while process.poll() is None and (not journal.exists() or journal.stat().st_size == before):
                time.sleep(0.005)
            try:
                process.wait(chance.uniform(0, 0.35))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
            _, error = process.communicate()
            assert b"Traceback" not in error, error.decode()
        orders += 1
        number = bench.state.receipt_number(digest)
        assert number == orders, "one order, one receipt, one number"
        receipt = bench.checked(Outbox(bench.state.root).get(number))
        resumed += len(receipt.interruptions)
        check_truth(receipt, image)
        image.unlink()
    assert resumed > KILLS // 2, "most kills should hit a wipe that is under way"
    assert len(Outbox(bench.state.root).pending()) == orders
    print(f"{killed} kills over {orders} orders, {resumed} resumed")
