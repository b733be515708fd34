"""A real controller in a folder, and an agent that is nothing but keys and words on the wire."""

from __future__ import annotations

import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import paramiko
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from expunge_agent.protocol import canonical, sshsig, wire
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.enrolment import Enrolment, EnrolmentToken, HostFacts
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.receipt import Receipt
from expunge_agent.protocol.rotation import KeyRotation, granted
from expunge_agent.protocol.sshsig import PrivateKeySigner, Signer
from expunge_controller import dispatch, fleet
from expunge_controller.bundle import SignedBytes
from expunge_controller.context import Controller
from expunge_controller.init import init
from expunge_controller.keys import load_key
from expunge_controller.settings import Config, Home, load_config
from expunge_controller.store.rows import MachineRow, OrderRow, SshAddress
from expunge_controller.store.sqlite import open_store
from expunge_profiles.load import builtin
from support.evidence import DISK, MACHINE, World

T = TypeVar("T")
FACTS = HostFacts(hostname="store-17", kernel="Linux 6.1.0", boot_id="b" * 36, host_keys=[])


def quiet_log() -> Any:
    """A logger whose lines go nowhere."""
    return structlog.wrap_logger(structlog.PrintLogger(StringIO()))


def make_controller(folder: Path, port: int = 4722, **config: Any) -> Controller:
    """A fresh controller in `folder`; close its store."""
    home = Home(folder)
    folder.mkdir(parents=True)
    home.database.write_bytes(_empty_database())  # as a crash of init would leave it; it goes on from there
    home.database.chmod(0o600)
    init(home, Config(name="test", address="127.0.0.1", port=port, **config))
    return Controller(home, load_config(home), open_store(home.database), load_key(home.order_key))


@cache
def _empty_database() -> bytes:
    """A database with all its tables, made once: the migrations take their time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "controller.db"
        open_store(path, create=True).close()
        return path.read_bytes()


def eventually(probe: Callable[[], T], seconds: float = 10.0) -> T:
    """What `probe` returns once it is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@dataclass
class FakeAgent:
    """The keys of an agent, and a `World` to make its receipts."""

    machine_id: str = MACHINE
    world: World = field(default_factory=lambda: World(second=False))  # enrolled before there were any
    dial_private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def signing(self) -> PrivateKeySigner:
        """The key that signs receipts."""
        return self.world.agent

    @property
    def dial_line(self) -> str:
        """The public key it dials with."""
        return PrivateKeySigner(self.dial_private).public_line

    @property
    def paramiko_key(self) -> paramiko.PKey:
        """The key it dials with, for an SSH client."""
        return paramiko_key(self.dial_private)

    def enrolment(self, token: EnrolmentToken, **changes: Any) -> tuple[bytes, bytes]:
        """The signed enrolment for `token`."""
        document = Enrolment(
            format="expunge/enrolment/v1",
            secret=token.secret,
            machine_id=self.machine_id,
            signing_key=self.signing.public_line,
            dial_key=self.dial_line,
            host=FACTS,
            at=timestamp(now()),
        )
        body = canonical.dumps(replace(document, **changes))
        return body, sshsig.sign(self.signing, sshsig.ENROLMENT_NAMESPACE, body)

    def rotation(self, new: Signer, secret: str, **changes: Any) -> tuple[bytes, bytes, bytes]:
        """Its word that `new` signs from now on: the document, the new key's signature, the old one's."""
        document = KeyRotation(
            format="expunge/key-rotation/v1",
            machine_id=self.machine_id,
            old_key=self.signing.public_line,
            new_key=new.public_line,
            at=timestamp(now()),
        )
        body = canonical.dumps(replace(granted(document, secret), **changes))
        first, second = (sshsig.sign(key, sshsig.ROTATION_NAMESPACE, body) for key in (new, self.signing))
        return body, first, second

    def receipt(self, order: bytes, **changes: Any) -> SignedBytes:
        """A signed receipt of a clean wipe by `order`."""
        receipt = self.world.receipt(order)
        receipt = replace(receipt, agent=replace(receipt.agent, machine_id=self.machine_id))
        return self.sealed(replace(receipt, **changes))

    def sealed(self, receipt: Receipt) -> SignedBytes:
        """`receipt`, frozen and signed."""
        return self.world.signed_receipt(receipt)

    def hello(self, instance: str = "one", **changes: Any) -> wire.Hello:
        """Its first frame."""
        hello = wire.Hello(
            version=wire.PROTOCOL_VERSION,
            role="agent",
            software="expunge-agent test",
            machine_id=self.machine_id,
            boot_id="b" * 36,
            instance=instance,
        )
        return replace(hello, **changes)


