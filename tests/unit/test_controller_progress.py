"""Following an order: what is shown, in which order, on a terminal and elsewhere."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from expunge_agent.errors import NotFoundError
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.event import Event, EventKind
from expunge_controller import dispatch
from expunge_controller.cli.follow import _BarView, _LineView
from expunge_controller.context import Controller
from expunge_controller.progress import Update, watch
from expunge_controller.store.rows import MachineRow, OrderRow
from support.controllers import now, ordered


def event(order: OrderRow, kind: EventKind, **changes: Any) -> Event:
    return Event(kind=kind, order=order.digest, time="2026-11-22T12:00:00Z", **changes)


def tick(order: OrderRow, done: int, **changes: Any) -> Event:
    fields: dict[str, Any] = {
        "target": 0,
        "step": 0,
        "title": "pass 1 of 2: byte 00",
        "done": U64(done),
        "total": U64(200),
        "rate": U64(250_000_000),
        "eta": 75,
    }
    return event(order, EventKind.PROGRESS, **{**fields, **changes})


def record(controller: Controller, order: OrderRow, *events: Event) -> None:
    for one in events:
        dispatch.record_event(controller, order.machine_id, one, now())


def test_events_come_once_and_progress_last(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    updates = watch(controller, order.digest, beat=0.0)
    assert next(updates).events == ()
    begun = event(order, EventKind.STEP_STARTED, target=0, step=0)
    record(controller, order, begun, tick(order, 10), tick(order, 20))
    seen = next(updates)
    assert seen.events == (begun, tick(order, 20))
    assert seen.order.status == "running"
    assert next(updates).events == ()
    later = event(order, EventKind.STEP_STARTED, target=0, step=1)
    record(controller, order, tick(order, 200), later)
    assert next(updates).events == (later,)  # the old step's progress is overtaken
    done = event(order, EventKind.TARGET_FINISHED, target=0, title="sanitized")
    record(controller, order, tick(order, 100, step=1), done)
    assert next(updates).events == (done,)
    record(controller, order, tick(order, 50))  # an old one again, from a re-attached connection
    assert next(updates).events == ()


def test_it_ends_with_the_order(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    updates = watch(controller, order.digest)
    assert not next(updates).ended
    dispatch.reject(controller, machine.machine_id, order.digest, "no", now())
    assert [update.ended for update in updates] == [True]


def test_an_order_that_is_not_there(controller: Controller) -> None:
    with pytest.raises(NotFoundError):
        next(watch(controller, "0" * 64))


def test_lines_for_a_pipe(
    controller: Controller, machine: MachineRow, capsys: pytest.CaptureFixture[str]
) -> None:
    order = ordered(controller, machine)
    view = _LineView(["/dev/sdz"])
    view.show(Update(order, ()))
    view.show(Update(order, (event(order, EventKind.STEP_STARTED, target=0, title="pass 1 of 2"),)))
    view.show(Update(order, (tick(order, 50),)))
    view.show(Update(order, (tick(order, 60),)))  # too soon for another line
    view.warn("the machine cannot be reached.")
    view.close()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "waiting for the machine",
        "/dev/sdz: pass 1 of 2",
        "  25 % of pass 1 of 2: byte 00, 250 MB/s, 0:01:15 left",
    ]
    assert err == "note: the machine cannot be reached.\n"


def test_a_bar_for_a_terminal(controller: Controller, machine: MachineRow) -> None:
    order = ordered(controller, machine)
    screen = io.StringIO()
    view = _BarView(Console(file=screen, force_terminal=True, width=120, markup=False), ["/dev/sd[z]"])
    view.show(Update(order, (event(order, EventKind.STEP_STARTED, target=0, title="pass 1 of 2"),)))
    view.show(Update(order, (tick(order, 50),)))
    view._bar.refresh()
    half = screen.getvalue()
    view.show(Update(order, (event(order, EventKind.TARGET_FINISHED, target=0, title="sanitized"),)))
    view.close()
    view.close()
    for part in ("/dev/sd[z]: pass 1 of 2: byte 00", "25.0 %", "250 MB/s", "0:01:15 left"):
        assert part in half
    assert "/dev/sd[z]: sanitized" in screen.getvalue()
