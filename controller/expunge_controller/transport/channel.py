"""SSH as both sides of the controller use it: strong algorithms only, and a channel as a stream."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import paramiko

from expunge_agent.errors import TransportError
from expunge_agent.protocol import sshsig

SEND_SECONDS = 60.0
FAREWELL_SECONDS = 1.0
MAX_WORDS = 2000

ALLOWED = {
    "kex": {
        "mlkem768x25519-sha256",
        "curve25519-sha256@libssh.org",
        "curve25519-sha256",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "diffie-hellman-group16-sha512",
    },
    "ciphers": {
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
    },
    "macs": {
        "hmac-sha2-256",
        "hmac-sha2-512",
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
    },
    "keys": {"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"},
    "pubkeys": {"ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512", "rsa-sha2-256"},
}
"""What may be negotiated; everything else that the library offers (CBC, 3DES, SHA-1, MD5) is off."""


def disabled_algorithms() -> dict[str, list[str]]:
    """Everything the library would offer beyond `ALLOWED`."""
    transport = paramiko.Transport
    offered = {
        "kex": transport._preferred_kex,
        "ciphers": transport._preferred_ciphers,
        "macs": transport._preferred_macs,
        "keys": transport._preferred_keys,
        "pubkeys": transport._preferred_pubkeys,
    }
    return {kind: [name for name in names if name not in ALLOWED[kind]] for kind, names in offered.items()}


def key_line(key: Any) -> str:
    """The public key line of a paramiko key."""
    return f"{key.get_name()} {key.get_base64()}"


def shown_key(key: Any) -> str:
    """A paramiko key for people: type and fingerprint."""
    return f"{key.get_name()} {sshsig.fingerprint(key_line(key))}"


LAST_WORDS = 1.0
"""Seconds to wait for a program's exit status after the end of its output."""


class ChannelStream:
    """One SSH channel and the connection under it."""

    def __init__(self, transport: Any, channel: Any) -> None:
        self._transport = transport
        self._channel = channel
        self._words = b""

    def recv(self, timeout: float) -> bytes | None:
        """Bytes as they come; empty at the end; None when none came within `timeout` seconds."""
        self._listen_aside()
        self._channel.settimeout(timeout)
        try:
            data: bytes = self._channel.recv(65536)
        except TimeoutError:
            return None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise TransportError(f"The connection broke ({error}).", "It will be tried again.") from error
        return data

    def send(self, data: bytes) -> None:
        """Hand over all of `data`."""
        self._channel.settimeout(SEND_SECONDS)
        try:
            self._channel.sendall(data)
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise TransportError(f"The connection broke ({error}).", "It will be tried again.") from error

    def close(self) -> None:
        """Close the channel, give the peer a moment to read what was said last, then hang up."""
        with suppress(OSError, EOFError, paramiko.SSHException):  # the connection may be gone
            self._channel.close()
        deadline = time.monotonic() + FAREWELL_SECONDS
        while self._transport.is_active() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._transport.close()

    def last_words(self) -> str:
        """What came on standard error, and the exit status where there was one.

        The end of the output may come first and the status a moment later, so that is waited for.
        """
        if not self._transport.server_mode:
            deadline = time.monotonic() + LAST_WORDS
            while not self._channel.exit_status_ready() and time.monotonic() < deadline:
                time.sleep(0.02)
        self._listen_aside()
        said = " ".join(self._words.decode("utf-8", "replace").split())
        if self._channel.exit_status_ready() and self._channel.recv_exit_status() > 0:
            said = f"{said} (exit status {self._channel.recv_exit_status()})".strip()
        return said

    def _listen_aside(self) -> None:
        """Keep the end of standard error; unread, it would stop the peer."""
        while self._channel.recv_stderr_ready():
            piece = self._channel.recv_stderr(65536)
            if not piece:
                return
            self._words = (self._words + piece)[-MAX_WORDS:]
