"""expunge-agent plan"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.common import known_profiles, login_name, print_json, psid_option, psids
from expunge_agent.cli.keys import key_options, key_wish
from expunge_agent.cli.named_devices import resolved
from expunge_agent.cli.planned import SPECIAL, Order, Planned, planned
from expunge_agent.cli.show_candidates import show_candidates
from expunge_agent.cli.show_deactivation import show_deactivation
from expunge_agent.cli.space import space_options, space_wish
from expunge_agent.core.deactivation import Taking
from expunge_agent.core.drive import Drive
from expunge_agent.core.guard import objections
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.medium import Found, Medium
from expunge_agent.core.selection import Selection, select, taken
from expunge_agent.core.technique import Technique
from expunge_agent.deactivating import closed_by, taking_of
from expunge_agent.devices.encrypted import with_encryption
from expunge_agent.devices.look import look
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import EXIT_OK, ProfileProblemError, RefusedError, UsageError
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.overlap import REMEDY, overlap_of
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.shredding import still_held, with_luks
from expunge_agent.surroundings import protected
from expunge_agent.terminal import about_time, size_text
from expunge_profiles.load import find
from expunge_profiles.schema import Profile, ProfileError


@click.command(name="plan")
@click.argument("paths", metavar="TARGET...", nargs=-1, required=True, type=click.Path())
@click.option("--profile", help="Weigh only what this profile allows: see `expunge-agent profiles`.")
@click.option(
    "--level",
    type=click.Choice(["clear", "purge"]),
    default="clear",
    show_default=True,
    help="The level needed (NIST SP 800-88).",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept a lower level than asked, as an order may.")
@psid_option
@space_options
@click.option("--deactivate", is_flag=True, help="Show what would be taken down first, as an order may.")
@key_options
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_obj
def command(obj: dict[str, object], /, paths: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Show every technique for each TARGET: whether it can be used, why not, what it earns, how long it takes.

    A TARGET is what `wipe` takes: also free-space:MOUNTPOINT and fscrypt:FOLDER.

    Nothing is written, and nothing is promised: drives are only asked what they are and can do. Name all
    targets of the order at once: a command that takes every namespace of an NVMe drive is only usable
    where all of them are targets.

    Exit code 0: an order like this would be carried out. 3: it would be refused, for the reason given.
    """
    root = Path(str(obj["state"]))
    profile = _profile(root, options["profile"])
    level = Level(options["level"])
    labels, paths = psids(options["psid"], paths), resolved(given := paths)
    labels = {path: labels.get(name, "") for name, path in zip(given, paths, strict=True)}
    eyes = Eyes.open(system=protected(root))
    wish = key_wish(options, login_name(), eyes)
    order = Order(profile, level, bool(options["allow_downgrade"]), wish, space_wish(options))
    plans = _plans(eyes, paths, order, labels)
    if options["deactivate"]:
        plans = [_deactivated(one, root, plans) for one in plans]
    plans = _kept_apart([_with_key_in_use(one) for one in plans])
    if as_json:
        print_json(
            {
                "profile": profile.id if profile else "",
                "level": level,
                "allow_downgrade": bool(options["allow_downgrade"]),
                "plans": [_plain(one) for one in plans],
            }
        )
    else:
        for one in plans:
            show(one)
    return EXIT_OK if all(one.goes for one in plans) else RefusedError.exit_code


def _profile(root: Path, name: str | None) -> Profile | None:
    if name is None:
        return None
    try:
        return find(known_profiles(root), name)
    except ProfileError as error:
        raise ProfileProblemError(str(error), "See: expunge-agent profiles") from error


