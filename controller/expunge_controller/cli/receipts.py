"""expunge receipts"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, plain, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expunge_controller.store.rows import AsideRow, ReceiptRow


@click.command(name="receipts")
@click.argument("digest", required=False)
@click.option("--aside", is_flag=True, help="Those that failed a check, with the reasons.")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many to list."
)
@json_option
@click.pass_obj
def command(app: App, digest: str | None, aside: bool, limit: int, as_json: bool) -> None:
    """List the newest receipts, or print the one whose DIGEST (or its beginning) is given."""
    from expunge_agent.errors import NotFoundError

    with app.controller() as controller, controller.store.read() as unit:
        everything = limit if digest is None else 100_000
        rows: Sequence[ReceiptRow | AsideRow] = (
            unit.evidence.aside(everything) if aside else unit.evidence.receipts(everything)
        )
        names = {machine.machine_id: machine.name for machine in unit.fleet.machines()}
        kept_aside = unit.evidence.aside(100_000)
    if digest is not None:
        found = [row for row in rows if row.digest.startswith(digest)]
        if len(found) != 1 or len(digest) < 6:
            raise NotFoundError(f"There is no single receipt {digest!r}.", "See `expunge receipts`.")
        click.echo(found[0].body.decode("utf-8", "replace"))
        return
    if as_json:
        print_json([_plain(row, names) for row in rows])
        return
    if aside:
        _print_aside(kept_aside[:limit], names)
        return
    print_table(
        ["receipt", "machine", "counter", "outcome", "order", "received"],
        [
            [
                row.digest[:16],
                names.get(row.machine_id, row.machine_id),
                str(row.counter),
                getattr(row, "outcome", ""),
                row.order_digest[:16],
                row.received_at,
            ]
            for row in rows
        ],
        "There are no receipts.",
    )
    if kept_aside:
        click.echo(f"{len(kept_aside)} kept aside because a check failed: expunge receipts --aside", err=True)


def _print_aside(rows: list[AsideRow], names: dict[str, str]) -> None:
    if not rows:
        click.echo("No receipt was kept aside.")
    for row in rows:
        click.echo(f"{row.digest}  from {names.get(row.machine_id, row.machine_id)}  {row.received_at}")
        for reason in row.reasons:
            click.echo(f"  {plain(reason)}")


def _plain(row: ReceiptRow | AsideRow, names: dict[str, str]) -> dict[str, object]:
    return {
        "receipt": row.digest,
        "machine": names.get(row.machine_id, row.machine_id),
        "counter": str(row.counter),
        "order": row.order_digest,
        "outcome": getattr(row, "outcome", ""),
        "reasons": list(getattr(row, "reasons", ())),
        "received_at": row.received_at,
    }