def enrolled(
    controller: Controller, agent: FakeAgent, name: str = "alpha", ssh: SshAddress | None = None
) -> MachineRow:
    """`agent`, enrolled as `name`."""
    token = fleet.create_token(controller, name, valid_for=timedelta(hours=1), ssh=ssh, now=now())
    dialled = None
    if ssh is not None:
        with controller.store.read() as unit:
            dialled = fleet.pending_ssh(unit, now())[0]
    return fleet.enrol(
        controller,
        *agent.enrolment(token),
        proven_key=None if ssh else agent.dial_line,
        dialled=dialled,
        now=now(),
    )


def disk(number: int = 1) -> BlockIdentity:
    """A disk unlike others."""
    return replace(DISK, serial=f"FICT{number:07d}", wwn="", size=U64(int(DISK.size)))


def ordered(
    controller: Controller,
    machine: MachineRow,
    *disks: BlockIdentity,
    profile: str = "random-verified",
    **changes: Any,
) -> OrderRow:
    """An order of ours for `disks` (default: one), kept in the store."""
    fields: dict[str, Any] = {
        "level": None,
        "requested_by": "records officer",
        "case_number": "CASE-17",
        "reason": "lease ended",
        "expires_in": timedelta(hours=24),
        "allow_downgrade": False,
        "now": now(),
    }
    targets = [Target(identity=identity, hint="/dev/sdz") for identity in disks or (disk(),)]
    order = dispatch.draft_order(controller, machine, targets, builtin()[profile], **{**fields, **changes})
    return dispatch.create_order(controller, order, fields["now"])


def now() -> datetime:
    """The time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def paramiko_key(key: Ed25519PrivateKey) -> paramiko.PKey:
    """`key` for an SSH client."""
    text = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return paramiko.Ed25519Key(file_obj=StringIO(text))


class Wire:
    """The agent's end of a connection: sends and receives messages over a socket or SSH channel."""

    def __init__(self, channel: Any, under: Any = None) -> None:
        self.channel = channel
        self.under = under
        self._decoder = wire.FrameDecoder()
        self._inbox: list[wire.Message] = []
        channel.settimeout(10)

    def send(self, *messages: wire.Message) -> None:
        """Send `messages`."""
        self.channel.sendall(b"".join(wire.encode(message) for message in messages))

    def receive(self) -> wire.Message | None:
        """The next message that is no ping; None at the end."""
        while True:
            while not self._inbox:
                try:
                    data = self.channel.recv(65536)
                except ConnectionResetError:
                    return None
                if not data:
                    return None
                self._inbox += self._decoder.feed(data)
            message = self._inbox.pop(0)
            if isinstance(message, wire.Ping):
                self.send(wire.Pong())
                continue
            return message

    def expect(self, kind: type[T]) -> T:
        """The next message, which is a `kind`."""
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError, EOFError):
            self.channel.shutdown(2)  # wakes whoever reads
        with suppress(OSError, EOFError):
            self.channel.close()
        if self.under is not None:
            self.under.close()


class SocketStream:
    """A socket as the stream that sessions use."""

    def __init__(self, plain: socket.socket) -> None:
        self._plain = plain

    def recv(self, timeout: float) -> bytes | None:
        """See `link.Stream`."""
        self._plain.settimeout(timeout)
        try:
            return self._plain.recv(65536)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def send(self, data: bytes) -> None:
        """See `link.Stream`."""
        self._plain.settimeout(10)
        with suppress(OSError):
            self._plain.sendall(data)

    def close(self) -> None:
        """See `link.Stream`."""
        self._plain.close()

    def last_words(self) -> str:
        """See `link.Stream`."""
        return ""


def in_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    """Run `work` beside the test; what it raises lands in the list."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, raised


def fresh_machine_id() -> str:
    """A machine id that nobody has."""
    return secrets.token_hex(16)
