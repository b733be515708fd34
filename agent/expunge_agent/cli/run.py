"""expunge-agent run"""

from __future__ import annotations

import json
from pathlib import Path

import click
import structlog

from expunge_agent import logs
from expunge_agent.cli.common import EXIT_CODES, usable_profiles, worst
from expunge_agent.cli.running import heed_signals, run_options, surroundings
from expunge_agent.errors import BusyError, ExpungeError, InterruptedWipeError, UsageError
from expunge_agent.events import EventLog
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings
from expunge_agent.wipe import run_order


@click.command(name="run")
@click.argument("order", required=False, default="")
@click.option("--pending", is_flag=True, help="Every order that has no receipt yet, one after the other.")
@click.option("--dry-run", is_flag=True, help="Say which orders would be carried out; touch nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: order, outcome, receipt.")
@run_options
@click.pass_obj
def command(
    obj: dict[str, object], /, order: str, pending: bool, dry_run: bool, as_json: bool, **how: object
) -> int:
    """Carry out ORDER (the digest of an order that was handed in), or go on with it after a crash.

    The same order twice wipes once: an order that has its receipt is left alone. With --pending,
    trouble with one order does not keep the others from being carried out.
    """
    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    root = Path(str(obj["state"]))
    state = State.open(root)
    if pending == bool(order):
        raise UsageError("Name one order, or use --pending.", "See: expunge-agent report --pending")
    orders = state.unfinished() if pending else [order]
    if dry_run:
        for digest in orders:
            _say({"order": digest, "state": _standing(state, digest)}, as_json)
        return 0
    around = surroundings(root, usable_profiles(root), how)
    outcomes: list[Outcome] = []
    trouble: ExpungeError | None = None
    for digest in orders:
        try:
            outcomes.append(_carry_out(state, digest, around, as_json))
        except ExpungeError as error:
            structlog.get_logger().error(
                "order stopped", order=digest, problem=error.message, remedy=error.remedy
            )
            trouble = trouble if isinstance(error, BusyError) and trouble else error
        if around.pause.is_set():
            break
    if trouble is not None:
        raise trouble
    return EXIT_CODES[worst(outcomes)]


def _carry_out(state: State, digest: str, around: Surroundings, as_json: bool) -> Outcome:
    log = structlog.get_logger()
    log.info("order begins", order=digest)
    events = EventLog(state.order_folder(digest) / "events.jsonl", digest, around.now)
    heed_signals(around, events)
    sealed = run_order(state, digest, around, events)
    if sealed is None:
        raise InterruptedWipeError("The order was paused.", "It goes on at the next start.")
    outcome = parse_statement(sealed.body).predicate.outcome
    log.info(
        "order ended", order=digest, outcome=outcome.value, receipt=sealed.digest, counter=sealed.counter
    )
    if as_json:
        _say(
            {
                "order": digest,
                "outcome": outcome.value,
                "receipt": sealed.digest,
                "counter": str(sealed.counter),
            },
            True,
        )
    return outcome


def _standing(state: State, digest: str) -> str:
    number = state.receipt_number(digest)
    if number is not None:
        return f"has receipt {number}"
    return "is being carried out" if state.is_running(digest) else "would be carried out"


def _say(what: dict[str, str], as_json: bool) -> None:
    click.echo(json.dumps(what) if as_json else " ".join(what.values()))
