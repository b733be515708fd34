"""expunge inventory"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from expunge_controller.cli.app import App, json_option, plain, print_json, print_table, size

if TYPE_CHECKING:
    from expunge_agent.protocol.wire import InventoryItem

NAMES = ("serial", "wwn", "instance", "inode", "key")
COLUMNS = (
    "path",
    "bus",
    "type",
    "size",
    "model",
    "serial number or inode",
    "can",
    "hidden",
    "condition",
    "would be refused because",
)
WHERE_TOLD = ("can", "hidden", "condition")
"""Columns that are left out where no medium has anything to say in them."""


@click.command(name="inventory")
@click.argument("machine")
@click.argument("paths", nargs=-1)
@json_option
@click.pass_obj
def command(app: App, machine: str, paths: tuple[str, ...], as_json: bool) -> None:
    """Ask MACHINE for its media, and for what lies at PATHS, and show why each could not be wiped.

    PATHS are those of `wipe`; vault:FOLDER lists the subjects of a vault. --json has all that each drive answered, and what stands on it.
    """
    from expunge_agent.protocol import canonical
    from expunge_controller import fleet
    from expunge_controller.cli.reach import ask_inventory

    with app.controller() as controller:
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine)
        answer = ask_inventory(controller, row, list(paths))
    if as_json:
        print_json(msgspec.to_builtins(answer, enc_hook=canonical.encode_hook))
        return
    columns = [
        name for name in COLUMNS if name not in WHERE_TOLD or any(_cells(item)[name] for item in answer.items)
    ]
    print_table(
        columns,
        [[_cells(item)[name] for name in columns] for item in answer.items],
        "The machine sees no media.",
    )
    for problem in answer.problems:
        click.echo(f"note: {plain(problem)}", err=True)


def _cells(item: InventoryItem) -> dict[str, str]:
    """What the table says of a medium, by column."""
    identity = item.identity
    cells = (
        ", ".join(item.paths) or item.path,
        getattr(identity, "bus", getattr(identity, "scheme", "file")),
        item.type,
        size(int(identity.size)),
        getattr(identity, "model", ""),
        next((value for field in NAMES if (value := str(getattr(identity, field, "")))), ""),
        item.can,
        item.hidden,
        item.silent or item.condition,
        "; ".join(item.blocked),
    )
    return dict(zip(COLUMNS, cells, strict=True))
