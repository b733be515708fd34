"""The agent's side of a conversation: takes orders in, shows how they go, hands receipts over.

It needs no privilege: it writes to the spool and reads what the privileged run left behind. It
never acts on a medium, and a lost connection loses only the view.
"""

from __future__ import annotations

import os
import secrets
import select
import time
from pathlib import Path
from typing import Protocol

from expunge_agent import __version__
from expunge_agent.devices import host
from expunge_agent.errors import DocumentError, ExpungeError, PeerIdentityError, ProtocolError, TransportError
from expunge_agent.files import read_limited
from expunge_agent.inventory_report import ask_for_record, read_record, report, with_record
from expunge_agent.outbox import Outbox
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import Digest
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.order import MAX_ORDER, order_digest
from expunge_agent.starter import Starter
from expunge_agent.state import ROTATION, State

INSTANCE = secrets.token_hex(8)
"""Tells this process from another one that claims to be the same agent."""
WATCHING = 0.1
IDLE = 2.0
PEER_SILENCE = 120.0
"""Seconds after which a silent controller is asked whether it is there, and then given up."""


class Stream(Protocol):
    """A byte stream to the other side."""

    def receive(self, timeout: float) -> bytes | None:
        """Some bytes; None when nothing came within `timeout` seconds; empty when it was closed."""

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises TransportError."""


class StdioStream:
    """Standard input and output: how a forced command of sshd talks."""

    def receive(self, timeout: float) -> bytes | None:
        """Bytes from standard input."""
        ready, _, _ = select.select([0], [], [], timeout)
        return os.read(0, 65536) if ready else None

    def send(self, data: bytes) -> None:
        """Write to standard output."""
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError as error:
            raise TransportError("The controller hung up.", "It will call again.") from error


class Conversation:
    """One connection from hello to bye. `starter` runs the orders, where no systemd unit does."""

    def __init__(self, state: State, stream: Stream, starter: Starter | None = None) -> None:
        self._state = state
        self._stream = stream
        self._starter = starter
        self._outbox = Outbox(state.root)
        self._decoder = wire.FrameDecoder()
        self._followed: dict[Digest, _EventTail] = {}
        self._handed_over: set[int] = set()
        self._heard = time.monotonic()
        self._asked = False
        self._offered = b""
        self._greeted = False
        self._refused = False

    @property
    def was_welcome(self) -> bool:
        """Whether the controller spoke to us, and not only to refuse."""
        return self._greeted and not self._refused

    def run(self) -> None:
        """Talk until the other side closes. Raises ProtocolError, DocumentError or TransportError."""
        try:
            self._greet()
            while self._turn():
                pass
        except (ProtocolError, DocumentError) as error:
            self._send(wire.Failure(code=error.code, message=error.message, remedy=error.remedy))
            raise

    def _greet(self) -> None:
        self._send(
            wire.Hello(
                version=wire.PROTOCOL_VERSION,
                role="agent",
                software=f"expunge-agent {__version__}",
                machine_id=self._state.machine_id,
                boot_id=host.boot_id(),
                instance=INSTANCE,
            )
        )
        self._offer_enrolment()

    def _offer_enrolment(self) -> None:
        """An agent that does not dial shows its signed enrolment at every call; only the first counts."""
        path = self._state.root / "enrolment.json"
        if path.exists() and not (self._state.root / "controller.json").exists():
            document = wire.Document.of(
                read_limited(path, MAX_ORDER), read_limited(path.with_name("enrolment.json.sig"), 65536)
            )
            self._send(wire.EnrolRequest(document=document))

    def _offer_rotation(self) -> None:
        """A change of signing keys goes before the receipts signed with the new one; only the first counts."""
        path = self._state.root / ROTATION
        body = read_limited(path, MAX_ORDER) if path.exists() else b""
        if body and body != self._offered:
            signature, endorsement = (
                read_limited(path.with_name(path.name + ending), 65536) for ending in (".sig", ".old.sig")
            )
            document = wire.Document.of(body, signature)
            self._send(wire.RotateKey(document=document, endorsement=endorsement.decode("ascii", "replace")))
            self._offered = body

    def _turn(self) -> bool:
        data = self._stream.receive(WATCHING if self._followed else IDLE)
        if data == b"":
            return False
        if data:
            self._heard, self._asked = time.monotonic(), False
            for message in self._decoder.feed(data):
                if isinstance(message, wire.Bye):
                    return False
                self._answer(message)
        if self._starter is not None:
            self._starter.tick()
        self._check_silence()
        self._show_events()
        self._hand_over()
        return True

    def _answer(self, message: wire.Message) -> None:
        if not self._greeted and not isinstance(message, wire.Failure):
            wire.check_hello(message, "controller")
            self._greeted = True
            return
        match message:
            case wire.SubmitOrder(document=document):
                self._take(document)
            case wire.Acknowledge(receipt=digest):
                self._outbox.acknowledge(digest)
            case wire.InventoryRequest(paths=paths):
                self._send(self._inventory(paths))
            case wire.Ping():
                self._send(wire.Pong())
            case wire.Pong() | wire.Enrolled():
                pass
            case wire.Failure(code=code, message=text, remedy=remedy):
                self._refused = True
                kind = PeerIdentityError if code in ("duplicate-agent", "peer-identity") else TransportError
                raise kind(f"The controller refused ({code}): {text}", remedy)
            case _:
                raise ProtocolError(
                    f"A controller does not send {type(message).__name__}.", "Check the address."
                )

    def _inventory(self, paths: list[str]) -> wire.Inventory:
        """What this user sees, and what root recorded of the drives where root carries the orders out."""
        if self._starter is not None:
            return report(paths, self._state.root)
        asked_for = ask_for_record(self._state.root, paths)
        answer = report(paths, self._state.root, runs_orders=False)
        return with_record(answer, read_record(self._state.root, asked_for, paths), paths)

    def _take(self, document: wire.Document) -> None:
        body, signature = document.bytes()
        if len(body) > MAX_ORDER:
            error = DocumentError(
                f"The order has {len(body)} bytes; {MAX_ORDER} are taken.", "Name fewer targets."
            )
            self._send(wire.Failure(code=error.code, message=error.message, remedy=error.remedy))
            return
        digest = order_digest(body)
        if (number := self._state.receipt_number(digest)) is not None:
            self._send(wire.OrderState(order=digest, state="finished"))
            self._hand_over_one(number)
            return
        if not (self._state.order_folder(digest) / "order.json").exists():
            try:
                self._state.spool(digest, body, signature)
            except ExpungeError as error:
                self._send(wire.Failure(code=error.code, message=error.message, remedy=error.remedy))
                return
        running = self._state.is_running(digest)
        self._send(wire.OrderState(order=digest, state="running" if running else "spooled"))
        self._followed[digest] = _EventTail(self._state.order_folder(digest) / "events.jsonl")
        if self._starter is not None:
            self._starter.start(digest)

    def _show_events(self) -> None:
        for digest, tail in list(self._followed.items()):
            finished = self._state.receipt_number(digest) is not None
            for event in tail.new():
                self._send(wire.Progress(event=event))
            if finished:
                del self._followed[digest]

    def _hand_over(self) -> None:
        self._offer_rotation()
        for number in self._outbox.pending():
            if number not in self._handed_over:
                self._hand_over_one(number)

    def _hand_over_one(self, number: int) -> None:
        self._offer_rotation()
        sealed = self._outbox.get(number)
        self._send(
            wire.ReceiptMessage(
                order=sealed.order,
                document=wire.Document.of(sealed.body, sealed.signature),
                second=sealed.second,
            )
        )
        self._handed_over.add(number)

    def _check_silence(self) -> None:
        silent = time.monotonic() - self._heard
        if silent > 2 * PEER_SILENCE:
            raise TransportError("The controller has been silent for too long.", "It will be called again.")
        if silent > PEER_SILENCE and not self._asked:
            self._asked = True
            self._send(wire.Ping())

    def _send(self, message: wire.Message) -> None:
        self._stream.send(wire.encode(message))


class _EventTail:
    """Reads an order's event file as it grows; a half-written last line waits for its end.

    What was there at the first look is history: of its progress only the newest is given.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._history = True

    def new(self) -> list[Event]:
        if not self._path.exists():
            return []
        events: list[Event] = []
        with self._path.open("rb") as handle:
            handle.seek(self._offset)
            while data := handle.read(1 << 20):
                self._offset += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                events += [event for event in map(_event, lines) if event is not None]
                if self._history:
                    events = _without_old_progress(events)
        self._history = False
        return events


def _without_old_progress(events: list[Event]) -> list[Event]:
    newest = {event.target: event for event in events if event.kind is EventKind.PROGRESS}
    return [
        event for event in events if event.kind is not EventKind.PROGRESS or newest[event.target] is event
    ]


def _event(line: bytes) -> Event | None:
    """The event in `line`; None for one that a crash cut short."""
    try:
        return canonical.loads(line, Event, "event")
    except DocumentError:
        return None
