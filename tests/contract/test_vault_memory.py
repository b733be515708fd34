"""A stream of any size takes the same memory: under 100 MiB for the largest process of the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.vault_cli import VaultCli

SIZE = 768 * 1024 * 1024
MOST = 100 * 1024
"""KiB."""
MEASURED = """\
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdin=0, stdout=1)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def peak(command: list[str], env: dict[str, str]) -> int:
    """KiB of the largest process that `command`, fed with zeros, started and waited for."""
    with subprocess.Popen(["head", "-c", str(SIZE), "/dev/zero"], stdout=subprocess.PIPE) as feed:
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *command],
            env=env,
            stdin=feed.stdout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        feed.kill()
    code, found = done.stderr.split()[-2:]
    assert code == "0", done.stderr
    return int(found)


@pytest.mark.slow
def test_peak_memory_of_a_long_stream(tmp_path: Path) -> None:
    vault = VaultCli(tmp_path)
    vault.run("create")
    for chunk in ("64", "1024"):
        found = peak(vault.command("put", "alice", "-", "--chunk", chunk, "--json"), vault.env)
        assert found < MOST, f"put took {found} KiB"
    object_id = vault.json("list")["objects"][0]["object"]
    found = peak(vault.command("get", object_id, "--out", "-", "--no-record"), vault.env)
    assert found < MOST, f"get took {found} KiB"
