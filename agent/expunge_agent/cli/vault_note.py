"""expunge-agent vault note, export-manifest"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.common import login_name, print_json
from expunge_agent.cli.vault_common import Meter, json_option, metered, now, place_of, vault_argument
from expunge_agent.errors import NotFoundError, UsageError
from expunge_agent.files import write_durable
from expunge_agent.protocol import canonical, sshsig
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.key_words import split_word
from expunge_agent.protocol.receipt_keys import Holds
from expunge_agent.signing import signer_or_new
from expunge_agent.state import State
from expunge_agent.vault.conditions import STATED
from expunge_agent.vault.look import looking
from expunge_agent.vault.manifest import manifest
from expunge_agent.vault.session import Session
from expunge_agent.vault.story import STDOUT, Copy, Statement


@click.command(name="note")
@vault_argument
@click.option(
    "--copy", "copies", multiple=True, metavar="WHERE", help="A backup of the vault's folder is kept there."
)
@click.option(
    "--condition",
    "said",
    multiple=True,
    metavar="ID=yes|no|unknown",
    help="Your word on what nobody can see from here: "
    + "; ".join(f"{k} ({v})" for k, v in STATED.items())
    + ".",
)
@click.option(
    "--destroyed",
    "destroyed",
    multiple=True,
    metavar="PATH|EXPORT",
    help="Plaintext given out there until now (- is standard output), or that export, was destroyed.",
)
@click.option("--standing", is_flag=True, help="The word on a condition holds for later root keys, too.")
@click.option("--why", default="", help="How that is known; for the receipt.")
@json_option
@click.pass_obj
def note(
    obj: dict[str, object],
    vault: Path,
    copies: tuple[str, ...],
    said: tuple[str, ...],
    destroyed: tuple[str, ...],
    standing: bool,
    why: str,
    as_json: bool,
) -> int:
    """Note in VAULT what only people know: where backups are, what holds, what was destroyed.

    Receipts of a shredding repeat it with your login name. Nothing noted can be taken back, only noted anew.
    """
    statements = [_condition(one) for one in said]
    if not (copies or statements or destroyed):
        raise UsageError("There is nothing to note.", "Add --copy, --condition or --destroyed.")
    if (statements or destroyed) and not why:
        raise UsageError("A word on a condition needs a reason.", "Add --why.")
    if any(len(text) > 1000 or not text.isprintable() for text in (*copies, *destroyed, why)):
        raise UsageError("A note has at most 1000 printable characters.", "Shorten it.")
    with looking(place_of(obj, vault), now()) as held:
        exports = {one: _exports(held, one) for one in destroyed}
        for where in copies:
            _copied(held, where)
        for name, holds in statements:
            _state(held, name, holds, why, standing=standing)
        for path, ids in exports.items():
            _state(held, "export-destroyed", "yes", f"{path}: {why}", exports=ids)
        story = held.story
    if as_json:
        print_json({"copies": story.copies, "statements": story.statements})
    else:
        click.echo(f"Noted: {len(copies)} copies, {len(statements)} conditions, {len(destroyed)} destroyed.")
    return 0


@click.command(name="export-manifest")
@vault_argument
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--copy", "copies", multiple=True, metavar="WHERE", help="A backup of the vault goes there now."
)
@json_option
@click.pass_obj
def export_manifest(
    obj: dict[str, object], vault: Path, out: Path, copies: tuple[str, ...], as_json: bool
) -> int:
    """Write to OUT what VAULT holds (objects, subjects, key ids, digests; no secret), and OUT.sig beside it.

    The signature is an SSHSIG by this agent, in the namespace expunge-vault.
    """
    state = State.create(Path(str(obj["state"])))
    with looking(place_of(obj, vault), now()) as held:
        for where in copies:
            _copied(held, where)
        meter = Meter("read", 0, quiet=as_json)
        found = metered(meter, lambda tell: manifest(held, state.machine_id, tell))
    body = canonical.dumps(found)
    signature = sshsig.sign(signer_or_new(state.root), sshsig.VAULT_NAMESPACE, body)
    write_durable(out.absolute(), body)
    write_durable(out.absolute().with_name(out.name + ".sig"), signature)
    if as_json:
        print_json(found)
    else:
        click.echo(
            f"{out}: {len(found.subjects)} subjects, {len(found.objects)} objects, generation {found.generation}."
        )
    return 0


def _condition(text: str) -> tuple[str, Holds]:
    word = split_word(text, STATED)
    if word is None:
        raise UsageError(
            f"{text[:80]!r} is no word on a condition.",
            f"It is one of {', '.join(STATED)}, then =yes, =no or =unknown.",
        )
    return word


def _exports(held: Session, named: str) -> list[str]:
    """The exports that `named` means: one by its id, or those that went there up to now. Raises NotFoundError.

    `get` records a place as an absolute path, links not followed; ``-`` is standard output.
    """
    where = STDOUT if named == "-" else str(Path(named).absolute())
    found = [one.id for one in held.story.left() if named == one.id or where == one.where]
    if not found:
        raise NotFoundError(
            f"The vault knows of no plaintext that was given out to {named}.",
            "Name path or export as it is in: expunge-agent vault list --objects",
        )
    return found


def _copied(held: Session, where: str) -> None:
    store = held.shelf.current()
    copy = Copy(where=where, generation=U64(store.generation), root=store.root, at=held.now, by=login_name())
    held.record("copied", copy=copy)


def _state(held: Session, name: str, holds: Holds, why: str, **more: Any) -> None:
    root = held.shelf.current().root
    statement = Statement(
        id=name,
        holds=holds,
        why=why,
        at=held.now,
        by=login_name(),
        root=root,
        **more,
    )
    held.record("stated", statement=statement)
