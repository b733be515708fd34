"""A key in an ssh-agent, by the SSH agent protocol (draft-ietf-sshm-ssh-agent) over its socket.

Each signature opens a connection of its own: an agent that was restarted with the same key is found again.
"""

from __future__ import annotations

import base64
import socket
import struct

from expunge_agent.errors import SigningKeyError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_agent.signers.settings import SshAgentKey

REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE = 11, 12, 13, 14
MOST = 256 * 1024
"""Bytes of an answer, as OpenSSH's agent limits them."""
PATIENCE = 20.0
"""Seconds: a token behind the agent may be slow, a person asked for a touch slower still."""


class SshAgentSigner:
    """Signs with the key of `settings`, wherever the agent has it."""

    def __init__(self, settings: SshAgentKey) -> None:
        self._settings = settings
        self.where = f"the ssh-agent at {settings.socket}"

    @property
    def public_line(self) -> str:
        """The public key line that was pinned."""
        return self._settings.public

    def signature_blob(self, data: bytes) -> bytes:
        """The SSH signature of `data`, as the agent gave it."""
        key = sshsig.public_blob(self._settings.public)
        request = bytes([SIGN_REQUEST]) + _string(key) + _string(data) + struct.pack(">I", 0)
        answer = _ask(self._settings.socket, request)
        if answer[:1] != bytes([SIGN_RESPONSE]):
            raise SigningKeyError(
                f"The ssh-agent at {self._settings.socket} did not sign with {sshsig.fingerprint(self.public_line)}.",
                "Is the key loaded there (ssh-add -l), and may it sign without a question?",
            )
        return _take(answer, 1)[0]


def offered(path: str) -> list[str]:
    """The public key lines of the agent's keys that can sign receipts (Ed25519, ECDSA P-256)."""
    answer = _ask(path, bytes([REQUEST_IDENTITIES]))
    if answer[:1] != bytes([IDENTITIES_ANSWER]) or len(answer) < 5:
        raise SigningKeyError(f"The ssh-agent at {path} lists no keys.", "Is it locked (ssh-add -X)?")
    lines, at = [], 5
    for _ in range(struct.unpack_from(">I", answer, 1)[0]):
        blob, at = _take(answer, at)
        _, at = _take(answer, at)  # the comment
        name, _ = _take(blob, 0)
        try:
            lines.append(
                sshsig.normal_line(f"{name.decode('ascii', 'replace')} {base64.b64encode(blob).decode()}")
            )
        except VerificationError:
            continue  # RSA, certificates, FIDO: not for receipts
    return lines


def choose(path: str, fingerprint: str) -> SshAgentKey:
    """The agent's key with this fingerprint, or its only one. Raises SigningKeyError."""
    lines = offered(path)
    found = [line for line in lines if fingerprint in ("", sshsig.fingerprint(line))]
    if len(found) == 1:
        return SshAgentKey(socket=path, public=found[0])
    names = ", ".join(map(sshsig.fingerprint, lines)) or "none"
    raise SigningKeyError(
        f"The ssh-agent at {path} has {len(found)} keys that fit; it offers {names}.",
        "Load an Ed25519 or ECDSA P-256 key, and name it: ssh-agent:SOCKET#SHA256:…",
    )


def _ask(path: str, request: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(PATIENCE)
            line.connect(path)
            line.sendall(_string(request))
            (length,) = struct.unpack(">I", _exactly(line, 4))
            if length > MOST:
                raise OSError("its answer is too long")
            return _exactly(line, length)
    except OSError as error:
        raise SigningKeyError(
            f"The ssh-agent at {path} cannot be asked ({error.strerror or error}).",
            "Start it, and load the key (ssh-add).",
        ) from error


def _exactly(line: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = line.recv(length - len(data))
        if not more:
            raise OSError("it hung up")
        data += more
    return data


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes, at: int) -> tuple[bytes, int]:
    """The string at `at`, and where the next begins."""
    end = at + 4 + (struct.unpack_from(">I", data, at)[0] if len(data) >= at + 4 else len(data))
    if end > len(data):
        raise SigningKeyError("The ssh-agent's answer is cut off.", "Is it an ssh-agent that listens there?")
    return data[at + 4 : end], end
