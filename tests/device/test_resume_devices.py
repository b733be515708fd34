"""kill -9 of the agent while it overwrites a device: the order goes on where its journal stands.

Real processes, real loop devices with both sector sizes. A device that came back as another one is
left alone, and the receipt says what was interrupted.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.order import ProfileRef
from expunge_agent.protocol.receipt import Reason, Receipt
from expunge_profiles.load import parse
from support.agents import Bench

MIB = 1 << 20
SIZE = 160 * MIB + 5 * 4096  # no multiple of a chunk
OLD = b"RECORD 4711 "
KILLS = 4
PATTERN = bytes.fromhex("A1B2C3D4E5F607")  # seven bytes: no border of a chunk or sector falls on its own
PROFILE = f"""
id = "resumed"
version = 1
title = "A pattern of seven bytes, its complement, a stream, each read back"
level = "clear"
authority = "none"
status = "current"
source = "own policy"
advice = "for this test"
media = ["virtual"]
seal = true
[verification]
kind = "full"
after = "every"
[[pass]]
pattern = "{PATTERN.hex()}"
[[pass]]
complement = true
[[pass]]
keyed-stream = true
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench.make(tmp_path / "state")
    (made.state.root / "profiles" / "resumed.toml").write_text(PROFILE)
    return made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    fill(path, OLD)
    return path


