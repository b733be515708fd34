"""expunge register"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, language_option, print_json, print_table

if TYPE_CHECKING:
    from expunge_controller.records.destruction import Item
    from expunge_controller.records.media_lines import MediumLine
    from expunge_controller.records.media_list import ListLine
    from expunge_controller.records.reconcile import Match
    from expunge_controller.records.review import Decision
    from expunge_controller.store.port import Unit

_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it: a name that ends in .pdf gives PDF/A, one in .csv a table.",
)
_LIST = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(name="register")
def command() -> None:
    """Registers of media, on the screen, as PDF and as a table."""


@command.command(name="reconcile")
@click.argument("machine")
@click.option(
    "--expected", type=_LIST, required=True, help="The media it should have had (CSV: docs/certificates.md)."
)
@_output
@language_option
@json_option
@click.pass_obj
def reconcile(
    app: App, machine: str, expected: Path, output: Path | None, language: str | None, as_json: bool
) -> int:
    """Compare the media MACHINE should have had with those seen and receipted; exit code 18 if one is open."""
    from expunge_agent.errors import EXIT_OK, NotFoundError
    from expunge_controller import fleet, holdings
    from expunge_controller.context import utc_now
    from expunge_controller.records import reconcile as rules
    from expunge_controller.render.pdf_reconciliation import reconciliation_data
    from expunge_controller.render.pdf_words import Language

    _check(output)
    wanted = _read_list(expected)
    with app.controller() as controller:
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine)
            seen = holdings.of_machine(unit, row.machine_id)
        matches = rules.reconcile(wanted, seen)
        table = rules.reconciliation_csv(matches).encode()
        tongue, now, issuer = (
            Language(language or controller.config.language),
            utc_now(),
            controller.principal,
        )
    _put(
        output,
        table,
        lambda: reconciliation_data(row.name, matches, tongue, table, issued_at=now, issuer=issuer),
    )
    done = rules.complete(matches)
    _show_matches(row.name, matches, done, as_json)
    return EXIT_OK if done else NotFoundError.exit_code


def _show_matches(machine: str, matches: Sequence[Match], done: bool, as_json: bool) -> None:
    from expunge_controller.records.reconcile import tally

    counted = {str(finding): count for finding, count in tally(matches).items()}
    shown = [_shown(one) for one in matches]
    if as_json:
        print_json({"machine": machine, "complete": done, "findings": counted, "media": shown})
        return
    print_table(
        ["line", "expected", "finding", "seen", "outcome", "certificate"],
        [list(one.values()) for one in shown],
        "Nothing was expected, and nothing was seen.",
    )
    click.echo(", ".join(f"{count} {finding}" for finding, count in counted.items()) + ".")


@command.command(name="destruction")
@click.option("--machine", default="", help="Only media of this machine.")
@click.option("--order", default="", help="Only media of this order.")
@click.option("--details", type=_LIST, help="What the organisation knows of the archives on them (CSV).")
@_output
@language_option
@json_option
@click.pass_obj
def destruction(
    app: App,
    machine: str,
    order: str,
    details: Path | None,
    output: Path | None,
    language: str | None,
    as_json: bool,
) -> None:
    """The destruction register (销毁清册): what was destroyed, and lines for the five opinions and the supervisors."""
    from expunge_agent.errors import UsageError
    from expunge_controller.context import utc_now
    from expunge_controller.records.destruction import destruction_csv, items_of
    from expunge_controller.render.pdf_destruction import destruction_data
    from expunge_controller.render.pdf_words import Language

    if machine and order:
        raise UsageError("Say --machine or --order, not both.", "See --help.")
    _check(output)
    said = [] if details is None else _read_list(details)
    with app.controller() as controller:
        with controller.store.read() as unit:
            media = _media(unit, machine, order)
        items = items_of(media, said)
        table = destruction_csv(items).encode()
        about = order or machine or controller.config.name
        tongue, now, issuer = (
            Language(language or controller.config.language),
            utc_now(),
            controller.principal,
        )
    _put(output, table, lambda: destruction_data(about, items, tongue, table, issued_at=now, issuer=issuer))
    _show_items(items, as_json)


def _media(unit: Unit, machine: str, order: str) -> list[MediumLine]:
    from expunge_controller import fleet, holdings

    if order:
        return holdings.of_order(unit, order)
    if machine:
        return holdings.of_machine(unit, fleet.machine_named(unit, machine).machine_id)
    return holdings.of_all(unit)


def _show_items(items: Sequence[Item], as_json: bool) -> None:
    from expunge_controller.records.media_lines import decided

    lines = [(item.title or item.medium.name, item.medium, item.destroyed_at) for item in items]
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "medium": one.digest,
                    "destroyed_at": at,
                    "outcome": one.outcome,
                    "certificate": one.certificate,
                    "status": one.status,
                    "decisions": [_shown_decision(decision) for decision in one.decisions],
                }
                for name, one, at in lines
            ]
        )
        return
    print_table(
        ["name", "serial", "destroyed at", "outcome", "certificate", "status", "decided"],
        [
            [
                *(name, one.serial, at or "not destroyed", one.outcome or "no receipt"),
                *(one.certificate, one.status, decided(one)),
            ]
            for name, one, at in lines
        ],
        "No medium is registered. Next: expunge media register MACHINE PATH",
    )


def _shown_decision(one: Decision) -> dict[str, str]:
    return {"decision": one.decision, "name": one.name, "who": one.who, "at": one.at, "key": one.key}


def _check(output: Path | None) -> None:
    from expunge_agent.errors import UsageError

    if output is not None and output.suffix.lower() not in (".pdf", ".csv"):
        raise UsageError(f"{output} ends neither in .pdf nor in .csv.", "The ending says what is written.")


def _read_list(path: Path) -> list[ListLine]:
    from expunge_controller.records.media_list import MAX_LIST, parse_list

    with path.open("rb") as stream:
        return parse_list(stream.read(MAX_LIST + 1))


def _put(output: Path | None, table: bytes, data: Callable[[], dict[str, bytes]]) -> None:
    """Write what was asked for, if anything: `table`, or the PDF made from `data`."""
    from expunge_controller.bundle import write_output
    from expunge_controller.pdf_made import make_pdf

    if output is None:
        return
    write_output(output, make_pdf(data()) if output.suffix.lower() == ".pdf" else table)
    click.echo(str(output), err=True)


def _shown(match: Match) -> dict[str, str]:
    wish, seen = match.expected, match.medium
    return {
        "line": str(wish.line) if wish else "",
        "expected": wish.words if wish else "",
        "finding": str(match.finding),
        "seen": (seen.serial or seen.name) if seen else "",
        "outcome": seen.outcome if seen else "",
        "certificate": seen.certificate if seen else "",
    }
