"""expunge log"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, print_json, print_steps, print_table

if TYPE_CHECKING:
    from expunge_controller.store.port import Unit

against_option = click.option(
    "--against",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A checkpoint of this log kept elsewhere, such as a witness's; may be given several times.",
)


@click.group(name="log")
def command() -> None:
    """The transparency log: see it, prove entries, publish it, have it cosigned, check it."""


@command.command(name="head")
@json_option
@click.pass_obj
def head(app: App, as_json: bool) -> None:
    """Print the log's verifier key and its newest checkpoint, signed now if the log grew."""
    from expunge_controller import translog
    from expunge_controller.context import utc_now

    with app.controller() as controller:
        row = translog.head(controller, utc_now())
        with controller.store.read() as unit:
            policy = translog.policy_in(unit, controller.home)
            found = translog.covered_by(unit, policy, row)
            key = translog.key_in(unit).text
            seen = {one.key.name: unit.log.cosigned_size(one.key.text) for one in policy.witnesses}
    if as_json:
        print_json(
            {
                "vkey": key,
                "size": row.size,
                "checkpoint": found.note.decode(),
                "quorum": policy.quorum,
                "witnesses": [{"name": name, "cosigned": size} for name, size in seen.items()],
            }
        )
        return
    click.echo(found.note.decode())
    click.echo(f"key        {key}")
    for name, size in seen.items():
        click.echo(f"witness    {name}: {size} of {row.size} entries")
    if not seen:
        click.echo("witness    none: nobody but you vouches for this log (docs/log.md)")


@command.command(name="show")
@click.option(
    "--from",
    "first",
    type=click.IntRange(0),
    default=None,
    help="From this entry on. Default: the newest ones.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many.")
@json_option
@click.pass_obj
def show(app: App, first: int | None, limit: int, as_json: bool) -> None:
    """List entries: number, kind, and the digests that are all the log holds."""
    from expunge_controller.records.log_entry import parse_entry

    with app.controller() as controller, controller.store.read() as unit:
        size = unit.log.size()
        start = max(0, size - limit) if first is None else first
        rows = list(unit.log.entries(start, min(size, start + limit)))
    entries = [(row.number, parse_entry(row.body)) for row in rows]
    if as_json:
        print_json(
            {
                "size": size,
                "entries": [
                    {"number": number, "kind": one.kind, "body": one.body, "sshsig": one.sshsig}
                    for number, one in entries
                ],
            }
        )
        return
    print_table(
        ["no", "kind", "document", "signature"],
        [[str(number), one.kind, one.body[:32], one.sshsig[:32]] for number, one in entries],
        "There is no such entry.",
    )
    click.echo(f"{size} entries.")


@command.command(name="proof")
@click.argument("what")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write it here instead of printing it.",
)
@json_option
@click.pass_obj
def proof(app: App, what: str, output: Path | None, as_json: bool) -> None:
    """Prove that WHAT (an entry's number, a receipt's digest or a certificate's number) is in the log."""
    from expunge_agent.errors import NotFoundError
    from expunge_controller import translog
    from expunge_controller.context import utc_now
    from expunge_controller.records.checkpoint import parse_checkpoint

    with app.controller() as controller:
        translog.head(controller, utc_now())
        with controller.store.read() as unit:
            number = _number(unit, what)
            found = translog.covering(unit, translog.policy_in(unit, controller.home), number)
            if found is None:
                raise NotFoundError(
                    f"Entry {number} is under no checkpoint that enough witnesses signed.",
                    "Run `expunge log cosign` first.",
                )
            data = translog.proof_in(unit, number, found)
            entry = translog.entry_in(unit, number)
    if output is not None:
        output.write_bytes(data)
    if as_json:
        checkpoint = parse_checkpoint(found.note)[0]
        print_json(
            {
                "number": number,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "entry": entry.decode(),
                "proof": data.decode(),
            }
        )
    elif output is None:
        click.echo(data.decode(), nl=False)
    else:
        click.echo(f"{output}: entry {number} of {found.size}")


@command.command(name="tiles")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_obj
def tiles(app: App, folder: Path, as_json: bool) -> None:
    """Bring FOLDER up to date: the whole log as plain files, for any web server and for copies."""
    from expunge_controller.context import utc_now
    from expunge_controller.log_tiles import publish

    with app.controller() as controller:
        done = publish(controller, folder, utc_now())
    if as_json:
        print_json({"folder": str(folder), "size": done.size, "written": done.written})
    else:
        click.echo(f"{folder}: {done.size} entries, {done.written} files written")


@command.command(name="restore")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.pass_obj
def restore(app: App, folder: Path, as_json: bool) -> None:
    """Take entries back from FOLDER, a copy of this log, after an older database was restored."""
    from expunge_controller.log_tiles import restore as take_back

    with app.controller() as controller:
        count = take_back(controller, folder)
    if as_json:
        print_json({"folder": str(folder), "restored": count})
    else:
        click.echo(f"{count} entries taken back. Their documents are not: `expunge log check` names them.")


