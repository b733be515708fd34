"""A vault on a disk that is full: nothing half-written, everything that was there still there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Outcome
from expunge_agent.vault.session import Place, session
from support.vault_cli import VaultCli


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultCli]:
    """Its folder on a file system of 2 MiB; state and root keys beside it."""
    found = VaultCli(tmp_path)
    found.folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(found.folder)], check=True)
    try:
        found.run("create")
        yield found
    finally:
        subprocess.run(["umount", "-l", str(found.folder)], check=True)


def test_a_full_disk(vault: VaultCli) -> None:
    kept = vault.put("alice", b"a" * 300_000)
    vault.run("put", "alice", "-", stdin=b"b" * 3_000_000, code=12)
    assert [path.name for path in (vault.folder / "objects").iterdir()] == [kept]
    fill = vault.folder / "fill"
    with fill.open("wb", buffering=0) as handle, pytest.raises(OSError, match="space"):
        while True:
            handle.write(b"x" * 4096)

    for verb, more in (
        ("rotate", ()),
        ("put", ("bob", "-")),
        ("shred", ("alice", "--yes", "--allow-downgrade")),
    ):
        done = subprocess.run(vault.command(verb, *more), env=vault.env, input=b"c", capture_output=True)
        assert done.returncode in (3, 6, 12), (verb, done)
        assert b"full" in done.stderr + done.stdout, (verb, done)
    fill.unlink()
    assert vault.json("check")["wrong"] == []
    states = vault.states()
    if states["alice"] == "live":
        assert vault.get(kept) == b"a" * 300_000
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    assert vault.states()["alice"] == "shredded"


@pytest.mark.parametrize("checked", [True, False])
def test_a_shredding_that_a_later_command_finished_gets_its_own_receipt(
    vault: VaultCli, checked: bool
) -> None:
    vault.put("alice", b"a" * 1000)
    add_subjects(vault, 60)
    fill = vault.folder / "fill"
    with fill.open("wb", buffering=0) as handle, pytest.raises(OSError, match="space"):
        while True:
            handle.write(b"x" * 4096)
    with fill.open("r+b") as handle:
        handle.truncate(fill.stat().st_size - 8192)  # the journal goes on, the next keystore does not fit
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=6)
    assert vault.receipts()[-1].outcome is Outcome.INTERRUPTED
    fill.unlink()
    if checked:
        vault.run("check")
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    told = vault.receipts()[-1]
    assert told.targets[0].key is not None
    again = vault.run("shred", "alice", "--yes", code=5)
    assert b"already" in again.stdout
    assert len(vault.receipts()) == 2


def add_subjects(vault: VaultCli, count: int) -> None:
    """Make the keystore larger than what is left free, without the price of as many processes."""
    place = Place(vault.folder, vault.root / "state" / "vaults")
    with session(place, vault.secret.encode, "2026-11-22T12:00:00Z") as held:
        for number in range(count):
            held.add_subject(f"subject-{number}")
