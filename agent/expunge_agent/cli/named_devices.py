"""From what a person calls a device to the path that is meant."""

from __future__ import annotations

from collections.abc import Sequence

import click

from expunge_agent.devices.aliases import resolve
from expunge_agent.errors import UsageError
from expunge_agent.vault_run import PREFIX as VAULT


def resolved(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that are meant, each that was called otherwise said on stderr. Raises NotFoundError, RefusedError, and
    UsageError for a vault's subject."""
    if vaults := [path for path in paths if path.startswith(VAULT)]:
        raise UsageError(
            f"{vaults[0]} is a subject of a vault, which only a controller orders by that name.",
            "Shred it here with: expunge-agent vault shred VAULT SUBJECT",
        )
    found = tuple(resolve(path) for path in paths)
    for given, path in zip(paths, found, strict=True):
        if given != path:
            click.echo(f"{given} is {path}", err=True)
    return found
