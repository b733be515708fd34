"""A vault on a disk that is full: nothing half-written, everything that was there still there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.vault_cli import VaultCli


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[VaultCli]:
    """Its folder on a file system of 2 MiB; state and root keys beside it."""
    found = VaultCli(tmp_path)
    found.folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(found.folder)], check=True)
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
