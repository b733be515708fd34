"""The SSH connection to the controller: its host key pinned, weak algorithms off, no other keys offered."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expunge_agent.errors import PeerIdentityError, TransportError
from expunge_agent.protocol import sshsig
from expunge_agent.state import ControllerAddress

CONNECT_TIMEOUT = 15.0
WEAK = {
    "ciphers": ["3des-cbc", "aes128-cbc", "aes192-cbc", "aes256-cbc"],
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1", "hmac-sha1-96"],
    "kex": [
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
    ],
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
}
USER_AGENT = "agent"
USER_ENROL = "enrol"
SUBSYSTEM = "expunge"


class ChannelStream:
    """A stream over an SSH channel."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def receive(self, timeout: float) -> bytes | None:
        """Bytes from the controller."""
        self._channel.settimeout(timeout)
        try:
            data: bytes = self._channel.recv(65536)
        except TimeoutError:
            return None
        except OSError as error:
            raise TransportError(
                "The connection to the controller broke.", "It will be called again."
            ) from error
        return data

    def send(self, data: bytes) -> None:
        """Send to the controller."""
        self._channel.settimeout(CONNECT_TIMEOUT * 4)
        try:
            self._channel.sendall(data)
        except OSError as error:
            raise TransportError(
                "The connection to the controller broke.", "It will be called again."
            ) from error


@contextmanager
def connection(address: ControllerAddress, key: Path, user: str) -> Iterator[ChannelStream]:
    """An open channel to the controller's subsystem.

    Raises TransportError when it cannot be reached, PeerIdentityError when another host key
    answers or our key is not known there.
    """
    import paramiko  # 0.3 s: not for the verbs that never dial

    try:
        plain = socket.create_connection((address.host, address.port), CONNECT_TIMEOUT)
    except OSError as error:
        raise TransportError(
            f"The controller at {address.host}:{address.port} cannot be reached ({error.strerror or error}).",
            "Check the address, the network, and that `expunge serve` runs.",
        ) from error
    transport = paramiko.Transport(plain, disabled_algorithms=WEAK)
    try:
        transport.banner_timeout = transport.auth_timeout = transport.channel_timeout = CONNECT_TIMEOUT
        transport.set_keepalive(30)
        try:
            transport.start_client(timeout=CONNECT_TIMEOUT)
            _check_host_key(transport, address)
            transport.auth_publickey(user, paramiko.PKey.from_path(key))
            channel = transport.open_session(timeout=CONNECT_TIMEOUT)
            channel.invoke_subsystem(SUBSYSTEM)
        except paramiko.AuthenticationException as error:
            raise PeerIdentityError(
                "The controller does not know this agent's key.",
                "Enrol this machine again with a new token (expunge enrol, expunge-agent enrol).",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise TransportError(
                f"The SSH connection to {address.host}:{address.port} failed ({error}).",
                "Check that this is the controller's SSH endpoint.",
            ) from error
        yield ChannelStream(channel)
    finally:
        transport.close()


def _check_host_key(transport: Any, address: ControllerAddress) -> None:
    key = transport.get_remote_server_key()
    line = f"{key.get_name()} {key.get_base64()}"
    if line != sshsig.normal_line(address.host_key):
        raise PeerIdentityError(
            f"The host key at {address.host}:{address.port} is {sshsig.fingerprint(line)}, "
            f"expected {sshsig.fingerprint(address.host_key)}.",
            "Somebody else may be answering there. If the controller got a new key, enrol again.",
        )
