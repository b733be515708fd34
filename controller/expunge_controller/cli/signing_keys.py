"""expunge keys: the life of signing keys"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, Duration, json_option, print_json, print_table

if TYPE_CHECKING:
    from expunge_controller.records.key_event import KeyEvent

reason_option = click.option("--reason", required=True, help="Why; it stands in the event.")
by_option = click.option("--requested-by", default="", help="Who says so.  [default: this account]")
since_option = click.option(
    "--since", required=True, metavar="TIME", help="Since when: 2026-01-31T12:00:00Z, in UTC."
)


@click.group(name="keys")
def command() -> None:
    """When signing keys came and went. Every event is signed and stands in the log; none is taken back."""


@command.command(name="list")
@click.argument("machine", required=False)
@json_option
@click.pass_obj
def list_keys(app: App, machine: str | None, as_json: bool) -> None:
    """List the key events of MACHINE, or of all and of the controller."""
    from expunge_agent.protocol import canonical
    from expunge_controller import fleet, key_history

    with app.controller() as controller, controller.store.read() as unit:
        names = {fleet.agent_principal(row.machine_id): row.name for row in unit.fleet.machines()}
        whose = unit.keys.principals()
        if machine is not None:
            whose = [fleet.agent_principal(fleet.machine_named(unit, machine).machine_id)]
        events = [event for who in whose for event in key_history.events_of(unit, who)]
    if as_json:
        print_json([canonical.parse(canonical.dumps(event)) for event in events])
        return
    print_table(
        ["whose", "no", "at", "event", "since", "key", "by", "reason"],
        [
            [
                names.get(event.principal, event.principal), str(event.seq), event.at, str(event.event),
                event.since if event.since != event.at else "", _keys(event), event.actor, event.reason,
            ]
            for event in events
        ],
        "There are no key events.",
    )  # fmt: skip


@command.command(name="signers")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Write it there instead of printing it."
)
@click.pass_obj
def signers(app: App, output: Path | None) -> None:
    """Print allowed_signers for auditors: every key there ever was, and the time in which it counts."""
    from expunge_agent.protocol.trust import format_allowed_signers
    from expunge_controller import files, people

    with app.controller() as controller, controller.store.read() as unit:
        text = format_allowed_signers(people.for_auditors(unit))
    if output is None:
        click.echo(text, nl=False)
    else:
        files.write_private(output, text.encode())


@command.command(name="rotate")
@click.argument("machine", required=False)
@click.option("--controller", "own", is_flag=True, help="The controller's own key instead of a machine's.")
@click.option(
    "--expires-in", type=Duration(), default="24h", show_default=True, help="How long the token is good."
)
@click.option("--reason", default="", help="Why, for the controller's own key; it stands in the event.")
@by_option
@json_option
@click.pass_obj
def rotate(
    app: App,
    machine: str | None,
    own: bool,
    expires_in: timedelta,
    reason: str,
    requested_by: str,
    as_json: bool,
) -> None:
    """Print a one-time token with which MACHINE may change its signing key, or change the controller's own.

    The machine signs the change with its old key. Where that is lost, the old one is revoked and the new one enrolled.
    """
    from expunge_controller import fleet, rotating
    from expunge_controller.context import utc_now

    with app.controller() as controller:
        if _is_own(machine, own):
            line = rotating.rotate_controller(
                controller, reason=reason, actor=_actor(requested_by), now=utc_now()
            )
            _say_own(line, as_json)
            return
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine or "")
        token = rotating.rotation_token(controller, row, valid_for=expires_in, now=utc_now())
    typed = f"expunge-agent rotate-key {token.text()}"
    if as_json:
        print_json({"name": row.name, "token": token.text(), "command": typed})
        return
    click.echo(
        f"Token for a new signing key of {row.name}, good once. On the machine, as root, type:\n\n  {typed}\n"
    )
    click.echo(f"It comes into force at the machine's next call; see: expunge keys list {row.name}")


@command.command(name="revoke")
@click.argument("machine")
@reason_option
@by_option
@json_option
@click.pass_obj
def revoke(app: App, machine: str, reason: str, requested_by: str, as_json: bool) -> None:
    """Believe nothing that the key of MACHINE signs from now on. What the log holds already stays good."""
    from expunge_controller import fleet, key_history
    from expunge_controller.context import utc_now

    with app.controller() as controller:
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine)
        event = key_history.revoke(controller, row, reason=reason, actor=_actor(requested_by), now=utc_now())
    _say(event, as_json, "Receipts that it signs are kept aside, and no order is given to it.")


@command.command(name="compromised")
@click.argument("machine", required=False)
@click.option(
    "--controller", "own", is_flag=True, help="The controller's own key: it is rotated at the same time."
)
@since_option
@click.option(
    "--key", "fingerprint", default="", metavar="SHA256:…", help="An earlier key.  [default: the newest]"
)
@reason_option
@by_option
@json_option
@click.pass_obj
def compromised(
    app: App,
    machine: str | None,
    own: bool,
    since: str,
    fingerprint: str,
    reason: str,
    requested_by: str,
    as_json: bool,
) -> None:
    """Believe nothing that a key of MACHINE signed since TIME, but for what the log proves to be from before."""
    from expunge_controller import fleet, key_history, rotating
    from expunge_controller.context import utc_now

    moment = _time(since)
    with app.controller() as controller:
        if _is_own(machine, own):
            line = rotating.rotate_controller(
                controller, reason=reason, actor=_actor(requested_by), now=utc_now(), compromised_since=moment
            )
            _say_own(line, as_json)
            return
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine or "")
        event = key_history.compromised(
            controller,
            row,
            since=moment,
            fingerprint=fingerprint,
            reason=reason,
            actor=_actor(requested_by),
            now=utc_now(),
        )
    _say(event, as_json, "Give auditors the new list: expunge keys signers")


def _say(event: KeyEvent, as_json: bool, more: str) -> None:
    from expunge_agent.protocol import canonical

    if as_json:
        print_json(canonical.parse(canonical.dumps(event)))
        return
    click.echo(f"{event.event} since {event.since}: {_keys(event)}. {more}")
    click.echo(
        "Bundles written before do not say so: have witnesses sign it (expunge log cosign), and export anew."
    )


def _say_own(line: str, as_json: bool) -> None:
    from expunge_agent.protocol import sshsig

    if as_json:
        print_json({"order_key": line})
        return
    click.echo(
        f"The controller signs with {sshsig.fingerprint(line)} from now on. Machines obey it once they were told:"
    )
    click.echo("for each, `expunge keys rotate MACHINE` and, on the machine, what that prints.")


def _keys(event: KeyEvent) -> str:
    from expunge_agent.protocol import sshsig

    arrow = f" → {sshsig.fingerprint(event.successor)}" if event.successor else ""
    return sshsig.fingerprint(event.key) + arrow


def _is_own(machine: str | None, own: bool) -> bool:
    from expunge_agent.errors import UsageError

    if own == (machine is not None):
        raise UsageError("Name one machine, or use --controller.", "See `expunge machines`.")
    return own


def _actor(requested_by: str) -> str:
    from expunge_agent.account import login_name

    return requested_by or login_name()


def _time(text: str) -> str:
    """A time as documents have it. Raises UsageError for one that does not say its zone."""
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol.base import timestamp

    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None:
            raise ValueError(text)
        return timestamp(found.astimezone(UTC))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is not a time with its zone.", "Write 2026-01-31T12:00:00Z.") from error