def fill(path: Path, record: bytes) -> None:
    """SIZE bytes of `record` repeated."""
    piece = record * (MIB // len(record))
    with path.open("wb") as file:
        while file.tell() < SIZE:
            file.write(piece[: SIZE - file.tell()])


class Run:
    """One order on one device, carried out by processes of their own."""

    def __init__(self, bench: Bench, device: str) -> None:
        profile = parse(PROFILE, "resumed.toml")
        now = datetime.now(UTC)
        order = bench.order(
            Path(device),
            not_before=timestamp(now),
            expires=timestamp(now + timedelta(minutes=9)),
            profile=ProfileRef(id=profile.id, version=profile.version, digest=profile.digest),
        )
        self.bench = bench
        self.digest = bench.hand_in(*bench.sign(order))
        self.journal = bench.state.order_folder(self.digest) / "journal.jsonl"

    def start(self) -> subprocess.Popen[bytes]:
        """`expunge-agent run`, with a checkpoint as often as there can be one."""
        command = [sys.executable, "-m", "expunge_agent", "--state", str(self.bench.state.root), "run"]
        return subprocess.Popen(
            [*command, self.digest, "--checkpoint-seconds", "0.01"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def records(self) -> list[dict[str, Any]]:
        """The whole lines of the journal."""
        if not self.journal.exists():
            return []
        return [json.loads(line)["record"] for line in self.journal.read_bytes().split(b"\n")[:-1]]

    def checkpoints(self, known: int = 0) -> list[tuple[int, int]]:
        """(pass, durable offset) of each checkpoint after the first `known` records."""
        return [
            (one["data"]["pass"], int(one["data"]["checkpoint"]["durable"]))
            for one in self.records()[known:]
            if one["kind"] == "checkpoint"
        ]

    def kill_in_the_middle(self, chance: random.Random) -> bool:
        """Run until there is a new checkpoint within the target, and a moment more; False when it was over.

        The process is let run for moments only, as on a busy machine: a pass over a small device would
        be over before the agent thinks of its first checkpoint.
        """
        known, more = len(self.records()), chance.randrange(3)
        process = self.start()
        try:
            while process.poll() is None:
                latest = self.records()[known:]
                if not latest or latest[-1]["kind"] not in ("pass-started", "pass-resumed", "checkpoint"):
                    time.sleep(0.002)
                    continue
                process.send_signal(signal.SIGSTOP)
                more -= any(durable < SIZE for _, durable in self.checkpoints(known))
                if more < 0:
                    break
                time.sleep(0.21)
                process.send_signal(signal.SIGCONT)
                time.sleep(chance.uniform(0.002, 0.012))
        finally:
            process.kill()
            _, complaint = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), complaint.decode()
        return process.returncode == -signal.SIGKILL

    def finish(self) -> Receipt:
        """Run to the end, and the receipt."""
        process = self.start()
        try:
            _, complaint = process.communicate(timeout=120)
        finally:
            process.kill()
        assert b"Traceback" not in complaint, complaint.decode()
        number = self.bench.state.receipt_number(self.digest)
        assert number is not None, complaint.decode()
        return self.bench.checked(Outbox(self.bench.state.root).get(number))


def left_by(receipt: Receipt) -> bytes:
    """What the last pass must have left: the stream of the sealed key, computed in one go."""
    sealed = receipt.targets[0].passes[-1].stream
    assert sealed is not None
    assert sealed.cipher == "aes-256-ctr"
    key = bytes.fromhex(sealed.key)
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(SIZE))


def check_written(image: Path, run: Run) -> None:
    """After a kill: everything below the last checkpoint is what its pass writes, unless the next one has begun."""
    steps = [one for one in run.records() if one["kind"] in ("pass-started", "checkpoint")]
    if steps[-1]["kind"] == "pass-started":
        return
    index, durable = run.checkpoints()[-1]
    (plan,) = [one["data"]["plan"] for one in run.records() if one["kind"] == "planned"]
    step = {"fixed": "", "cipher": "", "key": "", **plan["passes"][index]}
    if step["cipher"]:
        key = bytes.fromhex(step["key"])
        expected = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(durable))
    else:
        pattern = PATTERN if index == 0 else bytes(255 - byte for byte in PATTERN)
        assert bytes.fromhex(step["fixed"]) == pattern
        expected = (pattern * (durable // len(pattern) + 1))[:durable]
    with image.open("rb") as file:
        assert file.read(durable) == expected, f"pass {index} does not hold below {durable}"


@pytest.mark.slow
@pytest.mark.parametrize("sector", [512, 4096])
def test_an_order_killed_again_and_again_ends_as_if_never_killed(
    lab, bench: Bench, image: Path, sector: int
) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    device = lab.loop(image, "--sector-size", str(sector))
    run = Run(bench, device)
    kills = 0
    while kills < KILLS and run.kill_in_the_middle(chance):
        kills += 1
        if run.checkpoints():
            check_written(image, run)
    receipt = run.finish()
    assert kills >= 2, "the runs were over before they could be killed"

    (result,) = receipt.targets
    assert receipt.outcome is Outcome.SANITIZED, result.failure
    assert receipt.level_achieved is Level.CLEAR
    assert image.read_bytes() == left_by(receipt)
    assert [int(one.bytes_written) for one in result.passes] == [SIZE] * 3
    assert [int(one.bytes_read) for one in result.verifications] == [SIZE] * 3
    assert len(receipt.interruptions) == kills
    assert {one.decision for one in receipt.interruptions} == {"resumed"}
    resumes = [int(at) for one in result.passes for at in one.resumed_at]
    assert len(resumes) <= kills
    assert any(0 < at < SIZE for at in resumes), "no pass was taken up in its middle"
    journalled = {durable for _, durable in run.checkpoints()} | {0}
    assert set(resumes) <= journalled
    assert all(at % sector == 0 for at in resumes)
    print(f"{kills} kills, passes taken up again at {resumes}")


def test_a_device_that_came_back_as_another_is_left_alone(
    lab, bench: Bench, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.img"
    fill(other, b"NEW OWNER 12")
    device = lab.loop(image)
    run = Run(bench, device)
    assert run.kill_in_the_middle(random.Random(1)), "the run was over before it could be killed"
    index, durable = run.checkpoints()[-1]
    lab.detach(device)
    subprocess.run(["losetup", device, str(other)], check=True)
    before = [path.read_bytes() for path in (image, other)]

    receipt = run.finish()
    assert [path.read_bytes() for path in (image, other)] == before
    (result,) = receipt.targets
    assert receipt.outcome is Outcome.INTERRUPTED
    assert receipt.level_achieved is Level.NONE
    assert result.refusal is not None
    assert result.refusal.reason is Reason.IDENTITY_MISMATCH
    assert "instance" in result.refusal.detail
    assert [one.decision for one in receipt.interruptions] == ["resumed"]
    assert receipt.interruptions[0].boot_id_before == receipt.interruptions[0].boot_id_after
    taken = result.passes[index]
    assert int(taken.bytes_written) == durable
    assert not taken.complete
    assert not taken.flushed
    assert result.identity_after is None
    check_written(image, run)


def test_a_device_that_is_gone_is_not_found_and_claims_nothing_more(lab, bench: Bench, image: Path) -> None:
    device = lab.loop(image)
    run = Run(bench, device)
    assert run.kill_in_the_middle(random.Random(1)), "the run was over before it could be killed"
    lab.detach(device)
    before = image.read_bytes()
    receipt = run.finish()
    assert image.read_bytes() == before
    (result,) = receipt.targets
    assert receipt.outcome is Outcome.INTERRUPTED
    assert result.refusal is not None
    assert receipt.level_achieved is Level.NONE
    assert len(receipt.interruptions) == 1
