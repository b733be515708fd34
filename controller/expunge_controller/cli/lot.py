"""expunge lot"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from expunge_controller.cli.app import App, json_option, print_json, print_steps, print_table
from expunge_controller.cli.deciding import decide, deciding_options

_FILE = click.Path(path_type=Path, dir_okay=False)
_TIME = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])
FROM_LOG = "log"


@click.group(name="lot")
def command() -> None:
    """Quality-control lots: draw sanitized media for a second look, record what it found, check the drawing."""


@command.command(name="create")
@click.option(
    "--percent", type=click.IntRange(1, 100), default=5, show_default=True, help="5 (R2v3), 20 (NIST)."
)
@click.option("--from", "since", type=_TIME, required=True, help="The period's first moment (UTC).")
@click.option("--until", type=_TIME, help="Its last moment (UTC). Default: now.")
@click.option("--checker", required=True, help="Who checks: a person registered with the role checker.")
@click.option(
    "--seed-from",
    default=FROM_LOG,
    show_default=True,
    help="log: the first checkpoint that holds all receipts; or a file with a later one, such as a witness's.",
)
@json_option
@click.pass_obj
def create(
    app: App,
    percent: int,
    since: datetime,
    until: datetime | None,
    checker: str,
    seed_from: str,
    as_json: bool,
) -> None:
    """Draw a verifiable sample of the media sanitized in a period, seeded by the log's root."""
    from expunge_controller import lots
    from expunge_controller.bundle_read import read_note
    from expunge_controller.context import utc_now
    from expunge_controller.records.lot import parse_lot

    now = utc_now()
    seed = None if seed_from == FROM_LOG else read_note(Path(seed_from))
    with app.controller() as controller:
        row = lots.create(
            controller,
            percent=percent,
            since=since.replace(tzinfo=UTC),
            until=until.replace(tzinfo=UTC) if until else now,
            checker=checker,
            seed=seed,
            now=now,
        )
    lot = parse_lot(row.body)
    if as_json:
        print_json({"lot": lot.number, "population": len(lot.population), "chosen": lot.chosen})
        return
    click.echo(f"{lot.number}: {len(lot.chosen)} of {len(lot.population)} media drawn, for {checker}.")
    click.echo(f"See them with: expunge lot show {lot.number}")


@command.command(name="list")
@json_option
@click.pass_obj
def list_lots(app: App, as_json: bool) -> None:
    """List the lots and how far their checks are."""
    from expunge_controller import lots
    from expunge_controller.records.lot import parse_lot

    with app.controller() as controller, controller.store.read() as unit:
        rows = []
        for row in unit.custody.lots():
            lot = parse_lot(row.body)
            states = [lots.state_of(unit, lot, medium) for medium in lot.chosen]
            counts = [str(states.count(state)) for state in ("open", "passed", "failed")]
            rows.append(
                [lot.number, lot.at, f"{lot.percent} %", str(len(lot.population)), *counts, lot.checker]
            )
    head = ["lot", "drawn", "percent", "media", "open", "passed", "failed", "checker"]
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        print_table(head, rows, "No lot was drawn. Next: expunge lot create")


@command.command(name="show")
@click.argument("number")
@click.option(
    "-o", "--output", type=_FILE, help="Write the signed document here, its signature beside it (.sig)."
)
@json_option
@click.pass_obj
def show(app: App, number: str, output: Path | None, as_json: bool) -> None:
    """Show which media lot NUMBER drew, or write it as a file for an auditor."""
    from expunge_agent.protocol import canonical
    from expunge_controller import lots

    with app.controller() as controller, controller.store.read() as unit:
        lot, row = lots.find(unit, number)
        states = {medium: lots.state_of(unit, lot, medium) for medium in lot.chosen}
    if output is not None:
        output.write_bytes(row.body)
        output.with_name(output.name + ".sig").write_bytes(row.signature)
    if as_json:
        print_json(canonical.parse(row.body) | {"states": states})
        return
    names = {one.medium: one.subject for one in lot.population}
    print_table(
        ["medium", "name", "check"],
        [[medium[:16], names[medium], states[medium]] for medium in lot.chosen],
        "",
    )
    click.echo(
        f"{len(lot.chosen)} of {len(lot.population)} media, {lot.since} to {lot.until}, for {lot.checker}."
    )


@command.command(name="check")
@click.argument("lot")
@click.option("--signers", type=_FILE, help="For a file: your own allowed_signers.")
@click.option("--log-policy", type=_FILE, help="For a file: your own policy, which names the log.")
@json_option
@click.pass_obj
def check(app: App, lot: str, signers: Path | None, log_policy: Path | None, as_json: bool) -> int:
    """Draw LOT again (a number, or a file that `lot show -o` wrote) and compare; exit code 9 when it is not the same."""
    from expunge_agent.errors import EXIT_OK, VerificationError
    from expunge_controller import lots
    from expunge_controller.lot_check import check_file
    from expunge_controller.records.findings import Checklist, failures

    if Path(lot).is_file():
        steps = check_file(Path(lot), signers, log_policy)
    else:
        checks = Checklist()
        with app.controller() as controller, controller.store.read() as unit:
            found, row = lots.find(unit, lot)
            problems = lots.problems_here(unit, controller, found, row.body)
        checks.check("the lot is what register and log make it", problems, f"{len(found.chosen)} media drawn")
        steps = checks.steps
    code = VerificationError.exit_code if failures(steps) else EXIT_OK
    print_steps(steps, as_json, {"exit_code": code})
    return code


@command.command(name="result")
@click.argument("medium")
@click.argument("result", type=click.Choice(["pass", "fail"]))
@click.option("--lot", "number", required=True, help="The lot that drew it.")
@click.option("--tool", required=True, help="With what it was looked at; another developer's tool.")
@deciding_options
@json_option
@click.pass_obj
def result(app: App, /, medium: str, result: str, number: str, tool: str, **said: Any) -> None:
    """Record what the second look at MEDIUM found, signed by the checker. A failure means physical destruction."""
    from expunge_agent.protocol import canonical
    from expunge_controller.ledger import find_medium
    from expunge_controller.records.custody import CustodyKind
    from expunge_controller.records.custody_parts import Quality

    with app.controller() as controller, controller.store.read() as unit:
        digest = find_medium(unit, medium).digest
    quality = canonical.convert(
        {"lot": number, "tool": tool, "found": said["note"]}, Quality, "quality check"
    )
    kind = CustodyKind.QUALITY_PASSED if result == "pass" else CustodyKind.QUALITY_FAILED
    decide(app, digest, kind, quality=quality, **said)
    if kind is CustodyKind.QUALITY_FAILED and said["output"] is None and not said["as_json"]:
        click.echo("The medium is condemned: only its physical destruction may follow (R2v3 appendix B).")
