"""expunge-agent leftovers"""

from __future__ import annotations

from pathlib import Path

import click

from expunge_agent.cli.common import print_json, table
from expunge_agent.errors import EXIT_OK, StateError
from expunge_agent.leftovers import Leftover, leftovers, remove
from expunge_agent.state import State


@click.command(name="leftovers")
@click.option("--remove", "removes", is_flag=True, help="Remove what orders left that have their receipt.")
@click.option("--unfinished", is_flag=True, help="With --remove: also of orders that were not ended.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def command(obj: dict[str, object], removes: bool, unfinished: bool, as_json: bool) -> int:
    """Show hidden folders that orders left on file systems whose free space they filled, or remove them.

    They are found by the orders' journals, and removed only where they are what was made there. An order that
    was not ended takes its folder away itself when it goes on (expunge-agent run --pending). Orders under way are
    left alone.
    """
    state = State.open(Path(str(obj["state"])))
    shown, failed = [], []
    for one in leftovers(state):
        done = "kept"
        if removes and _may_go(one, unfinished):
            why = remove(one)
            done = "removed" if not why else "could not be removed"
            failed += [why] if why else []
        shown.append({"order": one.order, "folder": one.path, "order_is": one.standing, "done": done})
    if as_json:
        print_json(shown)
    else:
        rows = [[row["folder"], row["order"][:16], row["order_is"], row["done"]] for row in shown]
        table(["FOLDER", "ORDER", "ORDER IS", "DONE"], rows)
    if failed:
        raise StateError(
            f"Not everything could be removed: {'; '.join(failed)}.", "Look at it, then remove it by hand."
        )
    return EXIT_OK


def _may_go(one: Leftover, unfinished: bool) -> bool:
    return one.standing == "finished" or (unfinished and one.standing == "unfinished")
