"""The SSH endpoint that machines dial: public keys only, one subsystem, one channel a connection.

The user ``agent`` must show the dial key of an enrolled machine. The user ``enrol`` may show any
key; it gets to present an enrolment, and nothing else.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import paramiko

from expunge_agent.errors import ExpungeError, TransportError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_controller.context import Controller
from expunge_controller.store.rows import MachineRow
from expunge_controller.transport.channel import ChannelStream, disabled_algorithms, key_line, shown_key
from expunge_controller.transport.registry import Registry
from expunge_controller.transport.session import Peer, Session

SUBSYSTEM = "expunge"
HANDSHAKE_SECONDS = 20.0
"""From the first byte to the open subsystem."""
MAX_ENROLLING = 8
"""Simultaneous connections by strangers who may want to enrol."""


class Door(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko ships no types
    """Decides who may enter; one per connection."""

    def __init__(self, controller: Controller, address: str, log: Any) -> None:
        self._controller = controller
        self._address = address
        self._log = log
        self.machine: MachineRow | None = None
        self.line = ""
        self.open = threading.Event()

    def get_allowed_auths(self, username: str) -> str:
        """Public keys, nothing else."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: Any) -> int:
        """Whether this key opens the door for this user (asked before the signature is checked, too)."""
        try:
            line = sshsig.normal_line(key_line(key))
        except VerificationError:
            return self._refuse(username, key, "neither Ed25519 nor ECDSA P-256")
        machine = None
        if username == "agent":
            try:
                with self._controller.store.read() as unit:
                    machine = unit.fleet.machine_by_dial_key(line)
            except ExpungeError as error:
                return self._refuse(username, key, error.message)
            if machine is None:
                return self._refuse(username, key, "unknown agent key")
        elif username != "enrol":
            return self._refuse(username, key, "unknown user")
        self.machine, self.line = machine, line
        return int(paramiko.AUTH_SUCCESSFUL)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """One session channel, and only one."""
        if kind == "session" and not self.open.is_set():
            return int(paramiko.OPEN_SUCCEEDED)
        return int(paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED)

    def check_channel_subsystem_request(self, channel: Any, name: str) -> bool:
        """The subsystem of this protocol."""
        if name != SUBSYSTEM or self.open.is_set():
            return False
        self.open.set()
        return True

    def _refuse(self, username: str, key: Any, why: str) -> int:
        self.machine, self.line = None, ""
        self._log.warning("refused a key", user=username, key=shown_key(key), reason=why)
        return int(paramiko.AUTH_FAILED)


class Endpoint:
    """Listens and gives each connection a thread. `start` it, `stop` it."""

    def __init__(
        self,
        controller: Controller,
        registry: Registry,
        log: Any,
        *,
        listen: str = "",
        port: int | None = None,
    ) -> None:
        config = controller.config
        self._controller = controller
        self._registry = registry
        self._log = log
        self._address = (listen or config.listen, config.port if port is None else port)
        self._host_key = paramiko.Ed25519Key(filename=str(controller.home.ssh_host_key))
        self._slots = threading.BoundedSemaphore(config.max_connections)
        self._enrolling = threading.BoundedSemaphore(MAX_ENROLLING)
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._visits: set[threading.Thread] = set()

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._socket is None:
            raise TransportError("The endpoint does not listen.", "Start it first.")
        return int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Where it listens, for people."""
        return f"{self._address[0]}:{self.port}"

    def start(self) -> None:
        """Bind and listen. Raises TransportError when the address cannot be had."""
        host, port = self._address
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=128)
        except OSError as error:
            raise TransportError(
                f"The address {host}:{port} cannot be used ({error.strerror or error}).",
                "Stop what listens there, or change `listen` and `port` in config.toml.",
            ) from error
        self._socket.settimeout(0.5)
        self._thread = threading.Thread(target=self._accept, name="endpoint", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """Stop listening, end every session, wait for them up to `seconds`."""
        self._stopping.set()
        self._registry.close()
        deadline = time.monotonic() + seconds
        for thread in [self._thread, *list(self._visits)]:
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if self._socket is not None:
            self._socket.close()

    def _accept(self) -> None:
        assert self._socket is not None  # `start` made it  # noqa: S101
        while not self._stopping.is_set():
            try:
                connection, address = self._socket.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if not self._stopping.is_set():
                    self._log.warning("cannot accept a connection", problem=str(error))
                    time.sleep(0.2)  # out of descriptors, most likely: let some close
                continue
            peer = f"{address[0]}:{address[1]}"
            if not self._slots.acquire(blocking=False):
                self._log.warning("too many connections", peer=peer)
                connection.close()
                continue
            thread = threading.Thread(target=self._visit, args=(connection, peer), name=peer, daemon=True)
            self._visits.add(thread)
            thread.start()

    def _visit(self, connection: socket.socket, peer: str) -> None:
        log = self._log.bind(peer=peer)
        transport = None
        try:
            connection.settimeout(HANDSHAKE_SECONDS)
            transport = paramiko.Transport(connection, disabled_algorithms=disabled_algorithms())
            self._receive(transport, peer, log)
        except ExpungeError as error:
            log.debug("visit ended", code=error.code, problem=error.message)
        except (paramiko.SSHException, EOFError, OSError) as error:
            log.warning("no SSH connection came about", problem=str(error) or type(error).__name__)
        except Exception:
            log.exception("a defect ended this connection")  # others go on
        finally:
            if transport is not None:
                transport.close()
            connection.close()
            self._slots.release()
            self._visits.discard(threading.current_thread())

    def _receive(self, transport: Any, peer: str, log: Any) -> None:
        door = Door(self._controller, peer, log)
        transport.banner_timeout = transport.handshake_timeout = HANDSHAKE_SECONDS
        transport.add_server_key(self._host_key)
        transport.start_server(server=door)
        channel = self._opened(transport, door)
        stranger = door.machine is None
        if stranger and not self._enrolling.acquire(blocking=False):
            raise TransportError("Too many strangers want to enrol at once.", "")
        try:
            Session(
                self._controller,
                ChannelStream(transport, channel),
                Peer(address=peer, proven_key=door.line, machine=door.machine),
                self._registry,
                self._log,
                until_idle=self._is_crowded,
            ).run()
        finally:
            if stranger:
                self._enrolling.release()

    def _opened(self, transport: Any, door: Door) -> Any:
        """The channel on which the subsystem was asked for. Raises TransportError when there is none in time."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        channel = None
        while time.monotonic() < deadline and transport.is_active() and not self._stopping.is_set():
            channel = channel or transport.accept(0.2)
            if channel is not None and door.open.wait(0.2):
                return channel
        raise TransportError("It did not ask for the protocol in time.", "")

    def _is_crowded(self) -> bool:
        """Whether idle machines should hang up and call again later."""
        return self._registry.count() > self._controller.config.hold_connections
