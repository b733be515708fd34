"""expunge-agent vault shred, rotate"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from expunge_agent.cli.common import EXIT_CODES, known_profiles, login_name, print_json
from expunge_agent.cli.vault_common import (
    access_of,
    json_option,
    now,
    passphrase_option,
    place_of,
    vault_argument,
)
from expunge_agent.devices import host
from expunge_agent.errors import InterruptedWipeError, NotFoundError, UsageError
from expunge_agent.local import Wish, hand_in, local_order
from expunge_agent.outbox import Outbox, Sealed
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import KeyIdentity, Target
from expunge_agent.protocol.receipt import Receipt, parse_statement
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings, protected, utc_now
from expunge_agent.vault import work
from expunge_agent.vault.access import perform
from expunge_agent.vault.look import looking
from expunge_agent.vault.session import Place
from expunge_agent.vault_run import SCHEME
from expunge_agent.wipe import run_order

PROFILE = "vault-shred"


@click.command(name="rotate")
@vault_argument
@passphrase_option
@json_option
@click.pass_obj
def rotate(obj: dict[str, object], vault: Path, passphrase_file: Path | None, as_json: bool) -> int:
    """Replace the root key of VAULT; every subject keeps its own. Older keystore backups open nothing any more."""
    place = place_of(obj, vault)
    perform(work.change, access_of(obj, passphrase_file).job(place.folder, now()))
    with looking(place, now()) as held:
        change, gone = held.story.changes[-1]
    if as_json:
        print_json({"change": change, "gone": gone})
    else:
        click.echo(f"Generation {change.generation} lies under root key {change.to_root}; {gone.how}.")
        click.echo("  Back the vault up anew: keystores of before open nothing any more.")
        for doubt in gone.doubts:
            click.echo(f"  In doubt: {doubt}.")
    return 0


@click.command(name="shred")
@vault_argument
@click.argument("subject")
@click.option(
    "--level",
    type=click.Choice(["clear", "purge"]),
    default="clear",
    show_default=True,
    help="The level needed (NIST SP 800-88).",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept a lower level than asked; the receipt says so.")
@click.option("--case", default="", help="Case or ticket number, for the receipt.")
@click.option("--reason", default="", help="Why, for the receipt.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@passphrase_option
@json_option
@click.pass_obj
def shred(
    obj: dict[str, object],
    vault: Path,
    subject: str,
    level: str,
    allow_downgrade: bool,
    case: str,
    reason: str,
    yes: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Destroy the key of SUBJECT in VAULT: nobody can read its data any more, whatever copies there are.

    The vault gets a new root key, and the old one is destroyed. The receipt lists every known copy of the
    key, what can still be read, and on which conditions the claim rests.
    """
    root, place = Path(str(obj["state"])), place_of(obj, vault)
    state = State.create(root)
    access = access_of(obj, passphrase_file)
    around = Surroundings(profiles=known_profiles(root), system=protected(root), vaults=access)
    key, earlier, shredded = _find(place, subject)
    if shredded and not earlier:
        raise NotFoundError(
            f"Subject {subject} was shredded, and no receipt of it is here.", "Ask who did it."
        )
    if (told := _receipt_of(state, key)) is not None:
        if not as_json:
            click.echo(f"Subject {subject} was shredded already.")
        return _show(told, as_json=as_json)
    if earlier and (shredded or _known(state, earlier)):
        _check_known(state, earlier, subject)
        if state.receipt_number(earlier) is None:
            return _carry_out(state, earlier, around, as_json=as_json)
        # Its receipt says that it was broken off. What became of the key since takes a receipt of its own.
    if not shredded:
        _confirm(subject, yes)
    access.passphrase()
    wish = Wish(
        profile=around.profiles[PROFILE],
        level=Level(level),
        allow_downgrade=allow_downgrade,
        requested_by=login_name(),
        case_number=case,
        reason=reason,
    )
    identity = KeyIdentity(scheme=SCHEME, key=key, path=str(place.folder), host=host.machine_id())
    order = local_order(state, [Target(identity=identity, hint=str(place.folder))], wish, utc_now())
    return _carry_out(state, hand_in(state, order), around, as_json=as_json)


def _find(place: Place, subject: str) -> tuple[str, str, bool]:
    """The subject's key, the order that shredded it or is at it (or nothing), whether it is gone."""
    with looking(place, now()) as held:
        entry = held.shelf.current().find(subject)
        if entry is None:
            raise NotFoundError(f"The vault has no subject {subject!r}.", "See: expunge-agent vault list")
        pending, done = held.story.pending, held.story.shredding(entry.key)
        if done is not None:
            return entry.key, done[0].order, True
        if pending is not None and pending.shred == entry.key:
            return entry.key, pending.order, False
        return entry.key, "", False


def _known(state: State, digest: str) -> bool:
    return state.order_folder(digest).exists()


def _receipt_of(state: State, key: str) -> Sealed | None:
    """The newest receipt that says what became of the vault's key `key`."""
    for sealed in reversed(list(Outbox(state.root).all())):
        results = parse_statement(sealed.body).predicate.targets
        if any(one.key is not None and (one.key.scheme, one.key.key) == (SCHEME, key) for one in results):
            return sealed
    return None


def _check_known(state: State, digest: str, subject: str) -> None:
    if not _known(state, digest):
        raise NotFoundError(
            f"Subject {subject} was shredded by order {digest[:16]}…, which is not of this state folder.",
            "Ask for the receipt where that was done.",
        )


def _carry_out(state: State, digest: str, around: Surroundings, *, as_json: bool) -> int:
    sealed = run_order(state, digest, around)
    if sealed is None:
        raise InterruptedWipeError("The shredding was paused.", f"Go on: expunge-agent run {digest}")
    return _show(sealed, as_json=as_json)


def _show(sealed: Sealed, *, as_json: bool) -> int:
    statement = parse_statement(sealed.body)
    receipt = statement.predicate
    if as_json:
        print_json({"counter": sealed.counter, "receipt": statement})
    else:
        _say(receipt)
        click.echo(f"Receipt {sealed.counter}: see expunge-agent report {sealed.counter}")
    return EXIT_CODES[receipt.outcome]


def _say(receipt: Receipt) -> None:
    click.echo(
        f"Outcome: {receipt.outcome}; level asked {receipt.level_requested}, achieved {receipt.level_achieved}."
    )
    for result in receipt.targets:
        refused = f"{result.refusal.detail} {result.refusal.remedy}" if result.refusal else ""
        for line in (refused, result.failure, result.downgrade, *result.exceptions):
            if line:
                click.echo(f"  {line}")
        if result.key is not None:
            for condition in result.key.conditions:
                click.echo(f"  {condition.id}: {condition.holds} ({condition.why})")


def _confirm(subject: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody is there to confirm.", "Add --yes if you are sure.")
    word = f"shred {subject}"
    question = f"All data of {subject} will be gone for good. Type '{word}' to go on"
    if click.prompt(question, default="", show_default=False) != word:
        raise click.Abort
