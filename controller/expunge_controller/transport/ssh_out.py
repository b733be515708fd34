"""Dialling a machine's own sshd: pinned host key, forced command, jump hosts opened by us."""

from __future__ import annotations

import getpass
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import paramiko

from expunge_agent.errors import PeerIdentityError, TransportError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_controller.context import Controller
from expunge_controller.store.rows import SshAddress
from expunge_controller.transport.channel import (
    ChannelStream,
    disabled_algorithms,
    key_line,
    shown_key,
)
from expunge_controller.transport.known_hosts import keys_of
from expunge_controller.transport.ssh_config import Hop, route

CONNECT_SECONDS = 20.0
COMMAND = "expunge-agent serve"
"""Asked for, though the machine's authorized_keys forces it anyway."""
KEY_TYPES = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""Signature algorithms of each host key type."""


class Dialled:
    """An open channel to a machine, and what must be closed with it. ``host_key`` is the line it showed."""

    def __init__(self, stream: ChannelStream, host_key: str, under: ExitStack) -> None:
        self._stream = stream
        self._under = under
        self.host_key = host_key

    def recv(self, timeout: float) -> bytes | None:
        """See `link.Stream`."""
        return self._stream.recv(timeout)

    def send(self, data: bytes) -> None:
        """See `link.Stream`."""
        self._stream.send(data)

    def close(self) -> None:
        """Close the channel, then the jump hosts under it."""
        self._stream.close()
        self._under.close()

    def last_words(self) -> str:
        """See `link.Stream`."""
        return self._stream.last_words()


def dial(controller: Controller, address: SshAddress) -> Dialled:
    """Connect to a machine and start its agent.

    Raises TransportError when it cannot be reached or does not take our key, PeerIdentityError
    when it (or a jump host) shows another host key than the one that is known.
    """
    config = controller.config
    way = route(
        config.ssh_config,
        host=address.host,
        port=address.port,
        user=address.user,
        default_user=getpass.getuser(),
    )
    own_key = str(controller.home.ssh_client_key)
    with ExitStack() as stack:
        below: Any = None
        for hop in way.jumps:
            transport = _connect(hop, below, stack)
            _check_jump(transport, hop, config.known_hosts)
            _login(transport, hop, (own_key, *hop.identities))
            below = transport
        transport = _connect(way.destination, below, stack, _pinned_types(address.host_key))
        _check_pinned(transport, address)
        _login(transport, way.destination, (own_key,))
        shown = key_line(transport.get_remote_server_key())
        try:
            channel = transport.open_session(timeout=CONNECT_SECONDS)
            channel.exec_command(COMMAND)
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _broken(way.destination, error) from error
        return Dialled(ChannelStream(transport, channel), shown, stack.pop_all())


def _connect(hop: Hop, below: Any, stack: ExitStack, key_types: tuple[str, ...] = ()) -> Any:
    """A transport to `hop` with its keys exchanged, through the transport `below` where there is one."""
    try:
        if below is None:
            plain: Any = socket.create_connection((hop.host, hop.port), CONNECT_SECONDS)
        else:
            plain = below.open_channel(
                "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=CONNECT_SECONDS
            )
        stack.callback(plain.close)
        transport = paramiko.Transport(plain, disabled_algorithms=disabled_algorithms())
        stack.callback(transport.close)
        transport.banner_timeout = transport.auth_timeout = CONNECT_SECONDS
        if key_types:
            transport.get_security_options().key_types = key_types
        transport.start_client(timeout=CONNECT_SECONDS)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _broken(hop, error) from error
    return transport


def _login(transport: Any, hop: Hop, key_files: tuple[str, ...]) -> None:
    """Authenticate with the first of `key_files` that the host takes."""
    for file in key_files:
        try:
            key = paramiko.PKey.from_path(Path(file).expanduser())
        except (OSError, ValueError, paramiko.SSHException, paramiko.UnknownKeyType):
            continue  # absent, or behind a passphrase: the next one may do
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.AuthenticationException:
            continue
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _broken(hop, error) from error
        if transport.is_authenticated():
            return
    raise TransportError(
        f"{hop.user}@{hop.host} does not take the controller's key.",
        "Put the line that `expunge enrol` printed into that account's authorized_keys.",
    )


def _pinned_types(pinned: str) -> tuple[str, ...]:
    """The signature algorithms that fit a pinned key line; any for a fingerprint."""
    return KEY_TYPES.get(pinned.split(maxsplit=1)[0], ()) if " " in pinned else ()


def _check_pinned(transport: Any, address: SshAddress) -> None:
    key = transport.get_remote_server_key()
    expected = sshsig.fingerprint(address.host_key) if " " in address.host_key else address.host_key
    if sshsig.fingerprint(key_line(key)) != expected:
        raise PeerIdentityError(
            f"The host key of {address.host} is {shown_key(key)}, expected {expected}.",
            "Somebody else may be answering there. If the machine got a new key: "
            "expunge enrol NAME --ssh … --host-key …",
        )


def _check_jump(transport: Any, hop: Hop, known_hosts: str) -> None:
    """A jump host must be in the user's known_hosts; nobody is asked to trust it now."""
    path = Path(known_hosts).expanduser()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    known = keys_of(text, hop.name, hop.port)
    key = transport.get_remote_server_key()
    line = key_line(key)
    if line in known.revoked:
        raise PeerIdentityError(
            f"The jump host {hop.name} shows the revoked key {shown_key(key)}.", "Do not use it."
        )
    if line not in known.good:
        expected = ", ".join(sorted(_shown(good) for good in known.good)) or "none that is known"
        raise PeerIdentityError(
            f"The jump host {hop.name} shows {shown_key(key)}; {path} has {expected}.",
            f"If that is its key, connect once by hand: ssh -p {hop.port} {hop.host}",
        )


def _shown(line: str) -> str:
    try:
        return f"{line.split(maxsplit=1)[0]} {sshsig.fingerprint(line)}"
    except VerificationError:  # somebody else's file
        return "a damaged line"


def _broken(hop: Hop, error: Exception) -> TransportError:
    detail = str(error) or type(error).__name__
    return TransportError(
        f"{hop.host}:{hop.port} cannot be reached over SSH ({detail}).",
        "Check the address, the network, and that sshd runs there.",
    )
