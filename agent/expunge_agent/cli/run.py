"""expunge-agent run"""

from __future__ import annotations

from pathlib import Path

import click
import structlog

from expunge_agent import logs
from expunge_agent.cli.common import EXIT_CODES
from expunge_agent.cli.running import heed_signals, run_options, surroundings
from expunge_agent.errors import BusyError, ExpungeError, InterruptedWipeError, UsageError
from expunge_agent.events import EventLog
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.state import State
from expunge_agent.wipe import run_order


@click.command(name="run")
@click.argument("order", required=False, default="")
@click.option("--pending", is_flag=True, help="Every order that has no receipt yet, one after the other.")
@run_options
@click.pass_obj
def command(obj: dict[str, object], /, order: str, pending: bool, **how: object) -> int:
    """Carry out ORDER (the digest of an order that was handed in), or go on with it after a crash.

    The same order twice wipes once: an order that has its receipt is left alone.
    """
    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    log = structlog.get_logger()
    root = Path(str(obj["state"]))
    state = State.open(root)
    if pending == bool(order):
        raise UsageError("Name one order, or use --pending.", "See: expunge-agent report --pending")
    around = surroundings(root, how)
    exit_code = 0
    for digest in state.unfinished() if pending else [order]:
        log.info("order begins", order=digest)
        try:
            events = EventLog(state.order_folder(digest) / "events.jsonl", digest, around.now)
            heed_signals(around, events)
            sealed = run_order(state, digest, around, events)
        except BusyError:
            if not pending:
                raise
            continue
        except ExpungeError as error:
            log.error("order stopped", order=digest, problem=error.message, remedy=error.remedy)
            raise
        if sealed is None:
            raise InterruptedWipeError("The order was paused.", "It goes on at the next start.")
        outcome = parse_statement(sealed.body).predicate.outcome
        log.info(
            "order ended", order=digest, outcome=outcome.value, receipt=sealed.digest, counter=sealed.counter
        )
        exit_code = max(exit_code, EXIT_CODES[outcome])
    return exit_code
