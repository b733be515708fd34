"""Signing keys outside the agent, and what the stock ssh-keygen says of their signatures: ssh-agent, a PKCS#11 token
(SoftHSM), directly and behind an ssh-agent, and a TPM (swtpm)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent import signing
from expunge_agent.errors import SigningKeyError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import Signer
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers
from expunge_agent.signers.settings import parse_wish

MODULES = [
    path
    for pattern in ("lib/softhsm/libsofthsm2.so", "lib/*/softhsm/libsofthsm2.so")
    for path in Path("/usr").glob(pattern)
]
MESSAGE = b"a receipt\n"
needs_agent = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="needs ssh-agent (openssh-client)")
needs_token = pytest.mark.skipif(
    shutil.which("softhsm2-util") is None or not MODULES, reason="needs SoftHSM (package softhsm2)"
)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short enough for a socket in it."""
    with tempfile.TemporaryDirectory(prefix="k") as folder:
        yield Path(folder)


def ssh_keygen_accepts(folder: Path, signer: Signer) -> None:
    """Sign, and have ssh-keygen and our own reader check it."""
    signature = sshsig.sign(signer, sshsig.RECEIPT_NAMESPACE, MESSAGE)
    assert sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, MESSAGE) == signer.public_line
    who = TrustedSigner(
        principal="agent:1", namespaces=(sshsig.RECEIPT_NAMESPACE,), public_line=signer.public_line
    )
    (folder / "allowed").write_text(format_allowed_signers([who]))
    (folder / "sig").write_bytes(signature)
    command = [
        "ssh-keygen", "-Y", "verify", "-f", str(folder / "allowed"), "-I", "agent:1", "-n", "expunge-receipt",
        "-s", str(folder / "sig"),
    ]  # fmt: skip
    for body, good in ((MESSAGE, True), (MESSAGE + b" ", False)):
        done = subprocess.run(command, input=body, capture_output=True, timeout=60)
        assert (done.returncode == 0) is good, done.stderr


@pytest.fixture
def ssh_agent(short: Path) -> Iterator[Path]:
    """A real ssh-agent without keys, ended with the test."""
    path = short / "agent"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 10
        while not path.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        yield path
    finally:
        process.kill()
        process.wait()


def ssh_add(agent: Path, *arguments: str, **env: str) -> None:
    done = subprocess.run(
        ["ssh-add", *arguments],
        env={**os.environ, "SSH_AUTH_SOCK": str(agent), **env},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@needs_agent
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_key_in_an_ssh_agent(short: Path, ssh_agent: Path, kind: str) -> None:
    wish = parse_wish(f"ssh-agent:{ssh_agent}")
    with pytest.raises(SigningKeyError, match="offers none"):
        signing.new_key(short, wish)
    for name, type_ in (("k", kind), ("r", "rsa")):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", type_, "-N", "", "-f", str(short / name)], check=True, timeout=60
        )
        ssh_add(ssh_agent, str(short / name))
    (short / "k").unlink()
    signer = signing.first_key(short, wish)
    assert signer.public_line == " ".join((short / "k.pub").read_text().split()[:2])
    ssh_keygen_accepts(short, signer)
    ssh_add(ssh_agent, "-D")
    with pytest.raises(SigningKeyError, match="did not sign with SHA256") as caught:
        signing.probe(signing.signer_of(short))
    assert caught.value.exit_code == 22 and "ssh-add -l" in caught.value.remedy