def _plans(eyes: Eyes, paths: Sequence[str], order: Order, labels: Mapping[str, str]) -> list[Planned]:
    named = [path for path in paths if not path.startswith(SPECIAL)]
    seen = {path: look(path, eyes=eyes) for path in named}
    real = [seen[path].usage.path for path in named] + [path for path in paths if path.startswith(SPECIAL)]
    twice = next((path for path in real if real.count(path) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice} is named twice.", "Name each target once.")
    return [
        _of_medium(seen[path], real, eyes, order, labels.get(path, ""))
        if path in seen
        else planned(path, order, eyes.system)
        for path in paths
    ]


def _of_medium(found: Found, real: Sequence[str], eyes: Eyes, order: Order, psid: str) -> Planned:
    medium, selection, luks = found.medium, None, None
    if medium is not None:
        medium = with_encryption(medium)
        drive = _drive(medium)
        target = Target(identity=medium.identity, hint=medium.path, psid=psid)
        scope = with_luks(scope_of(drive, medium.path, real, eyes), medium, order.profile, order.keys)
        selection = select(target, medium, drive, order.profile, order.level, order.allow_downgrade, scope)
        if selection.chosen is Technique.LUKS_ERASE and isinstance(scope.luks, LuksCase):
            luks = scope.luks
    against = objections(None, medium, found.usage, eyes.system)
    return Planned(found.usage.path, medium, against, selection, luks=luks)


def _kept_apart(plans: Sequence[Planned]) -> list[Planned]:
    """The same; one that has bytes in common with a target before it is refused, as the order would be."""
    targets = [Target(identity=one.medium.identity, hint=one.path) if one.medium else None for one in plans]
    out = []
    for index, one in enumerate(plans):
        text = overlap_of(targets, index)
        against = [Refusal(reason=Reason.OVERLAPPING_TARGETS, detail=text, remedy=REMEDY)] if text else []
        out.append(replace(one, blocked=[*one.blocked, *against]))
    return out


def _with_key_in_use(one: Planned) -> Planned:
    """The same with what the run would find: a mapping that stays open holds the key that is to go."""
    if one.luks is None:
        return one
    held = still_held(one.luks, [], closed_by(Taking(steps=list(one.deactivation))))
    return one if held is None else replace(one, blocked=[*one.blocked, held])


def _deactivated(one: Planned, root: Path, plans: Sequence[Planned]) -> Planned:
    """The same with what stands on it taken down first, as far as that is possible."""
    if one.medium is None or not isinstance(one.medium.identity, BlockIdentity):
        return one
    others = frozenset(other.path for other in plans) - {one.path}
    taking = taking_of(one.path, protected(root), others)
    left = [refusal for refusal in one.blocked if refusal.reason not in _TAKEN_DOWN]
    return replace(one, blocked=[*taking.refusals, *left], deactivation=taking.steps)


_TAKEN_DOWN = (Reason.SWAP, Reason.MOUNTED, Reason.HELD, Reason.IN_USE)
"""Reasons of which the plan of taking down knows more."""


def _drive(medium: Medium) -> Drive | None:
    """What the drive at the medium's path answers, for a partition the whole one, as when the order runs; a file is none."""
    if not isinstance(medium.identity, BlockIdentity):
        return None
    from expunge_agent.devices.drives import examine  # only where there is a drive to ask

    return examine(medium.path)


def _plain(one: Planned) -> dict[str, object]:
    return {
        "path": one.path,
        "identity": one.medium.identity if one.medium else one.identity,
        "facts": one.medium.facts() if one.medium else None,
        "blocked": list(one.blocked),
        "deactivation": list(one.deactivation),
        "selection": one.selection,
    }


def show(one: Planned) -> None:
    """Print what was weighed for one target, what would be taken, and what forbids it as things stand."""
    if one.selection is None:
        click.echo(f"{one.path}: no medium")
    else:
        of_medium = f"{one.selection.type}, {size_text(one.medium.size)}" if one.medium else ""
        click.echo(f"{one.path}: {one.what or of_medium}")
        for note in one.medium.notes if one.medium else one.notes:
            click.echo(f"  Note: {note}")
        show_candidates(one.selection)
        click.echo(_verdict(one.selection))
    if one.deactivation:
        show_deactivation({one.path: one.deactivation})
    for refusal in one.blocked:
        click.echo(f"Refused as things stand: {refusal.detail} {refusal.remedy}".rstrip())
    click.echo()


def _verdict(selection: Selection) -> str:
    chosen = taken(selection)
    if isinstance(chosen, Refusal):
        return f"Level {selection.level}: refused ({chosen.reason}). {chosen.detail} {chosen.remedy}".rstrip()
    lines = [f"Level {selection.level}: {chosen.technique}, which earns {chosen.earns} at the most."]
    if selection.downgrade:
        lines.append(selection.downgrade)
    lines += [
        f"The {area.kind.upper()} of {area.size} bytes is given back first." for area in selection.restores
    ]
    source = f" ({chosen.seconds_from})" if chosen.seconds_from else ""
    reading_back = about_time(selection.read_back_seconds)
    lines.append(f"Time: {about_time(chosen.seconds)}{source}, reading back {reading_back}.")
    return " ".join(lines)
