"""expunge custody"""

from __future__ import annotations

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table


@click.command(name="custody")
@click.argument("medium")
@json_option
@click.pass_obj
def command(app: App, medium: str, as_json: bool) -> None:
    """Show the custody of MEDIUM (digest, property number, label, serial or path), every link checked."""
    from expunge_agent.protocol import canonical, sshsig, trust
    from expunge_controller import key_history
    from expunge_controller.ledger import find_medium
    from expunge_controller.records.custody import check_chain

    with app.controller() as controller, controller.store.read() as unit:
        row = find_medium(unit, medium)
        kept = unit.evidence.custody(row.digest)
        ours = key_history.signers(unit, controller.principal)
    chain = check_chain([event.body for event in kept])
    for event in kept:
        trust.verify(ours, sshsig.CUSTODY_NAMESPACE, event.body, event.signature)
    if as_json:
        print_json([canonical.parse(event.body) for event in kept])
        return
    click.echo(f"Medium {row.digest} ({chain[0].subject if chain else row.hint})")
    print_table(
        ["no", "at", "event", "standing", "actor", "order", "note"],
        [
            [str(event.seq), event.at, event.event, event.standing, event.actor, event.order_id, event.note]
            for event in chain
        ],
        "Nothing is recorded.",
    )
    click.echo(f"{len(chain)} events; every signature and link checks out.")
