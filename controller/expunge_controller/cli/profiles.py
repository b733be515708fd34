"""expunge profiles"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, plain, print_json, print_table

if TYPE_CHECKING:
    from expunge_controller.settings import Home
    from expunge_profiles.schema import Profile, ProfileError


@click.group(name="profiles")
def command() -> None:
    """List the sanitization profiles, or show one. Own ones lie in ``profiles/`` of the controller's folder."""


@command.command(name="list")
@json_option
@click.pass_obj
def list_profiles(app: App, as_json: bool) -> None:
    """List every profile."""
    from expunge_controller.policies import all_profiles

    usable, broken = all_profiles(_home(app))
    profiles = usable.values()
    if as_json:
        print_json(
            [
                {
                    "id": profile.id,
                    "version": profile.version,
                    "title": profile.title,
                    "level": profile.level,
                    "status": profile.status,
                    "digest": profile.digest,
                }
                for profile in profiles
            ]
        )
        _tell(broken)
        return
    print_table(
        ["id", "version", "level", "status", "what it does"],
        [
            [profile.id, str(profile.version), profile.level, profile.status, summary(profile)]
            for profile in profiles
        ],
        "There are none.",
    )
    _tell(broken)


def _tell(broken: list[ProfileError]) -> None:
    for problem in broken:
        click.echo(f"broken, cannot be used: {plain(str(problem))}", err=True)


def summary(profile: Profile) -> str:
    """What the profile does, and how it ends where that may surprise."""
    if profile.verification.kind == "none":
        return f"{profile.summary()}; ends as sanitized-with-exceptions: nothing is read back"
    return profile.summary()


@command.command(name="show")
@click.argument("profile_id", metavar="PROFILE")
@json_option
@click.pass_obj
def show(app: App, profile_id: str, as_json: bool) -> None:
    """Show one profile and its digest, the one that stands in orders and receipts."""
    import json

    from expunge_controller.policies import profile_called

    profile = profile_called(_home(app), profile_id)
    if as_json:
        print_json({**json.loads(profile.canonical()), "digest": profile.digest})
        return
    rows = {
        "id": f"{profile.id}, version {profile.version}",
        "title": profile.title,
        "level": profile.level,
        "status": profile.status,
        "authority": profile.authority,
        "source": profile.source,
        "advice": profile.advice,
        "media": ", ".join(profile.media),
        "techniques": ", ".join(profile.techniques),
        "does": summary(profile),
        "seal": "yes" if profile.seal else "no",
        "digest": profile.digest,
    }
    for name, value in rows.items():
        click.echo(f"{name:<11}{value}")


def _home(app: App) -> Home | None:
    """The controller's folder where there is one: profiles can be read without."""
    return app.home if app.home.config.exists() else None
