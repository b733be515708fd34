"""expunge jobs"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table

if TYPE_CHECKING:
    from expunge_controller.store.rows import OrderRow


@click.command(name="jobs")
@click.argument("order", required=False)
@click.option("--follow", is_flag=True, help="Show how it goes, to its end.")
@click.option("--cancel", is_flag=True, help="Close it, if it was never sent to its machine.")
@click.option("--reason", default="", help="Why it is cancelled; kept in the custody of its media.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many to list."
)
@json_option
@click.pass_obj
def command(
    app: App, order: str | None, follow: bool, cancel: bool, reason: str, limit: int, as_json: bool
) -> int:
    """List the newest orders, show, follow or cancel one: ORDER is an order id or the start of its digest."""
    from expunge_agent.account import login_name
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol import canonical
    from expunge_controller import dispatch
    from expunge_controller.cli.follow import follow as follow_order
    from expunge_controller.cli.follow import report
    from expunge_controller.context import utc_now
    from expunge_controller.store.rows import OPEN

    if order is None and follow:
        raise UsageError("Which order is to be followed?", "Give its id; see `expunge jobs`.")
    if cancel and (order is None or follow):
        raise UsageError("Which order is to be cancelled?", "Give its id, without --follow.")
    if reason and not cancel:
        raise UsageError("--reason belongs to --cancel.", "Leave it out.")
    with app.controller() as controller:
        if cancel and order is not None:
            row = dispatch.cancel(controller, order, by=login_name(), reason=reason, now=utc_now())
            _say_cancelled(row, as_json)
            return 0
        if order is None:
            _list(app, limit, as_json)
            return 0
        with controller.store.read() as unit:
            row = dispatch.find_order(unit, order)
            machine = unit.fleet.machine(row.machine_id)
        if follow and machine is not None and row.status in OPEN:
            return follow_order(controller, row, machine, as_json=as_json)
        if follow:
            return report(controller, row, as_json=as_json)
        shown = {
            "order_id": row.order_id,
            "digest": row.digest,
            "machine": machine.name if machine else row.machine_id,
            "status": str(row.status),
            "outcome": row.outcome,
            "note": row.note,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
            "order": canonical.parse(row.body),
        }
        print_json(shown)
        return 0


def _say_cancelled(row: OrderRow, as_json: bool) -> None:
    if as_json:
        print_json({"order_id": row.order_id, "digest": row.digest, "status": str(row.status)})
    else:
        click.echo(f"Order {row.order_id} is cancelled; nothing was sent.")


def _list(app: App, limit: int, as_json: bool) -> None:
    with app.controller() as controller, controller.store.read() as unit:
        orders = unit.orders.newest(limit)
        names = {machine.machine_id: machine.name for machine in unit.fleet.machines()}
    if as_json:
        print_json(
            [
                {
                    "order_id": row.order_id,
                    "digest": row.digest,
                    "machine": names[row.machine_id],
                    "status": str(row.status),
                    "outcome": row.outcome,
                    "note": row.note,
                    "created_at": row.created_at,
                    "updated_at": row.updated_at,
                }
                for row in orders
            ]
        )
        return
    print_table(
        ["order", "machine", "status", "outcome", "created", "note"],
        [
            [row.order_id, names[row.machine_id], row.status, row.outcome, row.created_at, row.note]
            for row in orders
        ],
        "There are no orders. Next: expunge wipe MACHINE TARGET --profile PROFILE",
    )
