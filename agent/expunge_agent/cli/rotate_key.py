"""expunge-agent rotate-key"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from expunge_agent import logs
from expunge_agent.cli.common import key_option
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.enrolment import parse_token
from expunge_agent.rotate import rotate
from expunge_agent.signers.settings import parse_wish


@click.command(name="rotate-key")
@click.argument("token")
@key_option
@click.option("--lost", is_flag=True, help="The present key is gone or does not sign any more: revoke it.")
@click.pass_obj
def command(obj: dict[str, object], token: str, key: str | None, lost: bool) -> int:
    """Sign receipts with another key from now on, by the TOKEN that `expunge keys rotate MACHINE` printed.

    The old key signs the new one. The controller is told at the next call, before any receipt.
    """
    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    line = rotate(
        Path(str(obj["state"])),
        parse_token(token),
        timestamp(datetime.now(UTC)),
        parse_wish(key or "file"),
        lost,
    )
    click.echo(f"Receipts are signed with {sshsig.fingerprint(line)} from now on.")
    return 0
