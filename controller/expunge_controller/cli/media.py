"""expunge media"""

from __future__ import annotations

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table, size


@click.group(name="media")
def command() -> None:
    """Register media before they are wiped, and list them."""


@command.command(name="register")
@click.argument("machine")
@click.argument("target")
@click.option("--property-number", default="", help="The organisation's number for it.")
@click.option("--source", default="", help="Whose it was, or the computer it sat in.")
@click.option("--classification", default="", help="How confidential its data is.")
@click.option("--label", default="", help="What people call it.")
@click.option("--by", default="", help="Who registers it. Default: this user.")
@json_option
@click.pass_obj
def register(
    app: App,
    machine: str,
    target: str,
    property_number: str,
    source: str,
    classification: str,
    label: str,
    by: str,
    as_json: bool,
) -> None:
    """Register the medium TARGET (a path or serial number) of MACHINE; its custody begins."""
    from expunge_agent.account import login_name
    from expunge_controller import fleet
    from expunge_controller.cli.targets import resolve
    from expunge_controller.context import utc_now
    from expunge_controller.ledger import register_medium

    with app.controller() as controller:
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine)
        (found,), warnings = resolve(controller, row, (target,))
        with controller.store.write() as unit:
            medium = register_medium(
                unit,
                controller,
                found.identity,
                machine_id=row.machine_id,
                hint=found.hint,
                actor=by or login_name(),
                now=utc_now(),
                property_number=property_number,
                source=source,
                classification=classification,
                label=label,
            )
    if as_json:
        print_json({"medium": medium.digest, "hint": medium.hint, "machine": row.name, "warnings": warnings})
        return
    click.echo(f"Registered {found.hint} of {row.name} as medium {medium.digest}")
    for warning in warnings:
        click.echo(f"note: as it stands the agent would refuse to wipe it: {warning}", err=True)


@command.command(name="list")
@json_option
@click.pass_obj
def list_media(app: App, as_json: bool) -> None:
    """List the registered media and where they stand."""
    from expunge_agent.protocol import canonical
    from expunge_agent.protocol.identity import subject_name
    from expunge_controller.ledger import identity_of
    from expunge_controller.records.custody import parse_custody_event

    with app.controller() as controller, controller.store.read() as unit:
        media = unit.evidence.media()
        names = {machine.machine_id: machine.name for machine in unit.fleet.machines()}
        last = {medium.digest: unit.evidence.last_custody(medium.digest) for medium in media}
    standing = {
        digest: str(parse_custody_event(row.body).standing) if row else "" for digest, row in last.items()
    }
    if as_json:
        print_json(
            [
                {
                    "medium": medium.digest,
                    "identity": canonical.parse(medium.identity),
                    "machine": names[medium.machine_id],
                    "hint": medium.hint,
                    "property_number": medium.property_number,
                    "source": medium.source,
                    "classification": medium.classification,
                    "label": medium.label,
                    "registered_at": medium.registered_at,
                    "standing": standing[medium.digest],
                }
                for medium in media
            ]
        )
        return
    print_table(
        ["medium", "name", "machine", "size", "property number", "standing"],
        [
            [
                medium.digest[:16],
                subject_name(identity_of(medium)),
                names[medium.machine_id],
                size(int(identity_of(medium).size)),
                medium.property_number,
                standing[medium.digest],
            ]
            for medium in media
        ],
        "No medium is registered. Next: expunge media register MACHINE PATH",
    )
