"""expunge-agent vault"""

from __future__ import annotations

import importlib

import click

VERBS = {
    "create": "vault_create",
    "put": "vault_objects",
    "get": "vault_objects",
    "list": "vault_list",
    "check": "vault_objects",
    "shred": "vault_shred",
    "rotate": "vault_shred",
    "note": "vault_note",
    "export-manifest": "vault_note",
}


class _Verbs(click.Group):
    """Imports the module of a verb and takes its command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"expunge_agent.cli.{VERBS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_").replace("list", "list_command"))
        return command


@click.group(name="vault", cls=_Verbs)
def command() -> None:
    """Keep data so that it can be made unreadable later, by destroying one key.

    Each subject has a key of its own. `shred` destroys it, whatever copies of the sealed data there are, and
    ends in a signed receipt. docs/vault.md has the format and what it protects against.
    """
