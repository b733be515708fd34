"""People's signatures with OpenSSH's own tools: ssh-keygen makes and checks them, an ssh-agent makes them."""

from __future__ import annotations

import base64
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent.errors import NotFoundError, UsageError
from expunge_agent.protocol import sshsig
from expunge_controller import custodian, people
from expunge_controller.bundle import bundle_files
from expunge_controller.bundling import collect
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.person_keys import read_public, signer_of
from expunge_controller.records.custody import CustodyKind
from support.authenticator import TOUCHED, Authenticator, string
from support.controllers import FakeAgent, enrolled, eventually, now, ordered
from support.people import Folk

pytestmark = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None or shutil.which("ssh-agent") is None,
    reason="needs ssh-keygen and ssh-agent (openssh-client)",
)
EVENT = {"giver": "ann", "receiver": "bob"}


@pytest.fixture
def order(controller: Controller) -> str:
    agent = FakeAgent()
    machine = enrolled(controller, agent)
    made = ordered(controller, machine)
    store_receipt(controller, machine.machine_id, *agent.receipt(made.body), now=now())
    return made.order_id


def medium_of(controller: Controller) -> str:
    with controller.store.read() as unit:
        return unit.evidence.media()[0].digest


def a_key(path: Path, kind: str, passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "somebody", "-f", str(path)], check=True
    )
    return path


def register(controller: Controller, name: str, key: Path) -> None:
    people.add(
        controller, name, read_public(key.with_name(key.name + ".pub")), roles=["custodian"], full_name="",
        title="", organisation="", by="x", now=now(),
    )  # fmt: skip


def signed_by_ssh_keygen(key: Path, body: bytes) -> bytes:
    """As the operator's guide says: the file on standard input, so that nothing is left beside it."""
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "expunge-custody", "-f", str(key)]
    return subprocess.run(command, input=body, capture_output=True, check=True).stdout


def test_plain_ssh_keygen_signs_and_the_readme_checks(
    controller: Controller, order: str, tmp_path: Path
) -> None:
    keys = {name: a_key(tmp_path / name, kind) for name, kind in (("ann", "ed25519"), ("bob", "ecdsa"))}
    for name, key in keys.items():
        register(controller, name, key)
    folk = Folk(controller)
    body = folk.draft(medium_of(controller), CustodyKind.HANDED_OVER, EVENT, location="dock 2")
    done = custodian.record(
        controller, body, [signed_by_ssh_keygen(key, body) for key in keys.values()], now()
    )
    authenticator = Authenticator(flags=TOUCHED)
    folk.add("sky", "custodian", signer=authenticator)
    folk.record(medium_of(controller), CustodyKind.SEALED, {"custodian": "sky"}, seal_id="S-1")
    folder = tmp_path / "bundle"
    for name, data in bundle_files(collect(controller, order, 0, now())).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    readme = (folder / "README.txt").read_text()
    sections = re.split(r"(?m)^(?=\d\. )", readme)
    commands = {
        part.splitlines()[0]: "\n".join(line[4:] for line in part.splitlines() if line.startswith("    "))
        for part in sections
    }
    told = run(commands["2. SIGNATURES"], folder).splitlines()
    assert all(line.startswith("Good ") for line in told), told
    for name in ("ann", "bob", "sky"):
        assert any(f"for person:{name} " in line for line in told), told
    (layout,) = [text for title, text in commands.items() if "LAYOUT" in title]
    assert run(layout, folder) == ""
    event = folder / f"custody/{done.event.seq:03}.json"
    event.write_bytes(event.read_bytes().replace(b"dock 2", b"dock 3"))
    assert run(commands["2. SIGNATURES"], folder).count("Could not verify signature.") == 3


def run(commands: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-c", commands], cwd=folder, capture_output=True, check=False, timeout=60, text=True
    )
    return done.stdout + done.stderr


@pytest.fixture
def agent_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An ssh-agent of the test's own, ended with it."""
    path = str(tmp_path / "agent.sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: os.path.exists(path))
        monkeypatch.setenv("SSH_AUTH_SOCK", path)
        yield path
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_a_key_in_an_ssh_agent(agent_socket: str, tmp_path: Path, kind: str) -> None:
    key = a_key(tmp_path / "key", kind)
    public = tmp_path / "key.pub"
    with pytest.raises(NotFoundError, match="No ssh-agent holds"):
        signer_of(public, lambda: "")
    subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True)
    armored = sshsig.sign(signer_of(public, lambda: ""), sshsig.CUSTODY_NAMESPACE, b"{}")
    assert sshsig.verify(armored, sshsig.CUSTODY_NAMESPACE, b"{}") == read_public(public)


def test_a_security_key_behind_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No FIDO2 device here: an agent of two answers (draft-ietf-sshm-ssh-agent) before a software authenticator."""
    key = Authenticator()
    path = str(tmp_path / "agent.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    thread = threading.Thread(target=serve_agent, args=(listener, key), daemon=True)
    thread.start()
    monkeypatch.setenv("SSH_AUTH_SOCK", path)
    public = tmp_path / "key.pub"
    public.write_text(key.public_line + " token\n")
    armored = sshsig.sign(signer_of(public, lambda: ""), sshsig.CUSTODY_NAMESPACE, b"{}")
    seen = sshsig.examine(armored, sshsig.CUSTODY_NAMESPACE, b"{}")
    assert seen.public_line == key.public_line
    assert seen.presence is not None
    assert seen.presence.user_verified
    thread.join(timeout=10)
    listener.close()
    assert not thread.is_alive()


def serve_agent(listener: socket.socket, key: Authenticator) -> None:
    """Two connections: one that looks whether the key is there, one that signs."""
    blob = sshsig.public_blob(key.public_line)
    for _ in range(2):
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(4):
                request = stream.read(int.from_bytes(head, "big"))
                if request[0] == 11:  # SSH_AGENTC_REQUEST_IDENTITIES
                    answer = b"\x0c" + b"\0\0\0\1" + string(blob) + string(b"token")
                else:  # SSH_AGENTC_SIGN_REQUEST: key, data, flags
                    at = 1 + 4 + len(blob)
                    length = int.from_bytes(request[at : at + 4], "big")
                    answer = b"\x0e" + string(key.signature_blob(request[at + 4 : at + 4 + length]))
                connection.sendall(string(answer))


def test_private_keys_of_ssh_keygen(tmp_path: Path) -> None:
    plain, locked = a_key(tmp_path / "plain", "ecdsa"), a_key(tmp_path / "locked", "ed25519", "secret")
    assert signer_of(plain, lambda: "").public_line == read_public(tmp_path / "plain.pub")
    assert signer_of(locked, lambda: "secret").public_line == read_public(tmp_path / "locked.pub")


def test_a_security_keys_file_is_not_taken_for_a_key(tmp_path: Path) -> None:
    """Such a file holds a handle only; this one is shaped as ssh-keygen writes it, up to the public key."""
    blob = base64.b64decode(Authenticator().public_line.split()[1])
    data = (
        b"openssh-key-v1\0"
        + string(b"none") * 2
        + string(b"")
        + b"\0\0\0\1"
        + string(blob)
        + string(b"x" * 96)
    )
    text = base64.b64encode(data).decode()
    lines = [text[at : at + 70] for at in range(0, len(text), 70)]
    path = tmp_path / "sk"
    path.write_text(
        "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])
    )
    with pytest.raises(UsageError, match="stands for a security key"):
        signer_of(path, lambda: "")
