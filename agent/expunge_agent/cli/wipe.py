"""expunge-agent wipe"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from expunge_agent.account import vouching
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
from expunge_agent.cli.keys import key_options, key_wish
from expunge_agent.cli.named_devices import resolved
from expunge_agent.cli.named_files import named
from expunge_agent.cli.planning import Asked, Objection, Planned, plan_deactivation, plan_targets
from expunge_agent.cli.running import heed_signals, run_options, surroundings
from expunge_agent.cli.show_deactivation import show_deactivation
from expunge_agent.cli.space import space_options, space_wish
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
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Receipt, Refusal, parse_statement
from expunge_agent.protocol.receipt_files import Files
from expunge_agent.state import State
from expunge_agent.surroundings import protected
from expunge_agent.terminal import ProgressView
from expunge_agent.wipe import run_order
from expunge_profiles.load import find
from expunge_profiles.schema import Profile, ProfileError

_SHOWN = 10
"""Files named on the screen."""


def _text(_ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A text that a document can hold."""
    if len(value) > 200 or not value.isprintable():
        raise click.BadParameter("at most 200 printable characters.", param=param)
    return value


@click.command(name="wipe")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--profile", required=True, help="What to do: see `expunge-agent profiles`.")
@click.option(
    "--level",
    type=click.Choice(["clear", "purge"]),
    default="clear",
    show_default=True,
    help="The level needed (NIST SP 800-88).",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept a lower level than asked; the receipt says so.")
@click.option(
    "--glob",
    "globs",
    multiple=True,
    help="Of a directory only files whose path below it matches ('*' also matches '/'); may be repeated.",
)
@click.option(
    "--files-from",
    metavar="LIST",
    help="Files named in LIST ('-': standard input), one a line or NUL-separated.",
)
@click.option("--remove", is_flag=True, help="Remove a single regular file, too, once it is overwritten.")
@click.option("--keep", is_flag=True, help="Only overwrite files of directories and lists, remove nothing.")
@click.option(
    "--allow-exceptions",
    is_flag=True,
    help="Overwrite files of which a named part stays elsewhere, such as in a snapshot; the receipt says so.",
)
@click.option("--case", default="", callback=_text, help="Case or ticket number, for the receipt.")
@click.option("--reason", default="", callback=_text, help="Why, for the receipt.")
@click.option(
    "--requested-by", default="", callback=_text, help="Who asks; the account that runs this if left out."
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
    """Destroy all data on PATHS (files, directories, patterns or block devices) on this machine.

    A single regular file is overwritten and kept, unless --remove is given. The files of a directory, a pattern
    or a list are overwritten and removed, unless --keep is given.

    A block device may be called by UUID=, PARTUUID=, LABEL= or PARTLABEL=, or by its link in /dev/disk/by-*,
    /dev/mapper, /dev/md or /dev/GROUP; what it leads to is shown.

    free-space:MOUNTPOINT stands for what was deleted from a mounted file system: its free space is filled and
    given back (docs/free-space.md).

    fscrypt:/path takes away the key of an encrypted folder. A profile such as luks-crypto-erase takes away the keys of
    a LUKS volume; what you know of them is stated with --statement (docs/keys.md).

    The order is signed by this machine itself, so the receipt shows that no controller was asked.
    SIGUSR1 prints how far it is, SIGUSR2 pauses and resumes, Ctrl-C ends it with a truthful receipt.
    """
    root = Path(str(obj["state"]))
    eyes = Eyes.open(system=protected(root))
    wish = _wish(root, options, eyes)
    labels, found = psids(options["psid"], paths), resolved(paths)
    labels = {path: labels.get(name, "") for name, path in zip(paths, found, strict=True)}
    wanted = named(
        found, options["globs"], options["files_from"], remove=options["remove"], keep=options["keep"]
    )
    asked = Asked(
        wish=wish,
        psids=labels,
        space=space_wish(options),
        look_into=bool(options["dry_run"]) or not options["yes"],
    )
    try:
        plan = plan_targets(wanted, asked, eyes)
        taken_down = plan_deactivation(plan, wish, eyes.system)
    except Objection as error:
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
                    "plans": [_without_keys(one, wish.profile) for one in plan],
                    "deactivation": taken_down,
                }
            )
        else:
            click.echo("Nothing was touched (--dry-run).")
        return 0
    _confirm(len(plan), bool(options["yes"]))
    return _carry_out(root, [one.target for one in plan], wish, options)


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
        keys=key_wish(options, vouching(options["requested_by"]), eyes),
        allow_exceptions=options["allow_exceptions"],
        keep=options["keep"],
    )


def _refuse(root: Path, error: Objection, wish: Wish, options: Mapping[str, Any]) -> int | None:
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


def _without_keys(one: Planned, profile: Profile) -> dict[str, object]:
    """Keys and random bytes are drawn when the order runs, so a plan shows only what kind each pass is."""
    plan = one.steps
    shown: dict[str, object] = {
        "path": plan.path,
        "technique": plan.technique,
        "passes": [step.text for step in profile.passes],
        "verification": plan.verification.kind,
        "verify_after_pass": [index + 1 for index in plan.verify_after],
        "seal": plan.seal,
    }
    return shown | {"files": one.files.as_plain()} if one.files else shown


def _show_plan(plan: Sequence[Planned], wish: Wish) -> None:
    profile = wish.profile
    click.echo(f"Profile {profile.id} version {profile.version}: {profile.summary()}")
    if profile.status != "current":
        click.echo(f"  Status {profile.status}: {profile.advice}")
    table(
        ["TARGET", "SIZE", "TECHNIQUE", "EARNS AT MOST"],
        [[one.name, one.size, one.steps.technique, one.steps.earns.value] for one in plan],
    )
    for one in plan:
        if one.files:
            click.echo(
                f"{one.steps.path}: files are overwritten and {'kept' if wish.keep else 'then removed'}."
            )
            for line in one.files.lines():
                click.echo(f"  {line}")


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
        if result.files is not None:
            _show_files(result.target.hint, result.files)


def _show_files(path: str, files: Files) -> None:
    click.echo(
        f"  {path}: {files.found.files} files: {files.sanitized.files} sanitized, {files.exceptions.files} with "
        f"exceptions, {files.refused.files} refused, {files.failed.files} failed, {files.unfinished.files} unfinished."
    )
    for one in files.listed[:_SHOWN]:
        click.echo(f"    {one.path}: {one.outcome}: {one.why}")
    if files.listed_of > _SHOWN:
        click.echo(f"    … and {files.listed_of - _SHOWN} more; see the receipt and its manifest")


def _why(refusal: Refusal | None) -> str:
    return f"{refusal.detail} {refusal.remedy}".rstrip() if refusal else ""
