"""The live view of an order: a bar on a terminal, lines elsewhere, JSON Lines for programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import click

from expunge_agent import errors
from expunge_agent.errors import ExpungeError, PeerIdentityError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.protocol.receipt_erasure import Erasure
from expunge_controller.cli.app import console, plain, print_line, size
from expunge_controller.cli.reach import running_for
from expunge_controller.context import Controller
from expunge_controller.problems import error_class
from expunge_controller.progress import Update, watch
from expunge_controller.runner import is_serving
from expunge_controller.store.rows import OPEN, MachineRow, OrderRow, OrderStatus, Reach

EXIT_CODES = {
    Outcome.SANITIZED: errors.EXIT_OK,
    Outcome.EXCEPTIONS: errors.ExceptionsError.exit_code,
    Outcome.FAILED: errors.WipeFailedError.exit_code,
    Outcome.REFUSED: errors.RefusedError.exit_code,
    Outcome.INTERRUPTED: errors.InterruptedWipeError.exit_code,
    Outcome.UNKNOWN: errors.UnknownOutcomeError.exit_code,
}
SHOWN_STATUS = {
    OrderStatus.CREATED: "waiting for the machine",
    OrderStatus.SENT: "handed over",
    OrderStatus.ACCEPTED: "accepted by the agent",
    OrderStatus.RUNNING: "running",
}
LINE_SECONDS = 5.0
PATIENCE_SECONDS = 120.0
"""How long an order may be followed that the agent cannot take for now."""


class View(Protocol):
    """Shows updates as they come."""

    def show(self, update: Update) -> None: ...
    def warn(self, message: str) -> None: ...
    def close(self) -> None: ...


def follow(controller: Controller, order: OrderRow, machine: MachineRow, *, as_json: bool) -> int:
    """Show the order until it ends; returns the exit code of its outcome.

    Ctrl-C closes the view only, and says how to open it again. Raises PeerIdentityError when the
    machine that should be dialled is another one, and the agent's failure when it could not take
    the order for `PATIENCE_SECONDS`.
    """
    view = _view(order, as_json)
    if machine.reach is Reach.DIAL_IN and not is_serving(controller.home):
        view.warn(f"{machine.name} calls in, and `expunge serve` does not run: the order waits.")
    try:
        with running_for(controller, machine.name, machine.reach) as problem:
            last = _show_all(controller, order, view, problem)
    except KeyboardInterrupt:
        view.close()
        click.echo(
            f"The view is closed; the order goes on. Again: expunge jobs {order.order_id} --follow", err=True
        )
        return errors.EXIT_STOPPED
    finally:
        view.close()
    if last.status in OPEN:
        raise error_class(last.problem)(
            f"{machine.name} cannot take the order for now. {last.note}",
            f"It is tried again meanwhile. Follow it: expunge jobs {order.order_id} --follow",
        )
    return report(controller, last, as_json=as_json)


def report(controller: Controller, order: OrderRow, *, as_json: bool) -> int:
    """Say how an ended order came out; returns its exit code."""
    with controller.store.read() as unit:
        receipt = unit.evidence.receipt_of_order(order.digest)
        certificates = [row.number for row in unit.evidence.certificates_of_order(order.digest)]
    code = exit_code(order)
    if as_json:
        print_line(
            {
                "type": "result",
                "order_id": order.order_id,
                "status": order.status,
                "outcome": order.outcome,
                "note": order.note,
                "receipt": receipt.digest if receipt else "",
                "certificates": certificates,
                "exit_code": code,
            }
        )
        return code
    click.echo(f"Order {order.order_id}: {order.outcome or order.status}")
    if order.note:
        click.echo(f"  {plain(order.note)}")
    if receipt is not None:
        for line in _why(receipt.body):
            click.echo(f"  {line}")
        click.echo(f"  receipt      {receipt.digest}")
    for number in certificates:
        click.echo(f"  certificate  {number} (awaiting validation)")
    if order.outcome == Outcome.SANITIZED:
        click.echo(
            f"Next: expunge certificate {order.order_id}, expunge export {order.order_id} -o bundle.zip"
        )
    if order.status is OrderStatus.ATTENTION:
        where = "expunge receipts" if order.outcome or order.problem else "expunge receipts --aside"
        click.echo(f"A person must look: {where}")
    return code


def exit_code(order: OrderRow) -> int:
    """The exit code that an order's end earns."""
    if order.status is OrderStatus.FINISHED:
        return EXIT_CODES[Outcome(order.outcome)]
    if order.status is OrderStatus.ATTENTION:
        return error_class(order.problem).exit_code if order.problem else errors.VerificationError.exit_code
    if order.status is OrderStatus.CANCELLED:
        return errors.RefusedError.exit_code
    return errors.TransportError.exit_code if order.status is OrderStatus.EXPIRED else errors.EXIT_OK


