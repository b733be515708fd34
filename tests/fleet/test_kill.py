"""Whatever is killed or cut while a wipe runs: no receipt is lost, none claims more than was done, no order runs twice."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from expunge_agent.engine.sources import KeyedStream
from expunge_agent.outbox import Outbox
from support.fleet import Fleet, fleet

SIZE = 160 * 1024 * 1024
BLOWS = 48
RECORD = b"RECORD 4711 "
WEAPONS = ("agent", "run", "controller", "wire")


def strike(running: Fleet, weapon: str) -> None:
    """One blow, and what it felled set up again."""
    if weapon == "wire":
        running.wire.cut()
    elif weapon == "run":
        running.kill_runs()
    else:
        running.kill(weapon)
        if weapon == "controller":
            running.start_controller()
        else:
            running.start_agent()


def check(running: Fleet, order_id: str, image: Path) -> None:
    """One receipt for the order, kept by both sides, and true."""
    (receipt_row,) = [row for row in running.json("receipts") if row["order"] == digest_of(running, order_id)]
    body = json.loads(running.expunge("receipts", receipt_row["receipt"], "--json").stdout)
    (result,) = body["predicate"]["targets"]
    assert result["outcome"] == "sanitized", body
    assert [int(one["bytes_written"]) for one in result["passes"]] == [SIZE, SIZE]
    stream = result["passes"][-1]["stream"]
    data = bytearray(SIZE)
    KeyedStream(stream["cipher"], bytes.fromhex(stream["key"])).fill(memoryview(data), 0)
    assert image.read_bytes() == data


def digest_of(running: Fleet, order_id: str) -> str:
    digest: str = running.json("jobs", order_id)["digest"]
    return digest


@pytest.mark.slow
def test_blows_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    blows = orders = 0
    with fleet(tmp_path) as running:
        while blows < BLOWS:
            image = tmp_path / f"{orders}.img"
            image.write_bytes((RECORD * (SIZE // len(RECORD) + 1))[:SIZE])
            order = running.json(
                "wipe", "ws1", str(image), "--profile", "random-verified", "--yes", "--no-follow"
            )
            orders += 1
            weapon = WEAPONS[orders % len(WEAPONS)]
            for _ in range(chance.randint(2, 4)):
                time.sleep(chance.uniform(0, 0.6))
                strike(running, weapon if chance.random() < 0.7 else chance.choice(WEAPONS))
                blows += 1
            running.until(
                "the order is finished", lambda order=order: running.outcome(order["order_id"]) != ""
            )
            check(running, order["order_id"], image)
            image.unlink()
        running.until("every receipt is acknowledged", lambda: not Outbox(running.state).pending())
        sealed = list(Outbox(running.state).all())
        assert len(sealed) == orders, "one order, one receipt"
        kept = {row["receipt"] for row in running.json("receipts")}
        assert kept == {one.digest for one in sealed}
        assert running.json("receipts", "--aside") == []
        print(f"{blows} blows over {orders} orders")
