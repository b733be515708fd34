"""expunge-agent serve"""

from __future__ import annotations

import random
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

import click
import structlog

from expunge_agent import dial, logs
from expunge_agent.errors import ExpungeError, PeerIdentityError, UsageError
from expunge_agent.serve import Conversation, StdioStream
from expunge_agent.starter import Starter
from expunge_agent.state import State

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


@click.command(name="serve")
@click.option("--dial", is_flag=True, help="Dial the controller and stay connected, for ever.")
@click.option(
    "--run-orders",
    is_flag=True,
    help="Also carry the orders out, each in a process of its own, where no systemd unit does.",
)
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(0.01, 3600),
    default=5.0,
    show_default=True,
    help="Passed on to `run`.",
)
@click.pass_obj
def command(obj: dict[str, object], dial: bool, run_orders: bool, checkpoint_seconds: float) -> int:
    """Speak the protocol with the controller.

    Without --dial on standard input and output: the forced command of an sshd account. Needs no
    privilege; orders are handed to `expunge-agent run` through the spool.
    """
    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    state = State.open(Path(str(obj["state"])))
    starter = Starter(state, ("--checkpoint-seconds", str(checkpoint_seconds))) if run_orders else None
    if dial:
        _dial_for_ever(state, starter)
    if sys.stdin.isatty():
        raise UsageError("A person cannot speak this protocol.", "sshd calls it, or use --dial.")
    Conversation(state, StdioStream(), starter).run()
    return 0


def _dial_for_ever(state: State, starter: Starter | None) -> NoReturn:
    """Connect, talk, and connect again; pauses grow to a minute, with jitter so that fleets spread."""
    signal.signal(signal.SIGTERM, lambda *_: _leave())
    log = structlog.get_logger()
    pause = FIRST_PAUSE
    while True:
        address = state.controller()
        try:
            with dial.connection(address, state.dial_key, dial.USER_AGENT) as stream:
                log.info("connected", controller=address.name, host=address.host, port=address.port)
                conversation = Conversation(state, stream, starter)
                try:
                    conversation.run()
                finally:
                    if conversation.was_welcome:
                        pause = FIRST_PAUSE
                log.info("the controller closed the connection")
        except ExpungeError as error:
            log.warning("no connection", problem=error.message, remedy=error.remedy, code=error.code)
            if isinstance(error, PeerIdentityError):
                pause = LONGEST_PAUSE
        _rest(pause * random.uniform(0.5, 1.0), starter)  # noqa: S311 - jitter, not a secret
        pause = min(pause * 2, LONGEST_PAUSE)


def _rest(seconds: float, starter: Starter | None) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if starter is not None:
            starter.tick()
        time.sleep(min(left, 0.5))


def _leave() -> NoReturn:
    raise SystemExit(0)
