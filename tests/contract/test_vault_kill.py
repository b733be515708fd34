"""kill -9 at random moments of vault operations: it always opens again, and nothing is called shredded that is not."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Outcome
from expunge_agent.vault import keystore
from expunge_agent.vault.change import finish
from expunge_agent.vault.header import Header
from expunge_agent.vault.objects import headers
from expunge_agent.vault.session import opens
from support.vault_cli import VaultCli
from support.vault_worker import content
from support.vaults import VaultBench

KILLS = 120
COMMAND_KILLS = 8


def seeded() -> random.Random:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    return random.Random(seed)


def struck(bench: VaultBench, chance: random.Random) -> None:
    """Let a worker work for a moment, and kill it."""
    command = [sys.executable, "-m", "support.vault_worker", str(bench.root), bench.vault]
    process = subprocess.Popen(
        [*command, str(chance.randrange(1 << 32))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert process.stdout is not None
    ready = process.stdout.readline()
    time.sleep(chance.uniform(0, 0.15))
    process.kill()
    _, error = process.communicate()
    assert ready == b"ready\n" and not error, error.decode()


def log(bench: VaultBench) -> list[dict[str, str]]:
    """What the workers said; a kill may have cut the last line of one."""
    path = bench.root / "log"
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line] if path.exists() else []


def as_it_was_left(bench: VaultBench) -> bool:
    """Before anybody finishes anything: what counts as shredded is. Whether a change was under way."""
    with bench.held() as held:
        store, story = held.shelf.current(), held.story
        for change, gone in story.changes:
            assert not held.holder.has(change.from_root)
            assert not gone.doubts and not gone.opens
        said = {change.shred for change, _ in story.changes if change.shred}
        under_way = {story.pending.shred} if story.pending else set()
        for entry in store.entries:
            assert bool(entry.wrapped) or entry.key in said | under_way
        for line in log(bench):
            if line.get("done") == "change" and "shred" in line:
                assert line["shred"] in said
        return story.pending is not None


def everything_is_right(bench: VaultBench, put: dict[str, str]) -> None:
    """After whatever was begun was finished: the living open, the shredded do not, by no keystore there ever was."""
    with bench.held() as held:
        finish(held)
        assert held.story.pending is None
        unlocked = held.unlock()
        states = {one.subject: bool(one.wrapped) for one in unlocked.store.entries}
        assert len(list((bench.root / "keys").glob("root-*"))) == 1, "no old root key is left"
        seen = list(headers(bench.folder))
        assert all(isinstance(top, Header) for top in seen), "an object under its name is whole"
        for path in (bench.root / "backups").rglob("0*.json"):
            old = keystore.parse(path.read_bytes(), "backup")
            assert opens(held, old) == (old.root == unlocked.store.root)
    there = {top.object for top in seen if isinstance(top, Header)}
    assert set(put) <= there
    answer = bench.check()
    living = [top for top in seen if isinstance(top, Header) and states[top.subject]]
    assert (answer.sound, answer.wrong) == (len(living), [])
    for top in living[-3:]:
        assert bench.get(top.object, record=False) == content(top.object)


@pytest.mark.slow
def test_a_vault_killed_at_random_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = seeded()
    bench = VaultBench.make(tmp_path, monkeypatch)
    broken_off = 0
    for kill in range(KILLS):
        struck(bench, chance)
        broken_off += as_it_was_left(bench)
        put = {line["object"]: line["subject"] for line in log(bench) if line.get("done") == "put"}
        everything_is_right(bench, put)
        if kill % 10 == 9:  # begin anew, or each round takes longer
            for folder in ("vault", "keys", "known", "backups"):
                shutil.rmtree(tmp_path / folder, ignore_errors=True)
            (tmp_path / "log").unlink(missing_ok=True)
            bench = VaultBench.make(tmp_path, monkeypatch)
    assert broken_off > KILLS // 10, "many kills should hit a change of the root"
    print(f"{KILLS} kills, {broken_off} in the middle of a change of the root")


@pytest.mark.slow
def test_orders_killed_at_random_moments(tmp_path: Path) -> None:
    """The whole command: one subject, one receipt, and none that says too much."""
    chance = seeded()
    vault = VaultCli(tmp_path)
    vault.run("create")
    vault.run(
        "note",
        "--condition",
        "no-header-backup=yes",
        "--condition",
        "no-escrow=yes",
        "--standing",
        "--why",
        "test",
    )
    begun = time.monotonic()
    vault.run("rotate")
    takes = time.monotonic() - begun
    kills = subjects = 0
    looked: set[str] = set()
    while kills < COMMAND_KILLS:
        subjects += 1
        subject = f"s{subjects}"
        what = (subject, "--yes", "--allow-downgrade")
        object_id = vault.put(subject, b"record 4711")
        for _ in range(3):
            begun = time.monotonic()
            process = vault.start("shred", *what, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                process.wait(chance.uniform(0.2 * takes, takes))
                takes = min(takes, time.monotonic() - begun)
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            _, error = process.communicate()
            assert b"Traceback" not in error, error.decode()
            state = vault.states()[subject]
            if state == "shredded":
                break
            if state == "live":
                assert vault.get(object_id) == b"record 4711"
                looked.add(
                    f"subject {subject}"
                )  # its plaintext was given out, which costs the level from then on
        vault.run("shred", *what, code=5 if f"subject {subject}" in looked else 0)
        assert vault.states()[subject] == "shredded"
        vault.run("get", object_id, "--out", "-", code=3)
    done = {
        (note.partition(" of vault")[0], receipt.outcome)
        for receipt in vault.receipts()
        for result in receipt.targets
        if result.medium is not None
        for note in result.medium.notes
        if note.startswith("subject ")
    }
    every = {f"subject s{number + 1}" for number in range(subjects)}
    assert {note for note, outcome in done if outcome is Outcome.SANITIZED} == every - looked
    assert {note for note, outcome in done if outcome is Outcome.EXCEPTIONS} == looked
    assert len(list((tmp_path / "state" / "vaults").glob("*/root-*.json"))) == 1
    print(f"{kills} kills, {subjects} subjects, {len(every - looked)} sanitized without an exception")
