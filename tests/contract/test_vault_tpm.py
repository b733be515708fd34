"""A vault whose root key lies in a TPM 2.0 (swtpm): what the TPM signs of its end is what happened."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from expunge_agent.errors import NotFoundError, UsageError, VerificationError
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.vault.conditions import STATED as WORDS
from expunge_agent.vault.holders.port import TpmSettings
from expunge_agent.vault.holders.tpm import TpmHolder
from support.vault_cli import VaultCli

try:
    import tpm2_pytss
except (ImportError, NotImplementedError, RuntimeError):
    pytest.skip("needs tpm2-pytss (make tpm)", allow_module_level=True)
if shutil.which("swtpm") is None:
    pytest.skip("needs swtpm (package swtpm)", allow_module_level=True)

RECORD = b"RECORD 4711 " * 5000
CC_NV_UNDEFINE_SPACE, RH_OWNER = 0x122, 0x40000001
"""TPM 2.0 Library, Part 2, §6.5.2 and §7.4."""


@pytest.fixture
def tcti(tmp_path: Path) -> Iterator[str]:
    """A fresh TPM, ended with the test."""
    folder = Path(tempfile.mkdtemp(prefix="tpm"))  # a socket's path is short (unix(7))
    with (tmp_path / "tpm.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "swtpm",
                "socket",
                "--tpm2",
                "--tpmstate",
                f"dir={folder}",
                "--flags",
                "not-need-init,startup-clear",
                "--server",
                f"type=unixio,path={folder}/s",
                "--ctrl",
                f"type=unixio,path={folder}/s.ctrl",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + 10
        while not (folder / "s.ctrl").exists():
            assert process.poll() is None and time.monotonic() < end, (tmp_path / "tpm.log").read_text()
            time.sleep(0.02)
        yield f"swtpm:path={folder}/s"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


@pytest.fixture
def vault(tmp_path: Path, tcti: str) -> VaultCli:
    found = VaultCli(tmp_path)
    found.run("create", "--holder", "tpm", "--tcti", tcti)
    return found


def test_kept_rotated_shredded_attested(vault: VaultCli) -> None:
    alice, bob = vault.put("alice", RECORD), vault.put("bob", RECORD)
    shutil.copytree(vault.folder, vault.root / "backup")
    vault.run("rotate")
    assert vault.json("check")["sound"] == 2
    before = {path.name: path.read_bytes() for path in (vault.folder / "keystore").glob("0*")}
    said = [f"--condition={name}=yes" for name in WORDS if name != "no-escrow"]
    vault.run("note", *said, "--why", "test")
    vault.run("shred", "alice", "--yes", "--allow-downgrade", code=5)
    vault.run("get", alice, "--out", "-", code=3)
    assert vault.get(bob) == RECORD
    (result,) = vault.receipts()[0].targets
    key = result.key
    assert key is not None
    # A simulated TPM says that it is software; and that nobody was given the key nobody said: the passphrase reads it.
    assert (result.outcome, result.level_achieved) == (Outcome.EXCEPTIONS, Level.NONE)
    assert {one.id for one in key.conditions if one.holds != "yes"} == {"keys-in-reach", "no-escrow"}
    assert "software" in result.exceptions[0]
    check_attestation(
        {one.name.partition(" (")[0]: bytes.fromhex(one.hex) for one in key.evidence}, vault, before
    )
    # Data and keystore of before, on a machine that never saw the vault.
    shutil.rmtree(vault.folder)
    shutil.copytree(vault.root / "backup", vault.folder)
    for path in (vault.root / "state" / "vaults").glob("*/newest.json"):
        path.unlink()
    for object_id in (alice, bob):
        assert vault.run("get", object_id, "--out", "-", code=18).stdout == b""


def check_attestation(evidence: dict[str, bytes], vault: VaultCli, keystores: dict[str, bytes]) -> None:
    """With nothing but the specification: the TPM signed that this very index was undefined, for this root."""
    attest = evidence["attestation"][2:]  # TPM2B: a length in front
    magic, kind = struct.unpack_from(">IH", attest)
    assert (magic, kind) == (0xFF544347, 0x8016)  # TPM_GENERATED_VALUE, TPM_ST_ATTEST_SESSION_AUDIT
    signer_length = struct.unpack_from(">H", attest, 6)[0]
    at = 8 + signer_length
    extra_length = struct.unpack_from(">H", attest, at)[0]
    extra = attest[at + 2 : at + 2 + extra_length]
    session_digest = attest[-32:]
    code = struct.pack(">I", CC_NV_UNDEFINE_SPACE)
    command = hashlib.sha256(code + struct.pack(">I", RH_OWNER) + evidence["NV name"]).digest()
    response = hashlib.sha256(struct.pack(">I", 0) + code).digest()
    assert session_digest == hashlib.sha256(bytes(32) + command + response).digest()
    name = struct.pack(">H", 0x000B) + hashlib.sha256(evidence["NV public area"][2:]).digest()
    assert evidence["NV name"] == name
    (root,) = {json.loads(data)["root"] for data in keystores.values()}
    told = json.loads((vault.folder / "vault.json").read_bytes())["vault"]
    lines = "\n".join(["expunge-vault/v1", "destroyed root", told, root])
    assert extra == hashlib.sha256(lines.encode()).digest()
    area = tpm2_pytss.TPM2B_PUBLIC.unmarshal(evidence["attestation key"])[0].publicArea
    point = area.unique.ecc
    public = EllipticCurvePublicNumbers(
        int.from_bytes(bytes(point.x), "big"), int.from_bytes(bytes(point.y), "big"), SECP256R1()
    ).public_key()
    signed = tpm2_pytss.TPMT_SIGNATURE.unmarshal(evidence["its signature"])[0].signature.ecdsa
    r, s = (int.from_bytes(bytes(part), "big") for part in (signed.signatureR, signed.signatureS))
    public.verify(encode_dss_signature(r, s), attest, ECDSA(SHA256()))


def test_a_wrong_passphrase_and_taken_indexes(vault: VaultCli, tcti: str, tmp_path: Path) -> None:
    object_id = vault.put("alice", RECORD)
    (vault.root / "pass").write_text("wrong")
    assert b"passphrase" in vault.run("check", code=13).stderr
    (vault.root / "pass").write_text("correct horse")
    assert vault.get(object_id) == RECORD
    (tmp_path / "second").mkdir()
    second = VaultCli(tmp_path / "second")
    second.run("create", "--holder", "tpm", "--tcti", tcti, code=13)
    second.run("create", "--holder", "tpm", "--tcti", tcti, "--index", "0x1c05700")
    assert second.get(second.put("bob", RECORD)) == RECORD


class Broken(BaseException):
    """As a kill: nothing catches it."""


def test_steps_broken_off_in_the_tpm_are_taken_again(tcti: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index defined and never written; an index undefined, and nobody came to say so."""
    holder = TpmHolder(TpmSettings(tcti=tcti, index=0x1C05800), "a" * 32, lambda: b"x")
    first, second = "1" * 32, "2" * 32
    try:
        with monkeypatch.context() as patch:

            def broken(*_args: object, **_more: object) -> None:
                raise Broken

            patch.setattr(tpm2_pytss.ESAPI, "nv_write", broken)
            with pytest.raises(Broken):
                holder.create(first)
        assert not holder.has(first)
        for root in (first, second):
            holder.create(root)
        sealed = holder.seal(first, b"secret", b"about")
        holder.create(first)  # again changes nothing
        assert holder.unseal(first, sealed, b"about") == b"secret"
        with pytest.raises(VerificationError):
            holder.unseal(second, sealed, b"about")
        with pytest.raises(UsageError, match="taken"):
            holder.create("3" * 32)
        assert len(holder.destroy(first).evidence) == 5
        assert not holder.has(first)
        assert holder.destroy(first).evidence == ()
        with pytest.raises(NotFoundError):
            holder.unseal(first, sealed, b"about")
        assert holder.has(second)
    finally:
        holder.close()


def test_a_tpm_that_is_not_there(tmp_path: Path) -> None:
    vault = VaultCli(tmp_path)
    done = vault.run("create", "--holder", "tpm", "--tcti", f"swtpm:path={tmp_path}/nothing", code=11)
    assert b"Check the TPM" in done.stderr
    assert not (vault.folder / "vault.json").exists()