@pytest.fixture
def token(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A SoftHSM token called ``tok`` with the PIN 1234; its configuration."""
    (short / "tokens").mkdir()
    (short / "hsm.conf").write_text(f"directories.tokendir = {short}/tokens\n")
    (short / "pin").write_text("1234\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(short / "hsm.conf"))
    command = ["softhsm2-util", "--init-token", "--free", "--label", "tok", "--pin", "1234"]
    subprocess.run([*command, "--so-pin", "12345678"], check=True, capture_output=True, timeout=60)
    return short / "hsm.conf"


def in_a_process(code: str, folder: Path) -> str:
    """Run `code` by itself: a PKCS#11 library reads its configuration once a process."""
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


USE = """
import sys, pathlib
from expunge_agent import signing
from expunge_agent.protocol import sshsig
from expunge_agent.signers.settings import parse_wish
root = pathlib.Path(sys.argv[1])
wish = f"pkcs11:token=tok{OBJECT}?module-path={MODULE}&pin-source={root}/pin"
signer = signing.first_key(root, parse_wish(wish))
signer = signing.signer_of(root)
(root / "sig").write_bytes(sshsig.sign(signer, "expunge-receipt", b"a receipt\\n"))
(root / "pin").write_text("9999")
try:
    signing.probe(signer)
except signing.SigningKeyError as error:
    print(error.message)
(root / "pin").write_text("1234")
signing.probe(signer)
print(signer.public_line)
"""
MAKE_ED25519 = """
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism
with pkcs11.lib(MODULE).get_token(token_label="tok").open(rw=True, user_pin="1234") as session:
    params = session.create_domain_parameters(
        KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: bytes.fromhex("06032b6570")}, local=True)
    params.generate_keypair(mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN, store=True, label="ed")
"""


@needs_token
@pytest.mark.parametrize("kind", ["ecdsa-sha2-nistp256", "ssh-ed25519"])
def test_a_key_in_a_token(short: Path, token: Path, kind: str) -> None:
    pytest.importorskip("pkcs11", reason="needs python-pkcs11 (extra pkcs11)")
    wanted = "" if kind.startswith("ecdsa") else ";object=ed"
    if wanted:
        in_a_process(MAKE_ED25519.replace("MODULE", repr(str(MODULES[0]))), short)
    code = USE.replace("{OBJECT}", wanted).replace("{MODULE}", str(MODULES[0]))
    complaint, line = in_a_process(code, short).splitlines()
    assert "The PIN does not open the token 'tok'" in complaint
    assert line.startswith(kind)
    assert sshsig.verify((short / "sig").read_bytes(), "expunge-receipt", MESSAGE) == line
    again = in_a_process(code, short).splitlines()
    assert again[1] == line, "the key that was made is used again"


@needs_agent
@needs_token
def test_a_token_behind_an_ssh_agent(short: Path, token: Path) -> None:
    """`ssh-add -s`: the way to any token that OpenSSH can use."""
    pytest.importorskip("pkcs11", reason="needs python-pkcs11 (extra pkcs11)")
    code = USE.replace("{OBJECT}", "").replace("{MODULE}", str(MODULES[0]))
    line = in_a_process(code, short).splitlines()[1]
    (short / "signing_key.json").unlink()
    ask = short / "ask"
    ask.write_text("#!/bin/sh\necho 1234\n")
    ask.chmod(0o700)
    path = short / "agent"
    module = os.path.realpath(MODULES[0])
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path), "-P", module],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 10
        while not path.exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        ssh_add(path, "-s", module, SSH_ASKPASS=str(ask), SSH_ASKPASS_REQUIRE="force", DISPLAY=":0")
        signer = signing.first_key(short, parse_wish(f"ssh-agent:{path}"))
        assert signer.public_line == line
        ssh_keygen_accepts(short, signer)
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="needs swtpm (package swtpm)")
def test_a_key_in_a_tpm(short: Path) -> None:
    try:
        import tpm2_pytss  # noqa: F401
    except (ImportError, NotImplementedError, RuntimeError):
        pytest.skip("needs tpm2-pytss (make tpm)")
    command = [
        "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={short}", "--flags", "not-need-init,startup-clear",
        "--server", f"type=unixio,path={short}/s", "--ctrl", f"type=unixio,path={short}/s.ctrl",
    ]  # fmt: skip

    def started() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not (short / "s.ctrl").exists():
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        return process

    process = started()
    try:
        signer = signing.first_key(short, parse_wish(f"tpm2:swtpm:path={short}/s"))
        ssh_keygen_accepts(short, signer)
        assert (short / "signing_key.json").stat().st_mode & 0o777 == 0o600
        process.kill()
        process.wait()
        for name in ("s", "s.ctrl"):
            (short / name).unlink(missing_ok=True)
        with pytest.raises(SigningKeyError, match="TPM"):
            signing.probe(signing.signer_of(short))
        process = started()  # a reboot: the key is still there
        again = signing.signer_of(short)
        assert again.public_line == signer.public_line
        settings = (short / "signing_key.json").read_bytes()
        edited = json.loads(settings) | {"area": "00"}
        (short / "signing_key.json").write_text(json.dumps(edited))
        with pytest.raises(SigningKeyError, match="TPM"):
            signing.probe(signing.signer_of(short))
        (short / "signing_key.json").write_bytes(settings)
        ssh_keygen_accepts(short, again)
    finally:
        process.kill()
        process.wait()
