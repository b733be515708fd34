"""kill -9 while free space is filled: a rerun completes, leaves nothing behind, and the receipt says what broke in."""

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

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.space import FOLDER_PREFIX, Space
from expunge_agent.devices.space import look_at_space
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceWish, Target
from expunge_controller.records.consistency import evidence_problems
from expunge_profiles.load import builtin
from support.agents import Bench

pytestmark = pytest.mark.usefixtures("prompt_xfs")

MIB = 1 << 20
RECORD = b"RECORD-OF-A-CUSTOMER;"
KINDS = {
    # kills, MiB, reserve, longest time to a kill, options: small, so that kills hit every step, not only writing
    "ext4": (64, 24, 0, 0.9, ["-F", "-N", "512"]),
    "xfs": (20, 320, 212 * MIB, 0.9, ["-f"]),
    "btrfs": (20, 128, 0, 3.0, ["-f"]),
}


def agent(bench: Bench, *words: str) -> list[str]:
    return [sys.executable, "-m", "expunge_agent", "--state", str(bench.state.root), *words]


def start(bench: Bench, digest: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        agent(bench, "run", digest, "--checkpoint-seconds", "0.02", "--rate", "80M"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def target_at(mount: Path, reserve: int) -> Target:
    seen = look_at_space(str(mount), SystemPaths())
    assert isinstance(seen, Space)
    return Target(identity=seen.identity, hint=str(mount), space=SpaceWish(reserve=U64(reserve)))


def hidden(mount: Path) -> list[str]:
    return [path.name for path in mount.iterdir() if path.name.startswith(FOLDER_PREFIX)]


def plant(mount: Path) -> None:
    (mount / "records").write_bytes(RECORD * (2 * MIB // len(RECORD)))
    os.sync()
    (mount / "records").unlink()
    os.sync()


def new_order(bench: Bench, mount: Path, reserve: int) -> str:
    now = datetime.now(UTC)
    order = bench.order(
        targets=[target_at(mount, reserve)],
        not_before=timestamp(now),
        expires=timestamp(now + timedelta(minutes=30)),
    )
    return bench.hand_in(*bench.sign(order))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_kill_at_random_moments(lab, tmp_path: Path, kind: str) -> None:
    kills, size, reserve, longest, options = KINDS[kind]
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    chance = random.Random(seed)
    image, mount = lab.formatted(kind, *options, size=size * MIB)
    (mount / "keep").write_bytes(b"stays" * 1000)
    bench = Bench.make(tmp_path / "state")
    free = os.statvfs(mount).f_bfree * os.statvfs(mount).f_frsize
    killed = orders = resumed = 0
    while killed < kills:
        plant(mount)
        due = chance.randint(
            1, 4
        )  # so often is this order killed; then it is left alone, and has to complete
        digest = new_order(bench, mount, reserve)
        journal = bench.state.order_folder(digest) / "journal.jsonl"
        while bench.state.receipt_number(digest) is None:
            before = journal.stat().st_size if journal.exists() else 0
            process = start(bench, digest)
            while process.poll() is None and (not journal.exists() or journal.stat().st_size == before):
                time.sleep(0.002)
            try:
                process.wait(chance.uniform(0, longest) if due else None)
            except subprocess.TimeoutExpired:
                process.kill()
                killed, due = killed + 1, due - 1
            _, error = process.communicate()
            assert b"Traceback" not in error, error.decode()
        orders += 1
        number = bench.state.receipt_number(digest)
        assert number == orders, "one order, one receipt, one number"
        receipt = bench.checked(Outbox(bench.state.root).get(number))
        assert evidence_problems(receipt, builtin()["random-verified"]) == []
        (result,) = receipt.targets
        assert result.outcome is (Outcome.SANITIZED if kind == "ext4" else Outcome.EXCEPTIONS), result.failure
        assert hidden(mount) == [] and (mount / "keep").read_bytes() == b"stays" * 1000
        assert result.space is None or result.space.cleaned_up
        os.sync()
        assert abs(os.statvfs(mount).f_bfree * os.statvfs(mount).f_frsize - free) < 3 * MIB
        if result.outcome is Outcome.SANITIZED:
            assert RECORD not in image.read_bytes()
        resumed += len(receipt.interruptions)
    assert resumed >= kills // 2, "most kills should hit work that is under way"
    if kind == "ext4":
        name = Path(os.path.realpath(subprocess_output("findmnt", "-no", "SOURCE", str(mount)))).name
        assert int(Path(f"/sys/fs/ext4/{name}/reserved_clusters").read_text()) > 0, "its own reserve is back"
    print(f"{kind}: {killed} kills over {orders} orders, {resumed} resumed")


def subprocess_output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_what_an_order_given_up_left_is_found_and_removed(lab, tmp_path: Path) -> None:
    _, mount = lab.formatted("ext4", "-F", size=64 * MIB)
    bench = Bench.make(tmp_path / "state")
    digest = new_order(bench, mount, 0)
    process = start(bench, digest)
    until = time.monotonic() + 30
    while not hidden(mount) and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.3)

    def leftovers(*words: str) -> list[dict[str, str]]:
        done = subprocess.run(agent(bench, "leftovers", "--json", *words), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found: list[dict[str, str]] = json.loads(done.stdout)
        return found

    (running,) = leftovers("--remove", "--unfinished")
    assert (running["order_is"], running["done"]) == ("running", "kept"), "work under way is left alone"
    process.kill()
    process.communicate()
    (left,) = leftovers("--remove")
    assert (left["order_is"], left["done"]) == ("unfinished", "kept") and hidden(mount)
    refused = subprocess.run(
        agent(bench, "wipe", f"free-space:{mount}", "--profile", "zero", "--reserve", "0", "--yes"),
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 3 and "leftovers --remove" in refused.stderr
    (gone,) = leftovers("--remove", "--unfinished")
    assert gone["done"] == "removed" and hidden(mount) == [] and leftovers() == []
    process = start(bench, digest)
    process.communicate()
    receipt = bench.checked(Outbox(bench.state.root).get(bench.state.receipt_number(digest) or 0))
    assert receipt.outcome is Outcome.SANITIZED and receipt.interruptions


def test_the_verb_fills_and_shows_the_plan(lab, tmp_path: Path) -> None:
    _, mount = lab.formatted("ext4", "-F", size=64 * MIB)
    bench = Bench.make(tmp_path / "state")
    words = ["wipe", f"free-space:{mount}", "--profile", "zero", "--reserve", "8M"]
    plan = subprocess.run(agent(bench, *words, "--dry-run"), capture_output=True, text=True)
    assert plan.returncode == 0 and "free space" in plan.stdout and "Nothing was touched" in plan.stdout
    assert hidden(mount) == []
    done = subprocess.run(agent(bench, *words, "--yes"), capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "were to be left" in done.stdout
    missing = subprocess.run(
        agent(bench, "wipe", f"free-space:{mount}/no", "--profile", "zero", "--yes"),
        capture_output=True,
        text=True,
    )
    assert missing.returncode == 3 and "Traceback" not in missing.stderr
