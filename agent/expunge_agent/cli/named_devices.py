"""From what a person calls a device to the path that is meant."""

from __future__ import annotations

from collections.abc import Sequence

import click

from expunge_agent.devices.aliases import resolve


def resolved(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that are meant, each that was called otherwise said on stderr. Raises NotFoundError, RefusedError."""
    found = tuple(resolve(path) for path in paths)
    for given, path in zip(paths, found, strict=True):
        if given != path:
            click.echo(f"{given} is {path}", err=True)
    return found
