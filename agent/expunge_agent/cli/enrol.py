"""expunge-agent enrol"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from expunge_agent import logs
from expunge_agent.cli.common import key_option
from expunge_agent.enrol import enrol
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.enrolment import parse_token
from expunge_agent.signers.settings import parse_wish


@click.command(name="enrol")
@click.argument("token")
@click.option("--replace", is_flag=True, help="Leave the present controller for this one.")
@key_option
@click.pass_obj
def command(obj: dict[str, object], token: str, replace: bool, key: str | None) -> int:
    """Enrol this machine with the TOKEN that `expunge enrol NAME` printed on the controller.

    Makes this machine's keys on first use, and pins the controller's keys that the token carries.
    """
    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    read = parse_token(token)
    name = enrol(
        Path(str(obj["state"])), read, timestamp(datetime.now(UTC)), replace, parse_wish(key) if key else None
    )
    if name:
        click.echo(f"Enrolled as {name} with controller {read.controller} at {read.host}:{read.port}.")
        click.echo(
            "Next: enable expunge-agent-dial.service, or without systemd: expunge-agent serve --dial --run-orders"
        )
    else:
        click.echo(f"Controller {read.controller} is pinned. It completes the enrolment at its first call.")
    return 0