def _why(receipt: bytes) -> list[str]:
    """One line a target: what it was and what became of it, with the reason where it did not go well."""
    statement = parse_statement(receipt)
    lines = []
    for subject, result in zip(statement.subject, statement.predicate.targets, strict=False):
        why = result.refusal.detail if result.refusal else result.failure
        remedy = result.refusal.remedy if result.refusal else ""
        tail = ". ".join(part.rstrip(".") for part in (why, remedy) if part)
        lines.append(plain(f"{subject.name}: {result.outcome}{': ' + tail if tail else ''}"))
        lines += [
            _work(f"pass {run.index + 1}", int(run.bytes_written), int(run.duration_ms))
            for run in result.passes
        ]
        lines += _commanded(result.erasure)
        lines += [
            _work(
                f"{check.kind} verification of pass {check.of_pass + 1}",
                int(check.bytes_read),
                int(check.duration_ms),
            )
            for check in result.verifications
            if check.kind != "none"
        ]
    refusal = statement.predicate.refusal
    if refusal is not None:
        lines.append(plain(f"refused ({refusal.reason}): {refusal.detail} {refusal.remedy}".strip()))
    return lines


def _commanded(erasure: Erasure | None) -> list[str]:
    """The drive's own command: how it ended, and what was found afterwards."""
    if erasure is None:
        return []
    times = f", begun {erasure.attempts} times" if erasure.attempts > 1 else ""
    took = f" after {int(erasure.duration_ms) / 1000:.1f} s" if erasure.duration_ms else ""
    detail = f": {erasure.detail}" if erasure.detail else ""
    lines = [plain(f"  {erasure.technique}: {erasure.ended}{took}{times}{detail}")]
    if not erasure.settled and erasure.ended != "not-begun":
        lines.append(plain(f"  the drive was not left usable: {erasure.settling}".removesuffix(": ")))
    lines += [plain(f"  differs from before: {change}") for change in erasure.changes]
    if erasure.canaries is not None:
        seen = erasure.canaries
        left = f", {seen.kept} of {seen.telling} samples of old data" if seen.telling else ""
        lines.append(f"  still there: {seen.found} of {seen.looked_for} canaries{left}")
    if erasure.read_back is not None:
        read = erasure.read_back
        lines.append(_work(f"{read.kind} read-back", int(read.bytes_read), int(read.duration_ms)))
    return lines


def _work(what: str, count: int, milliseconds: int) -> str:
    """How much, how long, and how fast on average: ``  pass 1: 268.4 MB in 1.3 s, 214.7 MB/s``."""
    speed = f", {size(count * 1000 // milliseconds)}/s" if milliseconds else ""
    return f"  {what}: {size(count)} in {milliseconds / 1000:.1f} s{speed}"


def _show_all(
    controller: Controller, order: OrderRow, view: View, problem: Callable[[], ExpungeError | None]
) -> OrderRow:
    told = noted = ""
    last = order
    kept_out = 0.0
    for update in watch(controller, order.digest):
        view.show(update)
        last = update.order
        if last.status in OPEN and last.problem:
            kept_out = kept_out or time.monotonic()
            if last.note != noted:
                noted = last.note
                view.warn(f"{plain(noted)} It will be tried again.")
            if time.monotonic() - kept_out > PATIENCE_SECONDS:
                return last
        else:
            kept_out = 0.0
        trouble = problem()
        if isinstance(trouble, PeerIdentityError):
            raise trouble
        if trouble is not None and trouble.message != told:
            told = trouble.message
            view.warn(f"{trouble.message} It will be tried again.")
    return last


