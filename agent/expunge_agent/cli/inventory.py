"""expunge-agent inventory"""

from __future__ import annotations

from pathlib import Path

import click

from expunge_agent.cli.common import print_json, table
from expunge_agent.core.guard import objections
from expunge_agent.devices.inventory import inventory
from expunge_agent.protocol.identity import FileIdentity, Identity
from expunge_agent.surroundings import protected
from expunge_agent.terminal import size_text


@click.command(name="inventory")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def command(obj: dict[str, object], paths: tuple[str, ...], as_json: bool) -> int:
    """Show the drives of this machine, and the files or devices at PATHS, and what keeps each from being wiped."""
    system = protected(Path(str(obj["state"])))
    rows, plain = [], []
    for found in inventory(paths, system=system):
        against = objections(None, found.medium, found.usage, system)
        medium = found.medium
        plain.append(
            {
                "path": found.usage.path,
                "identity": medium.identity if medium else None,
                "type": medium.type.value if medium else found.usage.kind.value,
                "facts": medium.facts() if medium else None,
                "blocked": against,
                "notes": list(found.usage.notes),
            }
        )
        rows.append(
            [
                found.usage.path,
                medium.type.value if medium else "-",
                size_text(medium.size) if medium else "-",
                _name(medium.identity) if medium else "-",
                against[0].reason.value if against else "can be wiped",
            ]
        )
    if as_json:
        print_json(plain)
    else:
        table(["PATH", "TYPE", "SIZE", "IDENTITY", "STATE"], rows)
    return 0


def _name(identity: Identity) -> str:
    if isinstance(identity, FileIdentity):
        return f"inode {identity.inode} on {identity.device}"
    return " ".join(
        part
        for part in (identity.bus, identity.model, identity.serial or identity.wwn or identity.instance)
        if part
    )
