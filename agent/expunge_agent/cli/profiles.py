"""expunge-agent profiles"""

from __future__ import annotations

import json
from pathlib import Path

import click

from expunge_agent.cli.common import known_profiles, table
from expunge_agent.errors import ProfileProblemError
from expunge_profiles.load import find
from expunge_profiles.schema import ProfileError


@click.command(name="profiles")
@click.argument("profile", required=False, default="")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def command(obj: dict[str, object], profile: str, as_json: bool) -> int:
    """List the profiles this machine knows, or show PROFILE whole."""
    known = known_profiles(Path(str(obj["state"])))
    if profile:
        try:
            chosen = [find(known, profile)]
        except ProfileError as error:
            raise ProfileProblemError(str(error), "See: expunge-agent profiles") from error
    else:
        chosen = [known[name] for name in sorted(known)]
    if as_json:
        shown = [{**json.loads(one.canonical()), "digest": one.digest} for one in chosen]
        click.echo(json.dumps(shown[0] if profile else shown, ensure_ascii=False, indent=2))
    elif profile:
        one = chosen[0]
        for label, text in (
            ("id", f"{one.id} version {one.version}"),
            ("title", one.title),
            ("passes", one.summary()),
            ("techniques", ", ".join(one.techniques)),
            ("level", one.level),
            ("status", one.status),
            ("authority", one.authority),
            ("source", one.source),
            ("advice", one.advice),
            ("media", ", ".join(one.media)),
            ("digest", one.digest),
        ):
            click.echo(f"{label:<11} {text}")
    else:
        table(
            ["PROFILE", "STATUS", "LEVEL", "WHAT IT DOES"],
            [[one.id, one.status, one.level, one.summary()] for one in chosen],
        )
    return 0
