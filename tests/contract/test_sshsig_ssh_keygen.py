"""Our SSHSIG against OpenSSH's own: each verifies what the other signed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.sshsig import CUSTODY_NAMESPACE, RECEIPT_NAMESPACE, PrivateKeySigner
from expunge_agent.protocol.trust import TrustedSigner
from support.authenticator import TOUCHED_WITH_PIN, Authenticator

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="needs ssh-keygen (openssh-client)"
)
MESSAGE = '{"ü":1}'.encode()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_ssh_keygen_verifies_ours(tmp_path: Path, kind: str) -> None:
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_private_key(SECP256R1())
    signer = PrivateKeySigner(key)
    (tmp_path / "sig").write_bytes(sshsig.sign(signer, RECEIPT_NAMESPACE, MESSAGE))
    known = TrustedSigner(
        principal="agent:1", namespaces=(RECEIPT_NAMESPACE,), public_line=signer.public_line
    )
    (tmp_path / "signers").write_text(trust.format_allowed_signers([known]))
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "agent:1", "-s", "sig"]
    good = subprocess.run(
        [*command, "-n", RECEIPT_NAMESPACE], cwd=tmp_path, input=MESSAGE, capture_output=True
    )
    assert good.returncode == 0, good.stderr
    for other in ([*command, "-n", "expunge-order"], [*command[:-1], "signers", "-n", RECEIPT_NAMESPACE]):
        assert subprocess.run(other, cwd=tmp_path, input=MESSAGE, capture_output=True).returncode != 0
    changed = subprocess.run(
        [*command, "-n", RECEIPT_NAMESPACE], cwd=tmp_path, input=MESSAGE + b" ", capture_output=True
    )
    assert changed.returncode != 0


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_we_verify_what_ssh_keygen_signed(tmp_path: Path, kind: str) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", "key"], cwd=tmp_path, check=True
    )
    (tmp_path / "message").write_bytes(MESSAGE)
    subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", "key", "-n", RECEIPT_NAMESPACE, "message"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    line = sshsig.verify((tmp_path / "message.sig").read_bytes(), RECEIPT_NAMESPACE, MESSAGE)
    assert line == " ".join((tmp_path / "key.pub").read_text().split()[:2])
    printed = subprocess.run(
        ["ssh-keygen", "-lf", "key.pub"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert sshsig.fingerprint(line) == printed.stdout.split()[1]


@pytest.mark.parametrize("ecdsa", [False, True])
def test_ssh_keygen_takes_security_keys_with_any_flags_and_we_do_not(tmp_path: Path, ecdsa: bool) -> None:
    """Why the flags are read here: OpenSSH accepts what nobody touched the key for."""
    key = Authenticator(ecdsa=ecdsa)
    known = TrustedSigner(principal="person:a", namespaces=(CUSTODY_NAMESPACE,), public_line=key.public_line)
    (tmp_path / "signers").write_text(trust.format_allowed_signers([known]))
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "person:a", "-s", "sig"]
    for flags in (TOUCHED_WITH_PIN, 0):
        key.flags = flags
        armored = sshsig.sign(key, CUSTODY_NAMESPACE, MESSAGE)
        (tmp_path / "sig").write_bytes(armored)
        said = subprocess.run(
            [*command, "-n", CUSTODY_NAMESPACE], cwd=tmp_path, input=MESSAGE, capture_output=True
        )
        assert said.returncode == 0, said.stderr
        if flags:
            assert sshsig.verify(armored, CUSTODY_NAMESPACE, MESSAGE) == key.public_line
        else:
            with pytest.raises(VerificationError, match="without anybody touching"):
                sshsig.verify(armored, CUSTODY_NAMESPACE, MESSAGE)
