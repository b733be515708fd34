"""A real sshd on a loopback port."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller.store.rows import SshAddress

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


class Sshd:
    """A real sshd on a loopback port, for the user who runs the tests."""

    def __init__(self, folder: Path, authorized: str, forwarding: bool = False) -> None:
        folder.mkdir()
        key = Ed25519PrivateKey.generate()
        self.host_key = PrivateKeySigner(key).public_line
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        (folder / "host_key").write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        )
        (folder / "host_key").chmod(0o600)
        (folder / "authorized_keys").write_text(authorized + "\n")
        self.authorized = folder / "authorized_keys"
        (folder / "sshd_config").write_text(
            f"""ListenAddress 127.0.0.1
Port {self.port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding {"yes" if forwarding else "no"}
X11Forwarding no
PrintMotd no
LogLevel ERROR
"""
        )
        assert SSHD is not None
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
            )
        self._log = folder / "log"
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self._log.read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    if probe.recv(4) == b"SSH-":
                        return
            except OSError:
                time.sleep(0.05)
        pytest.fail(f"sshd did not start: {self._log.read_text()}")

    def address(self, **changes: str | int) -> SshAddress:
        """How to dial it."""
        fields: dict[str, str | int] = {
            "user": getpass.getuser(),
            "host": "127.0.0.1",
            "port": self.port,
            "host_key": self.host_key,
        }
        return SshAddress(**{**fields, **changes})  # type: ignore[arg-type]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def separation() -> Iterator[None]:
    """As root, sshd wants its empty folder."""
    folder = Path("/run/sshd")
    made = os.geteuid() == 0 and not folder.exists()
    if made:
        folder.mkdir(mode=0o755)
    try:
        yield
    finally:
        if made:
            folder.rmdir()
