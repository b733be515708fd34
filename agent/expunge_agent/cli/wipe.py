"""expunge-agent wipe"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.common import (
    EXIT_CODES,
    known_profiles,
    login_name,
    print_json,
    print_line,
    psid_option,
    psids,
    table,
)
from expunge_agent.cli.keys import FSCRYPT, fscrypt_plan, key_options, key_wish
from expunge_agent.cli.naming import resolved, show_deactivation
from expunge_agent.cli.running import heed_signals, run_options, surroundings
from expunge_agent.cli.space import plan_space_target, space_options, space_wish
from expunge_agent.core.deactivation import Step
from expunge_agent.core.guard import SystemPaths, guard, standing_objections
from expunge_agent.core.medium import Medium, Usage
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan, plan_target
from expunge_agent.deactivating import taking_of, volume_facts
from expunge_agent.devices.drives import examine
from expunge_agent.devices.look import look
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.space import PREFIX
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import (
    ExpungeError,
    InterruptedWipeError,
    ProfileProblemError,
    RefusedError,
    UsageError,
)
from expunge_agent.events import EventLog
from expunge_agent.local import Wish, hand_in, local_order, never_valid
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.event import Event
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, SpaceWish, Target
from expunge_agent.protocol.receipt import Reason, Receipt, Refusal, parse_statement
from expunge_agent.shredding import with_luks
from expunge_agent.state import State
from expunge_agent.surroundings import protected
from expunge_agent.terminal import ProgressView, size_text
from expunge_agent.wipe import run_order
from expunge_profiles.load import find
from expunge_profiles.schema import Profile, ProfileError

Plan = list[tuple[Target, TargetPlan]]


def _text(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A text that a document can hold."""
    if len(value) > 200 or not value.isprintable():
        raise click.BadParameter("at most 200 printable characters.", param=param)
    return value