@command.command(name="cosign")
@json_option
@click.pass_obj
def cosign(app: App, as_json: bool) -> int:
    """Put the log's head before the witnesses, and issue the certificates that waited for them."""
    from expunge_agent.errors import EXIT_OK
    from expunge_controller.context import utc_now
    from expunge_controller.witness_client import cosign as ask

    with app.controller() as controller:
        answers, issued = ask(controller, utc_now())
    problems = [one.problem for one in answers if one.problem is not None]
    code = problems[0].exit_code if problems else EXIT_OK
    if as_json:
        print_json(
            {
                "witnesses": [
                    {
                        "name": one.witness,
                        "size": one.size,
                        "problem": one.problem.as_dict() if one.problem else None,
                    }
                    for one in answers
                ],
                "certificates": issued,
                "exit_code": code,
            }
        )
        return code
    for one in answers:
        click.echo(f"{one.witness}: " + (f"{one.size} entries cosigned" if one.problem is None else "FAILED"))
        if one.problem is not None:
            click.echo(f"  {one.problem.message}\n  {one.problem.remedy}")
    if not answers:
        click.echo("No witness with an address is named in log-policy.toml.")
    for number in issued:
        click.echo(f"certificate {number} issued")
    return code


@command.command(name="stamp")
@json_option
@click.pass_obj
def stamp(app: App, as_json: bool) -> int:
    """Have the log's head stamped by the time-stamping authorities (RFC 3161) of log-policy.toml."""
    from expunge_agent.errors import EXIT_OK
    from expunge_controller.context import utc_now
    from expunge_controller.stamping import stamp_head

    with app.controller() as controller:
        done = stamp_head(controller, utc_now())
    problems = [one.problem for one in done if one.problem is not None]
    code = problems[0].exit_code if problems else EXIT_OK
    if as_json:
        rows = [{**one._asdict(), "problem": one.problem.as_dict() if one.problem else None} for one in done]
        print_json({"authorities": rows, "exit_code": code})
        return code
    for one in done:
        said = f"{one.size} entries stamped at {one.at}" if one.problem is None else "FAILED"
        click.echo(f"{one.authority}: {said}")
        if one.problem is not None:
            click.echo(f"  {one.problem.message}\n  {one.problem.remedy}")
    if not done:
        click.echo("No time-stamping authority with an address is named in log-policy.toml.")
    return code


@command.command(name="check")
@against_option
@click.option(
    "--tiles",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Check this copy of a log instead of the controller's own; needs no controller.",
)
@click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --tiles: a policy that names the log and its witnesses.",
)
@json_option
@click.pass_obj
def check(
    app: App, against: tuple[Path, ...], folder: Path | None, policy: Path | None, as_json: bool
) -> int:
    """Check the whole log, entry by entry, against its documents and everything signed; exit code 9 if it fails."""
    from expunge_agent.errors import EXIT_OK, UsageError, VerificationError
    from expunge_controller import log_audit
    from expunge_controller.bundle_read import read_log_policy, read_note
    from expunge_controller.log_tiles import Copy
    from expunge_controller.records.findings import failures

    others = [read_note(path) for path in against]
    if folder is not None:
        trusted = None if policy is None else read_log_policy(policy)
        steps = log_audit.check_copy(Copy(folder), trusted, others)
    elif policy is not None:
        raise UsageError("--policy goes with --tiles.", "The controller's own is log-policy.toml.")
    else:
        with app.controller() as controller:
            steps = log_audit.check_own(controller, others)
    code = VerificationError.exit_code if failures(steps) else EXIT_OK
    print_steps(steps, as_json, {"exit_code": code})
    if not as_json:
        click.echo(
            "The log is NOT what it should be."
            if code
            else "The log is what it should be, as far as this goes."
        )
    return code


def _number(unit: Unit, what: str) -> int:
    from expunge_agent.errors import NotFoundError
    from expunge_controller import translog
    from expunge_controller.records.log_entry import EntryKind, entry_of

    if what.isascii() and what.isdigit() and len(what) < 19:
        if int(what) >= unit.log.size():
            raise NotFoundError(f"The log has no entry {what}.", "See `expunge log show`.")
        return int(what)
    receipt, certificate = unit.evidence.receipt(what), unit.evidence.certificate(what)
    if receipt is not None:
        return translog.number_of(
            unit, entry_of(EntryKind.RECEIPT, receipt.body, receipt.signature, receipt.mldsa65)
        )
    if certificate is not None:
        return translog.number_of(
            unit, entry_of(EntryKind.CERTIFICATE, certificate.body, certificate.signature)
        )
    raise NotFoundError(
        f"No receipt has the digest {what!r}, no certificate that number.", "See `expunge receipts`."
    )
