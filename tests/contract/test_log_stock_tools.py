"""The log entry of a bundle by bash, coreutils and openssl alone: the script in README.txt and docs/bundle.md."""

from __future__ import annotations

import re
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from expunge_controller.bundle import bundle_files
from expunge_controller.render.log_recipe import RECIPE
from support.evidence import World, before_the_script

DOCS = Path(__file__).parents[2] / "docs"
FILES = ("entry.txt", "receipt.tlog-proof", "checkpoint.txt", "receipt.json", "receipt.json.sig")


def openssl_problem() -> str:
    """Why this openssl cannot check Ed25519 signatures; empty when it can."""
    program = shutil.which("openssl")
    if program is None:
        return "openssl is not installed"
    found = subprocess.run([program, "version"], capture_output=True, text=True).stdout
    return "" if re.match(r"OpenSSL ([3-9]|\d\d)\.", found) else f"needs OpenSSL 3, here is {found.strip()}"


pytestmark = pytest.mark.skipif(bool(openssl_problem()), reason=openssl_problem() or "-")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return bundle_files(World().parts())


@pytest.fixture
def folder(tmp_path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return tmp_path


def run(folder: Path, script: str = RECIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash"], input=script, cwd=folder, capture_output=True, text=True, errors="replace", timeout=60
    )


def test_the_script_is_the_one_in_the_documents() -> None:
    """README.txt has it in bundles from before there was a verify.sh."""
    world = World()
    old = before_the_script(bundle_files(world.parts()), world.signers)
    indented = textwrap.indent(RECIPE, "    ")
    assert indented in old["README.txt"].decode()
    assert indented in (DOCS / "bundle.md").read_text()


def test_a_good_bundle(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert "entry 3 of 7 is in the log" in done.stdout
    assert "  by expunge/records-office/0123456789abcdef\n" in done.stdout
    assert "  by audit.example/w1, Mon Mar  2 09:33:20 UTC 2026" in done.stdout
    assert done.stdout.count("Verified Successfully") == 2


@pytest.mark.parametrize("name", FILES)
def test_changed_bits_are_noticed(folder: Path, files: dict[str, bytes], name: str) -> None:
    data = files[name]
    for position in range(0, len(data), max(1, len(data) // 25)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 7
        (folder / name).write_bytes(changed)
        assert run(folder).returncode != 0, (name, position)


def test_a_proof_for_another_tree(folder: Path) -> None:
    world = World()
    parts = world.parts()
    for size, number in ((8, 3), (7, 2), (1, 0)):
        other = world.log.parts(parts.receipt, size=size, number=number, other=b" other")
        (folder / "receipt.tlog-proof").write_bytes(other.proof)
        assert run(folder).returncode != 0
    for size, number in ((1, 0), (2, 1), (100, 63), (257, 256)):  # whole bundles of other shapes
        log = world.log.parts(parts.receipt, size=size, number=number)
        for name, data in bundle_files(parts._replace(log=log)).items():
            (folder / name).write_bytes(data)
        done = run(folder)
        assert f"entry {number} of {size} is in the log" in done.stdout, done.stderr


def test_a_policy_with_another_key(folder: Path) -> None:
    (folder / "trust" / "log-policy.toml").write_text(f'[[log]]\nvkey = "{World().log.key.text}"\n')
    assert run(folder).returncode != 0
