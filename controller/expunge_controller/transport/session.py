"""The controller's side of one connection, the same whichever side dialled.

Greets, enrols a machine that is not known yet, takes receipts, hands over orders one at a time,
passes on questions and events. Whatever the peer does wrong costs a `Failure` frame, a log line
and this connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from expunge_agent.errors import (
    EnrolmentError,
    ExpungeError,
    PeerIdentityError,
    ProtocolError,
    TransportError,
)
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.event import EventKind
from expunge_controller import __version__, dispatch, fleet, intake, rotating
from expunge_controller.context import Controller, utc_now
from expunge_controller.store.rows import MachineRow, OrderRow, RequestRow, TokenRow
from expunge_controller.transport.link import Link, PeerClosedError, Stream
from expunge_controller.transport.registry import DuplicateAgentError, Registry

HELLO_SECONDS = 15.0
ANSWER_SECONDS = 60.0
TICK_SECONDS = 0.2
PING_AFTER_SECONDS = 15.0
SILENT_SECONDS = 60.0
QUIET_SECONDS = 1.0
"""How long nothing but progress may have come before a session without work says bye."""
LINGER_SECONDS = 5.0
"""The same while orders run there: a short one ends within it."""
FIRST_PAUSE = 15.0
LONGEST_PAUSE = 300.0
"""Seconds until an order is handed over again that the agent could not take, doubled each time."""
PROGRESS_SECONDS = 0.2
"""Progress events of one order closer together than this are not written."""
SEEN_SECONDS = 30.0
REQUEST_AGE = timedelta(minutes=2)
"""Questions older than this are nobody's any more."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Whom the transport vouches for.

    ``proven_key`` is the key line of a machine that dialled us, None when we dialled; ``machine``
    is None while it is not enrolled; ``token`` what we dialled to complete an enrolment.
    """

    address: str
    proven_key: str | None
    machine: MachineRow | None = None
    token: TokenRow | None = None


class Session:
    """One connection, run by one thread.

    `until_idle` says whether to say bye when there is nothing to hand over and nobody follows;
    `leaves_followers` whether to do so although somebody follows.
    """

    def __init__(
        self,
        controller: Controller,
        stream: Stream,
        peer: Peer,
        registry: Registry,
        log: Any,
        until_idle: Callable[[], bool],
        leaves_followers: Callable[[], bool] = lambda: False,
    ) -> None:
        self._controller = controller
        self._stream = stream
        self._link = Link(stream)
        self._peer = peer
        self._registry = registry
        self._log = log.bind(peer=peer.address)
        self._until_idle = until_idle
        self._leaves_followers = leaves_followers
        self._machine = peer.machine
        self._asked: str | RequestRow | None = None  # an order's digest, or a question
        self._asked_at = 0.0
        self._handed_over: set[str] = set()
        self._again: dict[str, tuple[float, float]] = {}  # order → (when to try again, pause)
        self._spoke_at = time.monotonic()
        self._progress_at: dict[str, float] = {}
        self._pinged = False
        self._seen_at = 0.0
        self._stopping = threading.Event()
        self._proof_wanted = threading.Event()
        self._proof = threading.Event()
        self.instance = ""

    # -- from other threads ------------------------------------------------------------------

    def stop(self) -> None:
        """End the session soon."""
        self._stopping.set()

    def prove_alive(self, seconds: float) -> bool:
        """Whether the agent gives a sign of life within `seconds`."""
        self._proof.clear()
        self._proof_wanted.set()
        return self._proof.wait(seconds) and not self._stopping.is_set()

    # -- the thread of this session ----------------------------------------------------------

    def run(self) -> None:
        """Talk until one side ends it. Raises what ended it, when that was not a plain close."""
        try:
            self._greet()
            if self._machine is None:
                self._enrol(self._link.expect(HELLO_SECONDS))
            if self._peer.proven_key is not None and self._peer.machine is None:
                self._see_off()
                return
            self._converse()
        except PeerClosedError as error:
            self._log.info("the agent closed the connection", detail=error.message)
            if self._machine is None or not self._seen_at:
                raise
        except ExpungeError as error:
            self._log.warning("connection ended", code=error.code, problem=error.message)
            self._complain(error)
            raise
        finally:
            self._stopping.set()
            self._proof.set()  # whoever waits for a sign of life need not wait on
            self._stream.close()

    def _greet(self) -> None:
        hello = wire.check_hello(self._link.expect(HELLO_SECONDS), "agent")
        machine = self._machine
        if machine is not None and hello.machine_id != machine.machine_id:
            raise PeerIdentityError(
                f"The agent says it is machine {hello.machine_id}, its key is that of {machine.name}.",
                "Enrol it again.",
            )
        self.instance = hello.instance
        self._link.send(
            wire.Hello(
                version=wire.PROTOCOL_VERSION,
                role="controller",
                software=f"expunge {__version__}",
                name=self._controller.config.name,
            )
        )

    def _enrol(self, message: wire.Message) -> None:
        """Enrol the peer, or confirm that it is enrolled."""
        if not isinstance(message, wire.EnrolRequest):
            raise EnrolmentError(
                "The machine is not enrolled, and did not ask to be.",
                "Run `expunge-agent enrol TOKEN` on it, with a token from `expunge enrol`.",
            )
        body, signature = message.document.bytes()
        row = fleet.enrol(
            self._controller,
            body,
            signature,
            proven_key=self._peer.proven_key,
            dialled=self._peer.token or self._machine,
            now=utc_now(),
        )
        if self._machine is not None and row.machine_id != self._machine.machine_id:
            raise PeerIdentityError("The enrolment is another machine's.", "Enrol this machine again.")
        if self._machine is None:
            self._log.info("enrolled", machine=row.name, machine_id=row.machine_id)
        self._machine = row
        self._link.send(wire.Enrolled(name=row.name))

    def _see_off(self) -> None:
        """Let a machine that enrolled by dialling hang up by itself, so that it reads our answer."""
        deadline = time.monotonic() + HELLO_SECONDS
        try:
            while time.monotonic() < deadline and not self._stopping.is_set():
                self._link.receive(TICK_SECONDS)
        except PeerClosedError:
            pass

    def _converse(self) -> None:
        machine = self._known()
        try:
            self._registry.claim(machine.machine_id, self)
        except DuplicateAgentError:
            with self._controller.store.write() as unit:
                note = f"A second agent with this machine's keys called from {self._peer.address} at {timestamp(utc_now())} and was refused."
                unit.fleet.set_note(machine.machine_id, note)
            raise
        self._log = self._log.bind(machine=machine.name)
        self._log.info("connected")
        try:
            self._heard()
            while not self._stopping.is_set():
                message = self._link.receive(TICK_SECONDS)
                if message is not None:
                    if not isinstance(message, wire.Progress | wire.Ping | wire.Pong):
                        self._spoke_at = time.monotonic()
                    self._heard()
                    self._answer(message)
                self._tick()
        finally:
            self._registry.release(machine.machine_id, self)

    def _known(self) -> MachineRow:
        if self._machine is None:
            raise EnrolmentError("The machine is not enrolled.", "Enrol it first.")
        return self._machine

    def _heard(self) -> None:
        self._pinged = False
        if not self._proof_wanted.is_set():
            self._proof.set()
        if time.monotonic() - self._seen_at > SEEN_SECONDS:
            self._seen_at = time.monotonic()
            with self._controller.store.write() as unit:
                unit.fleet.seen(self._known().machine_id, timestamp(utc_now()))

    def _answer(self, message: wire.Message) -> None:
        machine_id = self._known().machine_id
        match message:
            case wire.ReceiptMessage():
                self._take_receipt(message)
            case wire.Progress(event=event):
                if event.kind is not EventKind.PROGRESS or self._is_time(event.order):
                    dispatch.record_event(self._controller, machine_id, event, utc_now())
            case wire.OrderState(order=order, state=state):
                dispatch.record_state(self._controller, machine_id, order, state, utc_now())
                self._settle(order)
            case wire.Inventory():
                self._take_inventory(message)
            case wire.EnrolRequest():
                self._enrol(message)
            case wire.RotateKey():
                self._take_rotation(message)
            case wire.Ping():
                self._link.send(wire.Pong())
            case wire.Pong():
                pass
            case wire.Failure():
                self._take_failure(message)
            case _:
                raise ProtocolError(
                    f"An agent does not send {type(message).__name__}.", "Check that it runs expunge."
                )

    def _take_receipt(self, message: wire.ReceiptMessage) -> None:
        body, signature = message.document.bytes()
        machine_id = self._known().machine_id
        stored = intake.store_receipt(
            self._controller,
            machine_id,
            body,
            signature,
            second=message.second,
            order_hint=message.order,
            now=utc_now(),
        )
        if stored.reasons:
            self._log.warning("receipt kept aside", receipt=stored.digest, reasons=list(stored.reasons))
        else:
            self._log.info("receipt stored", receipt=stored.digest, gap=stored.gap, again=stored.repeated)
        self._link.send(wire.Acknowledge(receipt=stored.digest))
        self._settle(message.order)

    def _take_rotation(self, message: wire.RotateKey) -> None:
        """A new signing key; what is wrong with it is for people, and costs only the receipts signed with it."""
        machine_id = self._known().machine_id
        try:
            body, signature = message.document.bytes()
            endorsement = message.endorsement.encode("ascii", "replace")
            rotating.take_rotation(self._controller, machine_id, body, signature, endorsement, utc_now())
        except ExpungeError as error:
            self._log.warning("new signing key refused", code=error.code, problem=error.message)
            with self._controller.store.write() as unit:
                unit.fleet.set_note(machine_id, f"A new signing key was refused: {error.message}")

    def _take_inventory(self, message: wire.Inventory) -> None:
        if not isinstance(self._asked, RequestRow):
            raise ProtocolError("The agent sent an inventory that nobody asked for.", "Update the agent.")
        with self._controller.store.write() as unit:
            unit.orders.answer(self._asked.request_id, "answered", canonical.dumps(message))
        self._asked = None

    def _take_failure(self, message: wire.Failure) -> None:
        """The agent could not serve what we asked last."""
        self._log.warning("the agent reports a failure", code=message.code, problem=message.message)
        sentence = f"The agent answered {message.code}: {message.message} {message.remedy}".strip()
        if isinstance(self._asked, RequestRow):
            with self._controller.store.write() as unit:
                unit.orders.answer(self._asked.request_id, "failed", sentence.encode())
        elif self._asked is not None:
            machine_id, order = self._known().machine_id, self._asked
            dispatch.reject(self._controller, machine_id, order, sentence, utc_now(), code=message.code)
            _, pause = self._again.get(order, (0.0, FIRST_PAUSE))
            self._again[order] = (time.monotonic() + pause, min(pause * 2, LONGEST_PAUSE))
            self._handed_over.discard(order)
        else:
            raise TransportError(sentence, "See the agent's log.")
        self._asked = None

    def _settle(self, order: str) -> None:
        if self._asked == order:
            self._asked = None

    def _is_time(self, order: str) -> bool:
        now = time.monotonic()
        if now - self._progress_at.get(order, 0.0) < PROGRESS_SECONDS:
            return False
        self._progress_at[order] = now
        return True

    def _tick(self) -> None:
        """Ask whether the peer is there, and give it the next thing to do."""
        now = time.monotonic()
        silent = now - self._link.heard
        if self._proof_wanted.is_set():
            self._proof_wanted.clear()
            self._link.send(wire.Ping())
        if silent > SILENT_SECONDS or (self._asked is not None and now - self._asked_at > ANSWER_SECONDS):
            raise TransportError("The agent does not answer.", "It will be tried again.")
        if silent > PING_AFTER_SECONDS and not self._pinged:
            self._pinged = True
            self._link.send(wire.Ping())
        if self._asked is None and self._is_done(now):
            self._link.send(wire.Bye())
            self._log.info("nothing more to do")
            self._stopping.set()

    def _is_done(self, now: float) -> bool:
        """Whether to say bye: nothing is left to ask, and nobody waits for more on this connection."""
        orders = self._ask_next()
        if self._asked is not None or not self._until_idle():
            return False
        moment = timestamp(utc_now())
        if any(order.followed_until > moment for order in orders) and not self._leaves_followers():
            return False
        return now - self._spoke_at > (LINGER_SECONDS if orders else QUIET_SECONDS)

    def _ask_next(self) -> list[OrderRow]:
        """Hand over an order or ask a question; returns the machine's open orders."""
        machine_id = self._known().machine_id
        since = timestamp(utc_now() - REQUEST_AGE)
        with self._controller.store.read() as unit:
            orders = unit.orders.open_of(machine_id)
            questions = unit.orders.waiting_requests(machine_id, since)
        now = time.monotonic()
        fresh = [
            order
            for order in orders
            if order.digest not in self._handed_over and self._again.get(order.digest, (0.0, 0.0))[0] <= now
        ]
        if questions:
            self._ask(questions[0], wire.InventoryRequest(paths=list(questions[0].paths)))
        elif fresh:
            self._handed_over.add(fresh[0].digest)
            order = dispatch.advance(self._controller, fresh[0].digest, utc_now())
            if order is not None:
                self._log.info("order handed over", order=order.order_id)
                self._ask(order.digest, wire.SubmitOrder(document=dispatch.document_of(order)))
        return orders

    def _ask(self, what: str | RequestRow, message: wire.Message) -> None:
        self._asked, self._asked_at = what, time.monotonic()
        self._link.send(message)

    def _complain(self, error: ExpungeError) -> None:
        """Tell the peer why, if it still listens."""
        try:
            self._link.send(
                wire.Failure(code=error.code, message=error.message[:4000], remedy=error.remedy[:4000])
            )
        except ExpungeError:
            self._log.debug("the agent did not hear why")
