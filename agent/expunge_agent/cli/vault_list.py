"""expunge-agent vault list"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from expunge_agent.cli.common import print_json, table
from expunge_agent.cli.vault_common import (
    access_of,
    json_option,
    now,
    passphrase_option,
    place_of,
    vault_argument,
)
from expunge_agent.terminal import size_text
from expunge_agent.vault import work
from expunge_agent.vault.access import perform
from expunge_agent.vault.header import Header
from expunge_agent.vault.keystore import Entry
from expunge_agent.vault.look import looking, where
from expunge_agent.vault.objects import headers, object_path
from expunge_agent.vault.session import Session


@click.command(name="list")
@vault_argument
@click.option("--objects", is_flag=True, help="Each object, too.")
@click.option("--labels", is_flag=True, help="Each object with its label; this takes the passphrase.")
@passphrase_option
@json_option
@click.pass_obj
def list_command(
    obj: dict[str, object],
    vault: Path,
    objects: bool,
    labels: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Show the subjects of VAULT, and its objects."""
    place = place_of(obj, vault)
    names: dict[str, str] = {}
    if labels:
        names = perform(work.labels, access_of(obj, passphrase_file).job(place.folder, now())).labels
    with looking(place, now()) as held:
        found = _told(held, names)
    if as_json:
        print_json(found)
    else:
        _show(found, objects=objects or labels)
    return 0


def _told(held: Session, names: dict[str, str]) -> dict[str, object]:
    store = held.shelf.current()
    seen = list(headers(held.folder))
    count = Counter(top.key for top in seen if isinstance(top, Header))
    return {
        "vault": held.vault,
        "holder": where(held.settings.holder),
        "generation": store.generation,
        "root": store.root,
        "under_way": held.story.pending,
        "subjects": [
            {
                "subject": entry.subject,
                "key": entry.key,
                "made_at": entry.made_at,
                "objects": count[entry.key],
                "state": _state(held, entry),
            }
            for entry in store.entries
        ],
        "objects": [
            {
                "object": top.object,
                "subject": top.subject,
                "key": top.key,
                "made_at": top.made_at,
                "size": str(object_path(held.folder, top.object).stat().st_size),
                "label": names.get(top.object),
            }
            for top in seen
            if isinstance(top, Header)
        ],
        "exports": held.story.left(),
        "damaged": [top.message for top in seen if not isinstance(top, Header)],
    }


def _state(held: Session, entry: Entry) -> str:
    """``live``, ``shredded``, or ``being shredded`` as long as its old root is not known to be gone; a journal that was
    cut may not tell whether it is."""
    pending = held.story.pending
    if pending is not None and pending.shred == entry.key:
        return "being shredded"
    if entry.wrapped:
        return "live"
    known = held.story.shredding(entry.key) is not None
    return f"shredded {entry.shredded_at}" if known else "perhaps shredded: the journal does not tell"


def _show(found: dict[str, object], *, objects: bool) -> None:
    click.echo(f"Vault {found['vault']}, generation {found['generation']}; root keys: {found['holder']}")
    if found["under_way"] is not None:
        click.echo("  A change of the root key broke off: `expunge-agent vault check` finishes it.")
    subjects, things = found["subjects"], found["objects"]
    table(
        ["SUBJECT", "OBJECTS", "STATE", "KEY"],
        [[one["subject"], str(one["objects"]), one["state"], one["key"]] for one in subjects],  # type: ignore[attr-defined]
    )
    if objects:
        table(
            ["OBJECT", "SUBJECT", "SIZE", "LABEL"],
            [
                [one["object"], one["subject"], size_text(int(one["size"])), one["label"] or "(sealed)"]
                for one in things  # type: ignore[attr-defined]
            ],
        )
        for one in found["exports"]:  # type: ignore[attr-defined]
            click.echo(f"Export {one.id}: object {one.object} was given out at {one.at}: {one.where}")
    for line in found["damaged"]:  # type: ignore[attr-defined]
        click.echo(line)
