"""What stands on a device, as the verbs show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from expunge_agent.core.deactivation import Step, listed


def show_deactivation(steps: Mapping[str, Sequence[Step]]) -> None:
    """Print what will be taken down before anything is written, for each target."""
    for path, planned in steps.items():
        if not planned:
            click.echo(f"Nothing stands on {path}.")
            continue
        click.echo(f"First, what stands on {path} is taken down:")
        for line in listed(planned):
            click.echo(f"  {line}")
