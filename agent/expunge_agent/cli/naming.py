"""What a person calls a device, and what stands on it, as the verbs show both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from expunge_agent.core.deactivation import Step, listed
from expunge_agent.devices.aliases import resolve


def resolved(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that are meant, each that was called otherwise said on stderr. Raises NotFoundError, RefusedError."""
    found = tuple(resolve(path) for path in paths)
    for given, path in zip(paths, found, strict=True):
        if given != path:
            click.echo(f"{given} is {path}", err=True)
    return found


def show_deactivation(steps: Mapping[str, Sequence[Step]]) -> None:
    """Print what will be taken down before anything is written, for each target."""
    for path, planned in steps.items():
        if not planned:
            click.echo(f"Nothing stands on {path}.")
            continue
        click.echo(f"First, what stands on {path} is taken down:")
        for line in listed(planned):
            click.echo(f"  {line}")
