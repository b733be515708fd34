"""kill -9 at random moments of vault operations: it always opens again, and nothing is called shredded that is not."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Outcome
from support.vault_cli import VaultCli

KILLS = 120
LONGEST = 1.3
"""Seconds within which each operation is struck; they take about as long."""


class Crowd:
    """What must be true of the vault, whatever was killed."""

    def __init__(self, vault: VaultCli, chance: random.Random) -> None:
        self.vault, self.chance = vault, chance
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.shredded: dict[str, Path] = {}
        self.number = 0
        self.receipts = 0

    def put(self) -> tuple[str, list[str], bytes]:
        self.number += 1
        subject = f"s{self.number}"
        return "put", [subject, "-"], self.chance.randbytes(self.chance.choice((10, 300_000)))

    def pick(self) -> tuple[str, list[str], bytes]:
        """The next operation, its arguments and input."""
        living = sorted({subject for subject, _ in self.objects.values()} - set(self.shredded))
        roll = self.chance.random()
        if roll < 0.25 or len(living) < 2:
            return self.put()
        if roll < 0.45:
            return "rotate", [], b""
        return "shred", [self.chance.choice(living), "--yes"], b""

    def strike(self) -> bool:
        """One operation, killed somewhere; whether it was."""
        verb, arguments, data = self.pick()
        backup = self.vault.root / "backup"
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self.vault.folder, backup)
        process = self.vault.start(
            verb, *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        killed = False
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.close()
        process.stdin = None
        try:
            process.wait(self.chance.uniform(0.1, LONGEST))
        except subprocess.TimeoutExpired:
            process.kill()
            killed = True
        _, error = process.communicate()
        assert b"Traceback" not in error, error.decode()
        assert killed or process.returncode == 0, error.decode()
        self._after(verb, arguments, data, backup, killed=killed)
        return killed

    def _after(self, verb: str, arguments: list[str], data: bytes, backup: Path, *, killed: bool) -> None:
        subject = arguments[0] if arguments else ""
        told = self._told()
        if verb == "put":
            mine = [one["object"] for one in told["objects"] if one["subject"] == subject]
            assert killed or len(mine) == 1
            for object_id in mine:
                assert self.vault.get(object_id) == data  # there under its name: there in full
                self.objects[object_id] = (subject, data)
            return
        if verb != "shred":
            return
        state = {one["subject"]: one["state"].split(" 2")[0] for one in told["subjects"]}[subject]
        assert killed or state == "shredded"
        if state == "shredded":
            self._is_gone(subject, backup)
        if self.chance.random() < 0.5 or state == "shredded":
            self.vault.run("shred", subject, "--yes")  # goes on, or says already
            self._is_gone(subject, backup)
            self.shredded[subject] = backup

    def _is_gone(self, subject: str, backup: Path) -> None:
        """The backup of just before, on a machine that never saw the vault: root key gone, nothing opens."""
        elsewhere = VaultCli(self.vault.root)
        known = self.vault.root / "state" / "vaults"
        aside = {path: path.read_bytes() for path in known.glob("*/newest.json")}
        moved = self.vault.root / "moved"
        self.vault.folder.rename(moved)
        shutil.copytree(backup, self.vault.folder)
        try:
            for path in aside:
                path.unlink()
            for object_id, (owner, _) in self.objects.items():
                if owner == subject:
                    refused = subprocess.run(
                        elsewhere.command("get", object_id, "--out", "-", "--no-record"),
                        env=elsewhere.env,
                        capture_output=True,
                    )
                    assert refused.returncode in (3, 11, 18), refused.stderr.decode()
                    assert refused.stdout == b""
        finally:
            shutil.rmtree(self.vault.folder)
            moved.rename(self.vault.folder)
            for path, data in aside.items():
                path.write_bytes(data)

    def _told(self) -> dict:
        """What the vault says at once after the kill: it always answers."""
        return self.vault.json("list")

    def settle(self) -> None:
        """Everything that lives opens, everything shredded does not; receipts and vault agree."""
        answer = self.vault.json("check")
        assert answer["wrong"] == []
        states = self.vault.states()
        assert "being shredded" not in states.values()
        for object_id, (subject, data) in self.objects.items():
            if states[subject] == "live":
                assert self.vault.get(object_id) == data
            else:
                self.vault.run("get", object_id, "--out", "-", code=3)
        roots = list((self.vault.root / "state" / "vaults").glob("*/root-*.json"))
        assert len(roots) == 1, "no old root key is left behind"
        claimed = {
            note.split()[1]
            for receipt in self.vault.receipts()
            if receipt.outcome is Outcome.SANITIZED
            for result in receipt.targets
            if result.medium is not None
            for note in result.medium.notes
            if note.startswith("subject ")
        }
        assert claimed <= {subject for subject, state in states.items() if state == "shredded"}


@pytest.mark.slow
def test_kill_at_random_moments(tmp_path: Path) -> None:
    seed = int(os.environ.get("EXPUNGE_TEST_SEED", random.randrange(1 << 32)))
    print(f"EXPUNGE_TEST_SEED={seed}")
    vault = VaultCli(tmp_path)
    vault.run("create")
    vault.run("note", "--condition", "no-header-backup=yes", "--condition", "no-escrow=yes", "--why", "test")
    crowd = Crowd(vault, random.Random(seed))
    kills, begun = 0, time.monotonic()
    while kills < KILLS:
        kills += crowd.strike()
        if crowd.number % 10 == 0:
            crowd.settle()
    crowd.settle()
    assert crowd.shredded, "some were shredded meanwhile"
    leftovers = [path.name for path in vault.folder.rglob(".*")]
    print(
        f"{kills} kills in {time.monotonic() - begun:.0f} s, {len(crowd.shredded)} shredded, left: {leftovers}"
    )