def _view(order: OrderRow, as_json: bool) -> View:
    if as_json:
        return _JsonView(order)
    out = console()
    targets = [target.hint or "" for target in parse_order(order.body).targets]
    return _BarView(out, targets) if out.is_terminal else _LineView(targets)


class _JsonView:
    """JSON Lines: order, status, event; `report` ends them with result."""

    def __init__(self, order: OrderRow) -> None:
        print_line({"type": "order", "order_id": order.order_id, "digest": order.digest})
        self._status = ""

    def show(self, update: Update) -> None:
        """Print what is new."""
        if update.order.status != self._status:
            self._status = update.order.status
            print_line({"type": "status", "status": self._status})
        for event in update.events:
            print_line({"type": "event", **canonical.parse(canonical.dumps(event))})

    def warn(self, message: str) -> None:
        """Print a warning."""
        print_line({"type": "warning", "message": message})

    def close(self) -> None:
        """Nothing to put away."""


class _LineView:
    """Plain lines, a progress line every few seconds."""

    def __init__(self, targets: list[str]) -> None:
        self._targets = targets
        self._status = ""
        self._told = 0.0

    def show(self, update: Update) -> None:
        """Print what is new."""
        status = update.order.status
        if status != self._status:
            self._status = status
            if status in SHOWN_STATUS:
                click.echo(SHOWN_STATUS[status])
        for event in update.events:
            if event.kind in (EventKind.STEP_STARTED, EventKind.TARGET_FINISHED):
                click.echo(f"{_named(self._targets, event)}: {plain(event.title)}")
            elif event.kind is EventKind.RESUMED:
                click.echo("taken up again after an interruption")
            elif event.kind is EventKind.PROGRESS and time.monotonic() - self._told >= LINE_SECONDS:
                self._told = time.monotonic()
                parts = [f"{_percent(event)} of {plain(event.title)}", _rate(event), _eta(event)]
                click.echo("  " + ", ".join(part for part in parts if part))

    def warn(self, message: str) -> None:
        """Print a warning."""
        click.echo(f"note: {message}", err=True)

    def close(self) -> None:
        """Nothing to put away."""


class _BarView:
    """A bar a target, with MB/s and the time left."""

    def __init__(self, out: Any, targets: list[str]) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._targets = targets
        self._tasks: dict[int, Any] = {}
        self._status = ""
        self._open = True
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>5.1f} %", markup=False),
            TextColumn("{task.fields[rate]:>10}  {task.fields[left]}", markup=False),
            console=out,
        )
        self._bar.start()

    def show(self, update: Update) -> None:
        """Move the bars."""
        status = update.order.status
        if status != self._status:
            self._status = status
            if status in SHOWN_STATUS:
                self._bar.console.print(SHOWN_STATUS[status])
        for event in update.events:
            self._take(event)

    def warn(self, message: str) -> None:
        """Print a warning above the bars."""
        self._bar.console.print(f"note: {message}")

    def close(self) -> None:
        """Leave the bars as they are."""
        if self._open:
            self._open = False
            self._bar.stop()

    def _take(self, event: Event) -> None:
        if event.target < 0:
            return
        task = self._tasks.get(event.target)
        if task is None:
            task = self._bar.add_task("", total=None, rate="", left="")
            self._tasks[event.target] = task
        name = _named(self._targets, event)
        if event.kind is EventKind.TARGET_FINISHED:
            self._bar.update(task, description=f"{name}: {plain(event.title)}", rate="", left="")
        elif event.kind in (EventKind.STEP_STARTED, EventKind.PROGRESS):
            self._bar.update(
                task,
                description=f"{name}: {plain(event.title)}",
                total=int(event.total) or None,
                completed=int(event.done),
                rate=_rate(event),
                left=_eta(event),
            )


def _named(targets: list[str], event: Event) -> str:
    name = targets[event.target] if 0 <= event.target < len(targets) else ""
    return plain(name) or f"target {event.target + 1}"


def _percent(event: Event) -> str:
    return f"{int(event.done) * 100 // int(event.total)} %" if event.total else size(int(event.done))


def _rate(event: Event) -> str:
    return f"{int(event.rate) / 1_000_000:.0f} MB/s" if event.rate else ""


def _eta(event: Event) -> str:
    if event.eta < 0:
        return ""
    hours, rest = divmod(event.eta, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d} left"
