"""expunge media"""

from __future__ import annotations

from typing import Any

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


@command.command(name="paper")
@click.argument("number")
@click.option("--container", type=click.Choice(["box", "folder", "file", "binder", "other"]), required=True)
@click.option("--description", required=True, help="What is in it.")
@click.option("--count", type=click.IntRange(1), required=True, help="How many pieces are in it.")
@click.option("--seal", default="", help="The number of its seal.")
@click.option("--location", default="", help="Where it stands.")
@click.option("--source", default="", help="Whose it was.")
@click.option("--classification", default="", help="How confidential it is.")
@click.option("--by", default="", help="Who registers it. Default: this user.")
@json_option
@click.pass_obj
def paper(app: App, /, number: str, as_json: bool, **said: Any) -> None:
    """Register paper records under the NUMBER that stands on them; no agent touches paper."""
    from expunge_agent.account import login_name
    from expunge_agent.errors import RefusedError
    from expunge_agent.protocol import canonical
    from expunge_controller.context import utc_now
    from expunge_controller.ledger import holders_of, register_medium
    from expunge_controller.records.paper import PaperIdentity

    plain = {"kind": "paper", "number": number}
    plain |= {key: said[key] for key in ("container", "description")}
    identity = canonical.convert(plain, PaperIdentity, "paper")
    with app.controller() as controller, controller.store.write() as unit:
        if holders_of(unit, number):
            raise RefusedError(f"{number!r} is on something that is registered.", "See `expunge media find`.")
        medium = register_medium(
            unit,
            controller,
            identity,
            machine_id=None,
            hint="",
            actor=said["by"] or login_name(),
            now=utc_now(),
            property_number=number,
            source=said["source"],
            classification=said["classification"],
            location=said["location"],
            seal_id=said["seal"],
            count=said["count"],
        )
    if as_json:
        print_json({"medium": medium.digest, "number": number})
    else:
        click.echo(f"Registered {said['container']} {number} as medium {medium.digest}")


@command.command(name="find")
@click.argument("text")
@json_option
@click.pass_obj
def find(app: App, text: str, as_json: bool) -> None:
    """Find what TEXT, as a scanner reads it, stands on: serial, WWN, property number, label or any seal it ever had."""
    from expunge_agent.errors import NotFoundError
    from expunge_controller.ledger import holders_of, subject_of
    from expunge_controller.records.custody import parse_custody_event

    with app.controller() as controller, controller.store.read() as unit:
        chains = [
            (medium, [parse_custody_event(row.body) for row in unit.evidence.custody(medium.digest)])
            for medium in holders_of(unit, text)
        ]
    if not chains:
        raise NotFoundError(f"Nothing that is registered bears {text!r}.", "See `expunge media list`.")
    names = ("medium", "name", "property_number", "standing", "location", "seal", "last")
    rows = [
        (
            medium.digest,
            subject_of(medium),
            medium.property_number,
            str(chain[-1].standing),
            next((one.location for one in reversed(chain) if one.location), ""),
            next((one.seal_id for one in reversed(chain) if one.seal_id), ""),
            f"{chain[-1].event} {chain[-1].at}",
        )
        for medium, chain in chains
    ]
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_table([name.replace("_", " ") for name in names], [[row[0][:16], *row[1:]] for row in rows], "")


@command.command(name="list")
@json_option
@click.pass_obj
def list_media(app: App, as_json: bool) -> None:
    """List the registered media and where they stand."""
    from expunge_agent.protocol import canonical
    from expunge_controller.ledger import identity_of, subject_of
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
                    "machine": names.get(medium.machine_id or "", ""),
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
                subject_of(medium),
                names.get(medium.machine_id or "", ""),
                size(int(identity_of(medium).size)) if medium.machine_id else "",
                medium.property_number,
                standing[medium.digest],
            ]
            for medium in media
        ],
        "No medium is registered. Next: expunge media register MACHINE PATH",
    )
