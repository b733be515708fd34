"""The one process of a controller that moves orders on: expires, dials, retries.

Machines that call in are served by the endpoint; the runner dials the others whenever there is
an order, a question or an unfinished enrolment for them.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from expunge_agent.errors import BusyError, ExpungeError
from expunge_agent.protocol.base import timestamp
from expunge_controller import dispatch, files, fleet, problems
from expunge_controller.context import Controller, utc_now
from expunge_controller.settings import Home
from expunge_controller.store.rows import MachineRow, OrderStatus, Reach, SshAddress, TokenRow
from expunge_controller.transport.registry import Registry
from expunge_controller.transport.session import REQUEST_AGE, Peer, Session

SWEEP_SECONDS = 0.2
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 60.0
ENROLMENT_PAUSE = 15.0
"""Seconds between two looks at whether a machine's owner has typed the token yet."""
AT_ONCE = (0.0, 0.0)
MAX_DIALS = 32
"""Machines dialled at once; when there are as many, nobody is stayed with for a follower's sake."""
REVISIT = (15.0, 60.0)
REVISIT_FOLLOWED = (2.0, 5.0)
"""Seconds between two calls to a machine that runs an order, spread at random; while somebody follows it."""
FORGET_REQUESTS = timedelta(hours=1)


@dataclass
class _Attempt:
    """How dialling one machine goes."""

    thread: threading.Thread | None = None
    address: SshAddress | None = None
    not_before: float = 0.0
    pause: float = FIRST_PAUSE
    problem: ExpungeError | None = None
    left: float = 0.0
    share: float = 0.0

    @property
    def is_running(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self.thread is not None and self.thread.is_alive()

    def is_due(self, rest: tuple[float, float], now: float) -> bool:
        """Whether to dial now: not right after a failure, and after a success at rest for a while."""
        low, high = rest
        rested = not self.left or now >= self.left + low + self.share * (high - low)
        return not self.is_running and now >= self.not_before and rested


@contextmanager
def only_server(home: Home) -> Iterator[None]:
    """Be the controller's only ``serve``. Raises BusyError when there is one."""
    with files.locked(
        home.serve_lock,
        "Another `expunge serve` runs this controller already.",
        "Use that one, or stop it first.",
        patience=1.0,  # `is_serving` holds it for an instant
    ):
        yield


def is_serving(home: Home) -> bool:
    """Whether ``expunge serve`` runs."""
    return files.is_held(home.serve_lock)


class Runner:
    """Sweeps until it is stopped, once no other process of this controller does.

    A verb that follows an order brings its own runner with `gives_way`, which leaves the work to
    ``expunge serve`` as soon as that runs.
    """

    def __init__(
        self, controller: Controller, registry: Registry, log: Any, *, gives_way: bool = False
    ) -> None:
        self._controller = controller
        self._registry = registry
        self._log = log
        self._gives_way = gives_way
        self._attempts: dict[str, _Attempt] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 5.0) -> None:
        """End it and its connections, waiting up to `seconds`."""
        self._stopping.set()
        self._registry.close()
        deadline = time.monotonic() + seconds
        for thread in [self._thread, *(attempt.thread for attempt in self._attempts.values())]:
            if thread is not None:
                thread.join(max(0.0, deadline - time.monotonic()))

    def problem(self, name: str) -> ExpungeError | None:
        """Why the last attempt to reach the machine called `name` failed; None after a success."""
        attempt = self._attempts.get(name)
        return attempt.problem if attempt is not None else None

    def sweep(self) -> None:
        """Look once at everything, and start what is due."""
        now = utc_now()
        for order_id in dispatch.expire_unsent(self._controller, now):
            self._log.warning("order expired before its machine was reached", order=order_id)
        since = timestamp(now - REQUEST_AGE)
        with self._controller.store.read() as unit:
            orders = unit.orders.all_open()
            rests = dict.fromkeys((order.machine_id for order in orders), REVISIT)
            followed = [order for order in orders if order.followed_until > timestamp(now)]
            rests |= dict.fromkeys((order.machine_id for order in followed), REVISIT_FOLLOWED)
            fresh = {order.machine_id for order in orders if order.status is OrderStatus.CREATED}
            fresh |= {request.machine_id for request in unit.orders.waiting_requests(None, since)}
            rests |= dict.fromkeys(fresh, AT_ONCE)
            wanted: list[tuple[tuple[float, float], MachineRow | TokenRow]] = [
                (rests[machine.machine_id], machine)
                for machine in unit.fleet.machines()
                if machine.reach is Reach.SSH and machine.machine_id in rests
            ]
            wanted += [(AT_ONCE, token) for token in fleet.pending_ssh(unit, now)]
        # What is new goes first, then whoever has waited longest.
        for rest, target in sorted(wanted, key=lambda pair: (pair[0], self._attempt(pair[1]).left)):
            self._dial_if_due(target, rest)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._is_relieved():
                    with files.locked(self._controller.home.runner_lock, "", ""):
                        self._sweep_on()
            except BusyError:
                pass  # another one is at work; it may leave
            except (ExpungeError, OSError) as error:
                self._log.error("the runner cannot work", problem=str(error))
            self._stopping.wait(SWEEP_SECONDS)

    def _is_relieved(self) -> bool:
        return self._gives_way and is_serving(self._controller.home)

    def _sweep_on(self) -> None:
        with self._controller.store.write() as unit:
            unit.orders.forget_requests(timestamp(utc_now() - FORGET_REQUESTS))
        while not self._stopping.is_set() and not self._is_relieved():
            try:
                self.sweep()
            except ExpungeError as error:
                self._log.error("sweep failed", code=error.code, problem=error.message)
            except Exception:  # noqa: BLE001  (the runner goes on)
                self._log.exception("a defect ended this sweep")
            self._stopping.wait(SWEEP_SECONDS)
        self._registry.close()

    def _attempt(self, target: MachineRow | TokenRow) -> _Attempt:
        return self._attempts.setdefault(target.name, _Attempt())

    def _is_crowded(self) -> bool:
        return sum(attempt.is_running for attempt in list(self._attempts.values())) >= MAX_DIALS

    def _dial_if_due(self, target: MachineRow | TokenRow, rest: tuple[float, float]) -> None:
        attempt = self._attempt(target)
        if attempt.address != target.ssh and not attempt.is_running:
            attempt.address, attempt.not_before, attempt.pause = target.ssh, 0.0, FIRST_PAUSE
        if not attempt.is_due(rest, time.monotonic()) or self._is_crowded():
            return
        attempt.thread = threading.Thread(
            target=self._visit, args=(target, attempt), name=f"dial {target.name}", daemon=True
        )
        attempt.thread.start()

    def _visit(self, target: MachineRow | TokenRow, attempt: _Attempt) -> None:
        """One connection to a machine, from dialling to bye; keeps why it failed."""
        try:
            self._talk(target, attempt)
            attempt.pause, attempt.not_before = FIRST_PAUSE, 0.0
            attempt.left, attempt.share = time.monotonic(), random.random()  # noqa: S311  (spreads load)
            return
        except ExpungeError as error:
            attempt.problem = error
            self._log.warning("dialling failed", machine=target.name, code=error.code, problem=error.message)
            self._keep_problem(target, error)
        except Exception:  # noqa: BLE001  (other machines go on)
            self._log.exception("a defect ended this connection", machine=target.name)
        pause = ENROLMENT_PAUSE if isinstance(target, TokenRow) else attempt.pause
        attempt.not_before = time.monotonic() + pause
        attempt.pause = min(attempt.pause * 2, LONGEST_PAUSE)

    def _keep_problem(self, target: MachineRow | TokenRow, error: ExpungeError | None) -> None:
        """Leave in the store, for whoever waits in another process, why dialling failed or that it went well."""
        text = "" if error is None else problems.frozen(error)
        if not text and not target.problem:
            return
        who = target.secret_digest if isinstance(target, TokenRow) else target.machine_id
        try:
            with self._controller.store.write() as unit:
                unit.fleet.set_problem(who, text)
        except ExpungeError as trouble:
            self._log.warning("a dialling problem could not be kept", problem=trouble.message)

    def _talk(self, target: MachineRow | TokenRow, attempt: _Attempt) -> None:
        from expunge_controller.transport.ssh_out import dial

        if target.ssh is None:
            return
        dialled = dial(self._controller, target.ssh)
        attempt.problem = None
        self._keep_problem(target, None)
        machine = target if isinstance(target, MachineRow) else None
        if isinstance(target, TokenRow) and target.ssh.host_key != dialled.host_key:
            # Pinned by fingerprint until now: keep the whole key.
            with self._controller.store.write() as unit:
                unit.fleet.pin_token(target.secret_digest, replace(target.ssh, host_key=dialled.host_key))
        Session(
            self._controller,
            dialled,
            Peer(
                address=f"{target.ssh.host}:{target.ssh.port or 22}",
                proven_key=None,
                machine=machine,
                token=target if isinstance(target, TokenRow) else None,
            ),
            self._registry,
            self._log,
            until_idle=lambda: True,
            leaves_followers=self._is_crowded,
        ).run()
