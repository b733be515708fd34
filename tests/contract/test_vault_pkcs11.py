"""A vault whose root key lies in a PKCS#11 token (SoftHSM): made there, never out of it, destroyed there."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Level, Outcome
from support.vault_cli import VaultCli

MODULES = [
    path
    for pattern in (
        "lib/softhsm/libsofthsm2.so",
        "lib/*/softhsm/libsofthsm2.so",
        "lib64/softhsm/libsofthsm2.so",
    )
    for path in Path("/usr").glob(pattern)
]
pytest.importorskip("pkcs11", reason="needs python-pkcs11 (extra pkcs11)")
if shutil.which("softhsm2-util") is None or not MODULES:
    pytest.skip("needs SoftHSM (package softhsm2)", allow_module_level=True)

RECORD = b"RECORD 4711 " * 5000


@pytest.fixture
def vault(tmp_path: Path) -> VaultCli:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "hsm.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\n")
    found = VaultCli(tmp_path, {"SOFTHSM2_CONF": str(tmp_path / "hsm.conf")}, "1234")
    subprocess.run(
        [
            "softhsm2-util",
            "--init-token",
            "--free",
            "--label",
            "tok",
            "--pin",
            "1234",
            "--so-pin",
            "12345678",
        ],
        env=found.env,
        check=True,
        capture_output=True,
    )
    found.run("create", "--holder", "pkcs11", "--module", str(MODULES[0]), "--token", "tok")
    return found


def keys_in(vault: VaultCli) -> list[str]:
    """CKA_IDs of all keys in the token, seen by this process."""
    import os

    import pkcs11

    os.environ["SOFTHSM2_CONF"] = vault.environment["SOFTHSM2_CONF"]
    library = pkcs11.lib(str(MODULES[0]))
    library.reinitialize()
    with library.get_token(token_label="tok").open(user_pin="1234") as session:
        found = list(session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY}))
        for key in found:
            assert key[pkcs11.Attribute.SENSITIVE] and key[pkcs11.Attribute.NEVER_EXTRACTABLE]
        return [key[pkcs11.Attribute.ID].hex() for key in found]


def test_kept_rotated_shredded(vault: VaultCli) -> None:
    alice, bob = vault.put("alice", RECORD), vault.put("bob", RECORD)
    (first,) = keys_in(vault)
    shutil.copytree(vault.folder, vault.root / "backup")
    vault.run("rotate")
    (second,) = keys_in(vault)
    assert first != second
    assert vault.get(alice) == RECORD
    said = ["--condition", "validated-module=yes", "--condition", "no-header-backup=yes"]
    vault.run("note", *said, "--condition", "no-escrow=yes", "--why", "test")
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    (third,) = keys_in(vault)
    assert third not in (first, second)
    vault.run("get", alice, "--out", "-", code=3)
    assert vault.get(bob) == RECORD
    (result,) = vault.receipts()[0].targets
    assert result.key is not None
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert "software" in result.exceptions[0]
    assert second in [one.hex for one in result.key.evidence]
    shutil.rmtree(vault.folder)
    shutil.copytree(vault.root / "backup", vault.folder)
    for path in (vault.root / "state" / "vaults").glob("*/newest.json"):
        path.unlink()
    assert vault.run("get", bob, "--out", "-", code=18).stdout == b""


def test_a_wrong_pin_and_a_token_that_is_not_there(vault: VaultCli, tmp_path: Path) -> None:
    object_id = vault.put("alice", RECORD)
    (vault.root / "pass").write_text("4321")
    assert b"PIN" in vault.run("check", code=13).stderr
    (vault.root / "pass").write_text("1234")
    assert vault.get(object_id) == RECORD
    (tmp_path / "second").mkdir()
    second = VaultCli(tmp_path / "second", vault.environment, "1234")
    second.run("create", "--holder", "pkcs11", "--module", str(MODULES[0]), "--token", "none", code=18)
    second.run("create", "--holder", "pkcs11", "--module", "/nowhere.so", "--token", "tok", code=11)
    second.run("create", "--holder", "pkcs11", code=2)