@click.command(name="wipe")
@click.argument("paths", nargs=-1, required=True, type=click.Path())
@click.option("--profile", required=True, help="What to do: see `expunge-agent profiles`.")
@click.option(
    "--level",
    type=click.Choice(["clear", "purge"]),
    default="clear",
    show_default=True,
    help="The level needed (NIST SP 800-88).",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept a lower level than asked; the receipt says so.")
@click.option("--case", default="", callback=_text, help="Case or ticket number, for the receipt.")
@click.option("--reason", default="", callback=_text, help="Why, for the receipt.")
@click.option(
    "--requested-by", default="", callback=_text, help="Who asks; the user's login name if left out."
)
@psid_option
@space_options
@click.option(
    "--deactivate",
    is_flag=True,
    help="Take down what stands on the targets first: unmount, swapoff, close, stop. Shown before it is done.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the very plan, touch nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="JSON Lines: each event, at the end the receipt; or the plan."
)
@key_options
@run_options
@click.pass_obj
def command(obj: dict[str, object], /, paths: tuple[str, ...], **options: Any) -> int:
    """Destroy all data on PATHS (regular files or block devices) on this machine.

    free-space:MOUNTPOINT stands for what was deleted from a mounted file system: its free space is filled and
    given back (docs/free-space.md). A block device may be called by UUID=, PARTUUID=, LABEL= or PARTLABEL=, or
    by its link in /dev/disk/by-*, /dev/mapper, /dev/md or /dev/GROUP; what it leads to is shown.
    fscrypt:/path takes away the key of an encrypted folder. A profile such as luks-crypto-erase takes away the keys of
    a LUKS volume; what you know of them is stated with --statement.

    The order is signed by this machine itself, so the receipt shows that no controller was asked.
    SIGUSR1 prints how far it is, SIGUSR2 pauses and resumes, Ctrl-C ends it with a truthful receipt.
    """
    root = Path(str(obj["state"]))
    eyes = Eyes.open(system=protected(root))
    wish = _wish(root, options, eyes)
    labels, paths = psids(options["psid"], paths), resolved(given := paths)
    labels = {path: labels.get(name, "") for name, path in zip(given, paths, strict=True)}
    try:
        plan = _plan(paths, wish, eyes, labels, space_wish(options))
        taken_down = _deactivation(plan, wish, root)
    except _Objection as error:
        sealed = None if options["dry_run"] else _refuse(root, error, wish, options)
        told = f" Receipt {sealed} says so." if sealed is not None else ""
        raise RefusedError(error.refusal.detail, f"{error.refusal.remedy}{told}".strip()) from None
    as_json = bool(options["as_json"])
    if not as_json:
        _show_plan(plan, wish)
        show_deactivation(taken_down)
    if options["dry_run"]:
        if as_json:
            print_json(
                {
                    "profile": wish.profile.id,
                    "plans": [_without_keys(steps, wish.profile) for _, steps in plan],
                    "deactivation": taken_down,
                }
            )
        else:
            click.echo("Nothing was touched (--dry-run).")
        return 0
    _confirm(len(plan), bool(options["yes"]))
    return _carry_out(root, [target for target, _ in plan], wish, options)


def _wish(root: Path, options: Mapping[str, Any], eyes: Eyes) -> Wish:
    try:
        profile = find(known_profiles(root), options["profile"])
    except ProfileError as error:
        raise ProfileProblemError(str(error), "See: expunge-agent profiles") from error
    asks = options["requested_by"] or login_name()
    return Wish(
        profile=profile,
        level=Level(options["level"]),
        allow_downgrade=options["allow_downgrade"],
        requested_by=asks,
        case_number=options["case"],
        reason=options["reason"],
        deactivate=options["deactivate"],
        keys=key_wish(options, asks, eyes),
    )


class _Objection(Exception):  # noqa: N818 - an end, not a fault of the program
    """`refusal` keeps `target` (None: there is no medium to name) from being wiped."""

    def __init__(self, refusal: Refusal, target: Target | None) -> None:
        super().__init__(refusal.detail)
        self.refusal, self.target = refusal, target


def _refuse(root: Path, error: _Objection, wish: Wish, options: Mapping[str, Any]) -> int | None:
    """Sign that it was refused; the receipt's number. None where nothing can be named, or this user has no state."""
    if error.target is None:
        return None
    try:
        state = State.create(root)
    except ExpungeError:
        return None
    around = surroundings(root, known_profiles(root), options)
    order = never_valid(local_order(state, [error.target.without_psid()], wish, around.now()))
    sealed = run_order(state, hand_in(state, order), around, refusal=error.refusal)
    return sealed.counter if sealed is not None else None


def _plan(
    paths: tuple[str, ...], wish: Wish, eyes: Eyes, labels: Mapping[str, str], space: SpaceWish
) -> Plan:
    """Targets by identity, each guarded and planned; the first objection stops it all."""
    if wish.keys is not None and wish.keys.header is not None and len(paths) > 1:
        raise UsageError(
            "--header goes with one target only.", "Wipe each volume with its header on its own."
        )
    plan: Plan = []
    for path in paths:
        if path.startswith(PREFIX):
            planned = plan_space_target(path, wish, eyes.system, space)
            if any(planned[0].identity == known.identity for known, _ in plan):
                raise UsageError(f"{path} is named twice.", "Name each target once.")
            plan.append(planned)
            continue
        if path.startswith(FSCRYPT):
            plan.append(fscrypt_plan(path, wish))
            continue
        medium, usage = look(path, eyes=eyes)
        refusal = _objection(medium, usage, eyes.system, wish.deactivate)
        target = (
            None
            if medium is None
            else Target(identity=medium.identity, hint=medium.path, psid=labels.get(path, ""))
        )
        if refusal is None and medium is not None and target is not None:
            if any(target.without_psid() == known.without_psid() for known, _ in plan):
                raise UsageError(f"{path} is named twice.", "Name each target once.")
            drive = examine(path)
            scope = scope_of(drive, medium.path, [os.path.realpath(one) for one in paths], eyes)
            steps = plan_target(
                target,
                medium,
                drive,
                wish.profile,
                wish.level,
                wish.allow_downgrade,
                with_luks(scope, medium, wish.profile, wish.keys),
                NOTHING_DRAWN,
            )
            _, unreached = volume_facts(path)
            if isinstance(steps, TargetPlan) and unreached is None:
                plan.append((target, steps))
                continue
            refusal = steps if isinstance(steps, Refusal) else unreached
        if refusal is None:
            raise AssertionError("the guard refuses what is no medium")
        raise _Objection(refusal, target)
    return plan


def _objection(medium: Medium | None, usage: Usage, system: SystemPaths, deactivate: bool) -> Refusal | None:
    """The first rule against it; what can be taken down, and who uses it, is for the plan of that to judge."""
    if not deactivate or isinstance(medium and medium.identity, FileIdentity):
        return guard(None, medium, usage, system)
    found = standing_objections(None, medium, usage, system)
    return next((one for one in found if one.reason is not Reason.IN_USE), None)


def _deactivation(plan: Plan, wish: Wish, root: Path) -> dict[str, list[Step]]:
    """What stands on each target and is to be taken down, by the target's path. Raises RefusedError."""
    if not wish.deactivate:
        return {}
    paths = [steps.path for target, steps in plan if isinstance(target.identity, BlockIdentity)]
    found = {}
    for path in paths:
        taking = taking_of(path, protected(root), frozenset(paths) - {path})
        if taking.refusals:
            raise RefusedError(taking.refusals[0].detail, taking.refusals[0].remedy)
        found[path] = taking.steps
    return found


def _without_keys(plan: TargetPlan, profile: Profile) -> dict[str, object]:
    """Keys and random bytes are drawn when the order runs, so a plan shows only what kind each pass is."""
    return {
        "path": plan.path,
        "technique": plan.technique,
        "passes": [one.text for one in profile.passes],
        "verification": plan.verification.kind,
        "verify_after_pass": [index + 1 for index in plan.verify_after],
        "seal": plan.seal,
    }


def _show_plan(plan: Plan, wish: Wish) -> None:
    profile = wish.profile
    click.echo(f"Profile {profile.id} version {profile.version}: {profile.summary()}")
    if profile.status != "current":
        click.echo(f"  Status {profile.status}: {profile.advice}")
    table(
        ["TARGET", "SIZE", "TECHNIQUE", "EARNS AT MOST"],
        [
            [
                target.hint if target.space is None else f"{PREFIX}{steps.path}",
                size_text(int(target.identity.size)) if target.space is None else "free space",
                steps.technique,
                steps.earns.value,
            ]
            for target, steps in plan
        ],
    )


def _confirm(count: int, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to confirm.", "Add --yes if you are sure.")
    word = f"destroy {count}"
    question = f"All data on the above will be gone for good. Type '{word}' to go on"
    if click.prompt(question, default="", show_default=False) != word:
        raise click.Abort


def _carry_out(root: Path, targets: list[Target], wish: Wish, options: Mapping[str, Any]) -> int:
    state = State.create(root)
    around = surroundings(root, known_profiles(root), options)
    digest = hand_in(state, local_order(state, targets, wish, around.now()))
    view = ProgressView()
    show = _print_event if options["as_json"] else view.show
    events = EventLog(state.order_folder(digest) / "events.jsonl", digest, around.now, show)
    heed_signals(around, events)
    try:
        sealed = run_order(state, digest, around, events)
    finally:
        view.close()
    if sealed is None:
        raise InterruptedWipeError(
            "The wipe was paused.", f"Go on with: expunge-agent --state {root} run {digest}"
        )
    statement = parse_statement(sealed.body)
    if options["as_json"]:
        print_line({"receipt": statement})
    else:
        _show_receipt(statement.predicate)
        click.echo(f"Receipt {sealed.counter}: see expunge-agent report {sealed.counter}")
    return EXIT_CODES[statement.predicate.outcome]


def _print_event(event: Event) -> None:
    print_line({"event": event})


def _show_receipt(receipt: Receipt) -> None:
    click.echo(
        f"Outcome: {receipt.outcome}; level asked {receipt.level_requested}, achieved {receipt.level_achieved}."
    )
    if receipt.refusal:
        click.echo(f"  {_why(receipt.refusal)}")
    for result in receipt.targets:
        for step in result.deactivated:
            click.echo(f"  {result.target.hint}: {step.what} {step.on}: {step.ended} {step.said}".rstrip())
        for line in [*result.exceptions, result.failure, _why(result.refusal)]:
            if line:
                click.echo(f"  {result.target.hint}: {line}")
        for line in result.key.readable if result.key is not None else []:
            click.echo(f"  {result.target.hint}, still to be read: {line}")


def _why(refusal: Refusal | None) -> str:
    return f"{refusal.detail} {refusal.remedy}".rstrip() if refusal else ""
