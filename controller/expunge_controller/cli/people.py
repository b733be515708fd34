"""expunge people"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table

by_option = click.option("--by", default="", help="Who does this. Default: this user.")


@click.group(name="people")
def command() -> None:
    """The people who sign custody events, and their public SSH keys."""


@command.command(name="add")
@click.argument("name")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The person's public key: Ed25519 or ECDSA P-256, also in a FIDO2 security key.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    help="operator, witness, custodian, approver, validator, second or checker; may be given several times.",
)
@click.option("--full-name", default="", help="As it is to stand on certificates.")
@click.option("--title", default="", help="What the person is there.")
@click.option("--organisation", default="", help="Where.")
@by_option
@json_option
@click.pass_obj
def add(
    app: App,
    name: str,
    key: Path,
    roles: tuple[str, ...],
    full_name: str,
    title: str,
    organisation: str,
    by: str,
    as_json: bool,
) -> None:
    """Register NAME (lower case letters, digits, - and _) with a public key; the record is signed and logged."""
    from expunge_agent.account import login_name
    from expunge_agent.protocol import sshsig
    from expunge_controller import people
    from expunge_controller.context import utc_now
    from expunge_controller.person_keys import read_public

    line = read_public(key)
    with app.controller() as controller:
        record = people.add(
            controller,
            name,
            line,
            roles=roles,
            full_name=full_name,
            title=title,
            organisation=organisation,
            by=by or login_name(),
            now=utc_now(),
        )
    if as_json:
        print_json({"person": record.person, "key": sshsig.fingerprint(record.key), "roles": record.roles})
    else:
        click.echo(f"{record.person}: {sshsig.fingerprint(record.key)}. Compare this with the person.")


@command.command(name="remove")
@click.argument("name")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]),
    help="From when on signatures do not count (UTC), such as when the key was lost. Default: now.",
)
@click.option("--reason", default="", help="Why.")
@by_option
@json_option
@click.pass_obj
def remove(app: App, name: str, since: datetime | None, reason: str, by: str, as_json: bool) -> None:
    """NAME's signatures do not count from now (or --since) on; what was signed before stays good."""
    from expunge_agent.account import login_name
    from expunge_controller import people
    from expunge_controller.context import utc_now

    start = None if since is None else since.replace(tzinfo=UTC)
    with app.controller() as controller:
        record = people.remove(
            controller, name, since=start, reason=reason, by=by or login_name(), now=utc_now()
        )
    if as_json:
        print_json({"person": record.person, "removed": record.since})
    else:
        click.echo(f"{record.person}: removed from {record.since} on.")


@command.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Every record, removals and earlier keys too.")
@json_option
@click.pass_obj
def list_people(app: App, everything: bool, as_json: bool) -> None:
    """List the people and their keys."""
    from expunge_agent.protocol import canonical, sshsig
    from expunge_controller import people
    from expunge_controller.records.person import known_now

    with app.controller() as controller, controller.store.read() as unit:
        records = people.records_in(unit)
    shown = records if everything else known_now(records)
    if as_json:
        print_json(
            [
                canonical.parse(canonical.dumps(one)) | {"fingerprint": sshsig.fingerprint(one.key)}
                for one in shown
            ]
        )
        return
    print_table(
        ["name", "change", "since", "full name", "title", "organisation", "roles", "key"],
        [
            [
                one.person,
                one.change,
                one.since,
                one.full_name,
                one.title,
                one.organisation,
                ", ".join(one.roles),
                f"{one.key.split()[0]} {sshsig.fingerprint(one.key)}",
            ]
            for one in shown
        ],
        "Nobody is registered. Next: expunge people add NAME --key FILE.pub",
    )
