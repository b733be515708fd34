"""expunge-agent wipe"""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from pathlib import Path

import click

from expunge_agent import logs
from expunge_agent.cli.common import EXIT_CODES, known_profiles, print_json, surroundings, table
from expunge_agent.core.guard import DEFAULT_SYSTEM, guard
from expunge_agent.core.plan import TargetPlan, plan_target
from expunge_agent.devices.look import look
from expunge_agent.errors import ProfileProblemError, RefusedError, UsageError
from expunge_agent.events import EventLog
from expunge_agent.local import hand_in, local_order
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Refusal, parse_statement
from expunge_agent.state import State
from expunge_agent.terminal import ProgressView, size_text
from expunge_agent.wipe import run_order
from expunge_profiles.load import find
from expunge_profiles.schema import Profile, ProfileError


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
@click.option("--case", "case_number", default="", help="Case or ticket number, for the receipt.")
@click.option("--reason", default="", help="Why, for the receipt.")
@click.option("--requested-by", default="", help="Who asks; the user's login name if left out.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the very plan, touch nothing.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(0.01, 3600),
    default=5.0,
    show_default=True,
    help="How much work a crash may cost at the most.",
)
@click.option("--json", "as_json", is_flag=True, help="The plan or the receipt as JSON.")
@click.pass_obj
def command(
    obj: dict[str, object],
    paths: tuple[str, ...],
    profile: str,
    level: str,
    allow_downgrade: bool,
    case_number: str,
    reason: str,
    requested_by: str,
    yes: bool,
    dry_run: bool,
    checkpoint_seconds: float,
    as_json: bool,
) -> int:
    """Destroy all data on PATHS (regular files or block devices) on this machine.

    The order is signed by this machine itself, so the receipt shows that no controller was asked.
    """
    root = Path(str(obj["state"]))
    try:
        chosen = find(known_profiles(root), profile)
    except ProfileError as error:
        raise ProfileProblemError(str(error), "See: expunge-agent profiles") from error
    targets, plans = _plan(paths, chosen, Level(level), allow_downgrade, root)
    if not as_json or not dry_run:
        _show_plan(targets, plans, chosen, err=as_json)
    if dry_run:
        if as_json:
            print_json(
                {"profile": chosen.id, "targets": targets, "plans": [_without_keys(plan) for plan in plans]}
            )
        else:
            click.echo("Nothing was touched (--dry-run).")
        return 0
    _confirm(targets, yes)
    return _carry_out(
        obj,
        root,
        targets,
        chosen,
        Level(level),
        allow_downgrade,
        requested_by or getpass.getuser(),
        case_number,
        reason,
        checkpoint_seconds,
        as_json,
    )


def _plan(
    paths: tuple[str, ...], profile: Profile, level: Level, allow_downgrade: bool, root: Path
) -> tuple[list[Target], list[TargetPlan]]:
    """Targets by identity, each guarded and planned; the first objection stops it all."""
    system = replace(DEFAULT_SYSTEM, own=(str(root),))
    targets: list[Target] = []
    plans: list[TargetPlan] = []
    for path in paths:
        medium, usage = look(path, system=system)
        refusal = guard(None, medium, usage, system)
        if refusal is None and medium is not None:
            target = Target(identity=medium.identity, hint=medium.path)
            if target in targets:
                raise UsageError(f"{path} is named twice.", "Name each target once.")
            plan = plan_target(
                target, medium, profile, level, allow_downgrade, lambda: 0, lambda: b"", "keyed"
            )
            if isinstance(plan, TargetPlan):
                targets.append(target)
                plans.append(plan)
                continue
            refusal = plan
        assert isinstance(refusal, Refusal)  # noqa: S101 - the guard refuses what is no medium
        raise RefusedError(refusal.detail, refusal.remedy)
    return targets, plans


def _without_keys(plan: TargetPlan) -> dict[str, object]:
    """Keys and random bytes are drawn when the order runs, so a plan shows only what kind each pass is."""
    steps = ["keyed stream" if step.cipher else step.fixed for step in plan.passes]
    return {
        "path": plan.path,
        "technique": plan.technique,
        "passes": steps,
        "verification": plan.verification,
        "verify_after_pass": [index + 1 for index in plan.verify_after],
        "seal": plan.seal,
    }


def _show_plan(targets: list[Target], plans: list[TargetPlan], profile: Profile, err: bool) -> None:
    if err:
        return
    click.echo(f"Profile {profile.id} version {profile.version}: {profile.summary()}")
    if profile.status != "current":
        click.echo(f"  Status {profile.status}: {profile.advice}")
    table(
        ["TARGET", "SIZE", "TECHNIQUE", "EARNS AT MOST"],
        [
            [plan.path, size_text(int(target.identity.size)), plan.technique, "clear"]
            for target, plan in zip(targets, plans, strict=True)
        ],
    )


def _confirm(targets: list[Target], yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to confirm.", "Add --yes if you are sure.")
    word = f"destroy {len(targets)}"
    if (
        click.prompt(
            f"All data on the above will be gone for good. Type '{word}' to go on",
            default="",
            show_default=False,
        )
        != word
    ):
        raise click.Abort


def _carry_out(
    obj: dict[str, object],
    root: Path,
    targets: list[Target],
    profile: Profile,
    level: Level,
    allow_downgrade: bool,
    requested_by: str,
    case_number: str,
    reason: str,
    checkpoint_seconds: float,
    as_json: bool,
) -> int:

    logs.set_up(str(obj["log"]), bool(obj["verbose"]))
    state = State.create(root)
    around = surroundings(root, checkpoint_seconds)
    order = local_order(
        state, targets, profile, level, allow_downgrade, requested_by, case_number, reason, around.now()
    )
    digest = hand_in(state, order)
    view = ProgressView()
    events = EventLog(state.order_folder(digest) / "events.jsonl", digest, around.now, view.show)
    try:
        sealed = run_order(state, digest, around, events)
    finally:
        view.close()
    if sealed is None:
        raise InterruptedError
    statement = parse_statement(sealed.body)
    receipt = statement.predicate
    if as_json:
        print_json(statement)
    else:
        click.echo(
            f"Outcome: {receipt.outcome}; level asked {receipt.level_requested}, achieved {receipt.level_achieved}."
        )
        for result in receipt.targets:
            said = result.failure or (result.refusal.detail if result.refusal else "")
            for line in [*result.exceptions, said]:
                if line:
                    click.echo(f"  {result.target.hint}: {line}")
        click.echo(
            f"Receipt {sealed.counter}: {state.root / 'receipts' / f'{sealed.counter:012d}' / 'receipt.json'}"
        )
    return EXIT_CODES[receipt.outcome]
