"""Reaching a machine from a verb: through the running `serve`, or by a runner of our own meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from expunge_agent.errors import ExpungeError, TransportError
from expunge_agent.protocol import wire
from expunge_agent.protocol.base import timestamp
from expunge_controller import problems
from expunge_controller.context import Controller, utc_now
from expunge_controller.runner import Runner, is_serving
from expunge_controller.store.rows import MachineRow, Reach
from expunge_controller.transport.registry import Registry

POLL_SECONDS = 0.1
INVENTORY_SECONDS = 60.0

T = TypeVar("T")
Problem = Callable[[], ExpungeError | None]


@contextmanager
def running_for(controller: Controller, name: str, reach: Reach) -> Iterator[Problem]:
    """See that the machine called `name` is dialled, if it must be, while the block runs.

    A running `serve` does it; without one, a runner in this process. Yields a function that
    tells why the last attempt failed.
    """
    import structlog

    if reach is Reach.DIAL_IN:
        yield lambda: None
        return
    runner = Runner(controller, Registry(), structlog.get_logger(), gives_way=True)
    runner.start()
    try:
        yield lambda: runner.problem(name) or _problem_of_server(controller, name)
    finally:
        runner.stop()


def _problem_of_server(controller: Controller, name: str) -> ExpungeError | None:
    """Why the running `serve` failed to reach the machine called `name` the last time."""
    if not is_serving(controller.home):
        return None
    with controller.store.read() as unit:
        machine = unit.fleet.machine_named(name)
        tokens = [token for token in unit.fleet.tokens() if token.name == name and token.used_at is None]
    return problems.thawed(machine.problem if machine else tokens[-1].problem if tokens else "")


def wait_for(probe: Callable[[], T | None], *, seconds: float, problem: Problem) -> T | None:
    """What `probe` returns once it is not None; None after `seconds`. Raises what `problem` tells."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = probe()
        if found is not None:
            return found
        trouble = problem()
        if trouble is not None:
            raise trouble
        time.sleep(POLL_SECONDS)
    return None


def check_served(controller: Controller, machine: MachineRow) -> None:
    """Raise TransportError for a machine that calls in while nobody is there to answer."""
    if machine.reach is Reach.DIAL_IN and not is_serving(controller.home):
        raise TransportError(
            f"{machine.name} calls in, and nobody answers: `expunge serve` does not run.", "Start it first."
        )


def ask_inventory(controller: Controller, machine: MachineRow, paths: list[str]) -> wire.Inventory:
    """The machine's media, and what it says of `paths`. Raises TransportError when it does not answer."""
    check_served(controller, machine)
    with controller.store.write() as unit:
        number = unit.orders.ask(machine.machine_id, paths, timestamp(utc_now()))
    with running_for(controller, machine.name, machine.reach) as problem:
        try:
            answer = wait_for(lambda: _answer(controller, number), seconds=INVENTORY_SECONDS, problem=problem)
        except BaseException:
            _withdraw(controller, number)
            raise
    if answer is None:
        _withdraw(controller, number)
        seen = f"it was last heard at {machine.last_seen}" if machine.last_seen else "it was never heard"
        raise TransportError(
            f"{machine.name} did not answer within {INVENTORY_SECONDS:.0f} seconds ({seen}).",
            "Check that its agent runs and can reach the controller.",
        )
    return answer


def _answer(controller: Controller, number: int) -> wire.Inventory | None:
    with controller.store.read() as unit:
        request = unit.orders.request(number)
    if request is None or request.status == "waiting":
        return None
    if request.status == "failed":
        raise TransportError(request.answer.decode("utf-8", "replace"), "See the agent's log.")
    message = wire.decode(request.answer)
    if not isinstance(message, wire.Inventory):
        raise TransportError("The stored answer is not an inventory.", "Ask again.")
    return message


def _withdraw(controller: Controller, number: int) -> None:
    with controller.store.write() as unit:
        unit.orders.answer(number, "withdrawn", b"")
