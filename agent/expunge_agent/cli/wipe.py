"""expunge-agent wipe"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.common import EXIT_CODES, known_profiles, login_name, print_json, print_line, table
from expunge_agent.cli.keys import FSCRYPT, fscrypt_plan, key_options, key_wish
from expunge_agent.cli.running import heed_signals, run_options, surroundings
from expunge_agent.core.guard import guard
from expunge_agent.core.plan import Draw, TargetPlan, plan_target
from expunge_agent.devices.drives import examine
from expunge_agent.devices.look import look
from expunge_agent.devices.scope import scope_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import InterruptedWipeError, ProfileProblemError, RefusedError, UsageError
from expunge_agent.events import EventLog
from expunge_agent.local import Wish, hand_in, local_order
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.event import Event
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Receipt, Refusal, parse_statement
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

    fscrypt:/path takes away the key of an encrypted folder. A profile such as luks-crypto-erase takes away the keys of
    a LUKS volume; what you know of them is stated with --statement.

    The order is signed by this machine itself, so the receipt shows that no controller was asked.
    SIGUSR1 prints how far it is, SIGUSR2 pauses and resumes, Ctrl-C ends it with a truthful receipt.
    """
    root = Path(str(obj["state"]))
    eyes = Eyes.open(system=protected(root))
    wish = _wish(root, options, eyes)
    plan = _plan(paths, wish, eyes)
    as_json = bool(options["as_json"])
    if not as_json:
        _show_plan(plan, wish)
    if options["dry_run"]:
        if as_json:
            print_json(
                {
                    "profile": wish.profile.id,
                    "plans": [_without_keys(steps, wish.profile) for _, steps in plan],
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
        keys=key_wish(options, asks, eyes),
    )


NOTHING_DRAWN = Draw(byte=lambda: 0, key=lambda _: b"", bytes=lambda _: b"", cipher="-", unread_cipher="-")
"""Keys and random bytes are drawn when the order runs."""


def _plan(paths: tuple[str, ...], wish: Wish, eyes: Eyes) -> Plan:
    """Targets by identity, each guarded and planned; the first objection stops it all."""
    if wish.keys is not None and wish.keys.header is not None and len(paths) > 1:
        raise UsageError(
            "--header goes with one target only.", "Wipe each volume with its header on its own."
        )
    plan: Plan = []
    for path in paths:
        if path.startswith(FSCRYPT):
            plan.append(fscrypt_plan(path, wish))
            continue
        medium, usage = look(path, eyes=eyes)
        refusal = guard(None, medium, usage, eyes.system)
        if refusal is None and medium is not None:
            target = Target(identity=medium.identity, hint=medium.path)
            if any(target == known for known, _ in plan):
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
            if isinstance(steps, TargetPlan):
                plan.append((target, steps))
                continue
            refusal = steps
        if refusal is None:
            raise AssertionError("the guard refuses what is no medium")
        raise RefusedError(refusal.detail, refusal.remedy)
    return plan


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
            [steps.path, size_text(int(target.identity.size)), steps.technique, steps.earns.value]
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
        for line in [*result.exceptions, result.failure, _why(result.refusal)]:
            if line:
                click.echo(f"  {result.target.hint}: {line}")
        for line in result.key.readable if result.key is not None else []:
            click.echo(f"  {result.target.hint}, still to be read: {line}")


def _why(refusal: Refusal | None) -> str:
    return f"{refusal.detail} {refusal.remedy}".rstrip() if refusal else ""
