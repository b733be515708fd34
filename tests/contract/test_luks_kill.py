"""kill -9 at random moments of the destruction of a LUKS header: no receipt says sanitized of a volume that opens."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Receipt, parse_statement
from expunge_controller.records.consistency import evidence_problems
from expunge_profiles.load import builtin
from support.agents import Bench
from support.luks_images import MIB, make, opens, vouched

pytestmark = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="needs cryptsetup")

KILLS = int(os.environ.get("EXPUNGE_KILLS", "64"))
KINDS = {"luks1": 3 * MIB, "luks2": 18 * MIB}


class Workers:
    """One process that starts the others; see `support.luks_worker`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.luks_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self._line() == "ready"

    def run(self, bench: Bench, digest: str, seconds: float = -1) -> tuple[int, float]:
        """How a run ended (minus the signal), and after how long; killed after `seconds`, negative for not at all."""
        assert self._process.stdin is not None
        begun = time.monotonic()
        self._process.stdin.write(f"{bench.state.root} {digest} {seconds}\n")
        self._process.stdin.flush()
        return int(self._line()), time.monotonic() - begun

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture
def workers() -> Iterator[Workers]:
    found = Workers()
    try:
        yield found
    finally:
        found.end()


def receipts(bench: Bench) -> list[Receipt]:
    return [parse_statement(sealed.body).predicate for sealed in Outbox(bench.state.root).all()]


def ordered(folder: Path, original: Path) -> tuple[Bench, Path, str]:
    folder.mkdir()
    image = folder / "disk.img"
    subprocess.run(["cp", "--sparse=always", str(original), str(image)], check=True)
    bench = Bench.make(folder / "state")
    order = bench.order(image, policy="luks-crypto-erase", keys=vouched())
    return bench, image, bench.hand_in(*bench.sign(order))


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_called_sanitized_that_opens(
    tmp_path: Path, workers: Workers
) -> None:
    """Also the run that takes it up again is killed, at times; the one after that comes to its end."""
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    originals = {kind: make(tmp_path / kind, kind, size=size) for kind, size in KINDS.items()}
    whole = {}
    for kind in KINDS:
        bench, image, digest = ordered(tmp_path / f"whole-{kind}", originals[kind])
        code, whole[kind] = workers.run(bench, digest)
        assert code == 0
        assert not opens(image)
    kills = touched = turn = 0
    while kills < KILLS:
        kind = chance.choice(
            ["luks1", "luks1", "luks1", "luks2"]
        )  # of the larger header fewer: it takes longer
        folder = tmp_path / str(turn := turn + 1)
        bench, image, digest = ordered(folder, originals[kind])
        code = -signal.SIGKILL
        for _ in range(3):
            code, _ = workers.run(bench, digest, chance.uniform(0, whole[kind] * 1.1))
            kills += code == -signal.SIGKILL
            sanitized = any(one.outcome is Outcome.SANITIZED for one in receipts(bench))
            if sanitized or code == 0:
                break
            assert code == -signal.SIGKILL
        head = image.read_bytes()[:MIB]
        touched += head != originals[kind].read_bytes()[:MIB]
        assert not (sanitized and any(head))
        code, _ = workers.run(bench, digest)
        assert code == 0
        (receipt,) = receipts(bench)
        assert evidence_problems(receipt, builtin()["luks-crypto-erase"]) == []
        assert (receipt.outcome, receipt.targets[0].level_achieved) == (Outcome.SANITIZED, Level.CLEAR)
        assert not any(image.read_bytes()[: 2 * MIB])
        if turn % 8 == 0:
            assert not opens(image)
        shutil.rmtree(folder)
    assert touched > KILLS // 8, f"only {touched} of {turn} orders were struck while they worked"
