"""An ssh-agent of our own, in a thread: it can lose its key, answer nonsense, or hang up."""

from __future__ import annotations

import socket
import struct
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import PrivateKeySigner


class SmallAgent:
    """Offers one key. ``signs`` counts how often it may still sign (None: for ever); ``lies`` spoils signatures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.signer = PrivateKeySigner(Ed25519PrivateKey.generate())
        self.signs: int | None = None
        self.lies = False
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(path))
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Be gone."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)
        self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line:
                length = struct.unpack(">I", line.recv(4, socket.MSG_WAITALL))[0]
                line.sendall(_string(self._answer(line.recv(length, socket.MSG_WAITALL))))

    def _answer(self, request: bytes) -> bytes:
        blob = sshsig.public_blob(self.signer.public_line)
        if request[0] == 11:
            foreign = _string(_string(b"ssh-rsa") + b"1234") + _string(b"an RSA key")
            return b"\x0c" + struct.pack(">I", 2) + foreign + _string(blob) + _string(b"ours")
        key_length = struct.unpack_from(">I", request, 1)[0]
        data_length = struct.unpack_from(">I", request, 5 + key_length)[0]
        data = request[9 + key_length : 9 + key_length + data_length]
        if request[5 : 5 + key_length] != blob or self.signs == 0:
            return b"\x05"
        if self.signs is not None:
            self.signs -= 1
        return b"\x0e" + _string(self.signer.signature_blob(b"other" if self.lies else data))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
