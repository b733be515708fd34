"""expunge custody"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table
from expunge_controller.cli.custody_words import (
    kind_of,
    print_recorded,
    told,
    words_of,
    words_options,
    write_draft,
)
from expunge_controller.cli.groups import ShowGroup

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group(name="custody", cls=ShowGroup)
def command() -> None:
    """Custody: show it, and draft, sign and record events that people sign. `expunge custody MEDIUM` shows it."""


@command.command(name="show")
@click.argument("medium")
@json_option
@click.pass_obj
def show(app: App, medium: str, as_json: bool) -> None:
    """Show the custody of MEDIUM (digest, number, label, serial, path or seal), every link and signature checked."""
    from expunge_agent.protocol import canonical, sshsig, trust
    from expunge_controller import key_history, people
    from expunge_controller.ledger import find_medium
    from expunge_controller.records.custody import check_chain
    from expunge_controller.records.custody_people import chain_problems

    with app.controller() as controller, controller.store.read() as unit:
        row = find_medium(unit, medium)
        kept = unit.evidence.custody(row.digest)
        ours = key_history.signers(unit, controller.principal)
        signatures, known = unit.custody.signatures(row.digest), people.records_in(unit)
    bodies = [event.body for event in kept]
    chain = check_chain(bodies)
    for event in kept:
        trust.verify(ours, sshsig.CUSTODY_NAMESPACE, event.body, event.signature)
    if as_json:
        print_json([canonical.parse(body) for body in bodies])
        return
    click.echo(f"Medium {row.digest} ({chain[0].subject if chain else row.hint})")
    print_table(
        ["no", "at", "event", "standing", "actor", "signed by", "order", "note"],
        [
            [
                str(event.seq),
                event.at,
                event.event,
                event.standing,
                event.actor,
                ", ".join(f"{one.person} ({one.role})" for one in event.people),
                event.order_id,
                event.note,
            ]
            for event in chain
        ],
        "Nothing is recorded.",
    )
    breaches = chain_problems(chain, bodies, signatures, known)
    for breach in breaches:
        click.echo(f"AGAINST THE RULES: {breach}")
    click.echo(f"{len(chain)} events; every signature and link checks out.")


@command.command(name="draft")
@click.argument("medium")
@click.argument("event")
@words_options
@click.option("-o", "--output", type=_FILE, required=True, help="The file that people sign.")
@json_option
@click.pass_obj
def draft(app: App, /, medium: str, event: str, output: Path, as_json: bool, **said: Any) -> None:
    """Write the next EVENT of MEDIUM (handed-over, destroyed, …) as a file for people to sign. Records nothing."""
    from expunge_controller import custodian
    from expunge_controller.context import utc_now
    from expunge_controller.ledger import find_medium

    kind, words = kind_of(event), words_of(said)
    with app.controller() as controller, controller.store.read() as unit:
        body = custodian.draft(unit, find_medium(unit, medium), kind, words, utc_now())
    write_draft(output, body)
    names = [one.person for one in words.people]
    if as_json:
        print_json({"draft": str(output), "signers": names})
        return
    click.echo(f"{output}: {kind}. Each signs these very bytes:")
    for name in names:
        click.echo(f"  {name}: expunge custody sign {output} --by {name} --key KEY")
        click.echo(f"  or: ssh-keygen -Y sign -n expunge-custody -f KEY < {output} > {output}.{name}.sig")
    signatures = "".join(f" --signature {output}.{name}.sig" for name in names)
    click.echo(f"then: expunge custody record {output}{signatures}")


@command.command(name="sign")
@click.argument("event_file", type=_FILE)
@click.option(
    "--key", type=_FILE, required=True, help="Your private key, or the public half of one in an ssh-agent."
)
@click.option("--by", default="", help="Who you are in the event; needed where it names several people.")
@click.option("-o", "--output", type=_FILE, help="Default: EVENT_FILE.NAME.sig")
@json_option
@click.pass_obj
def sign(app: App, event_file: Path, key: Path, by: str, output: Path | None, as_json: bool) -> None:
    """Read the event in EVENT_FILE, show it, and sign it with your key. Needs no controller."""
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol import sshsig
    from expunge_controller.person_keys import signer_of
    from expunge_controller.records.custody import parse_custody_event

    body = event_file.read_bytes()
    event = parse_custody_event(body)
    names = [one.person for one in event.people]
    name = by or (names[0] if len(names) == 1 else "")
    if name not in names:
        raise UsageError(
            f"The event names {', '.join(names) or 'nobody'}.", "Say who you are: --by NAME (one of them)."
        )
    if not as_json:
        for line in told(event):
            click.echo(line)
    signer = signer_of(key, lambda: str(click.prompt(f"Passphrase of {key}", hide_input=True, err=True)))
    armored = sshsig.sign(signer, sshsig.CUSTODY_NAMESPACE, body)
    seen = sshsig.examine(armored, sshsig.CUSTODY_NAMESPACE, body)
    place = output or event_file.with_name(f"{event_file.name}.{name}.sig")
    place.write_bytes(armored)
    if as_json:
        print_json({"signature": str(place), "key": sshsig.fingerprint(seen.public_line)})
    else:
        click.echo(f"{place}: signed with {sshsig.fingerprint(seen.public_line)}")


@command.command(name="record")
@click.argument("event_file", type=_FILE)
@click.option(
    "--signature", "signatures", type=_FILE, multiple=True, help="A person's signature over the file."
)
@json_option
@click.pass_obj
def record(app: App, event_file: Path, signatures: tuple[Path, ...], as_json: bool) -> None:
    """Check the event in EVENT_FILE and everybody's signature, and append it to the medium's custody."""
    from expunge_controller import custodian
    from expunge_controller.context import utc_now

    body, signed = event_file.read_bytes(), [path.read_bytes() for path in signatures]
    with app.controller() as controller:
        done = custodian.record(controller, body, signed, utc_now())
    print_recorded(done, as_json)


@command.command(name="export")
@click.argument("medium")
@click.option("-o", "--output", type=_FILE, required=True, help="The zip to write.")
@json_option
@click.pass_obj
def export(app: App, medium: str, output: Path, as_json: bool) -> None:
    """Write the custody of MEDIUM with everybody's signatures as a zip: for paper, and what was only destroyed.

    Of a medium that was wiped, `expunge export` writes the bundle, which holds its custody too.
    """
    from expunge_controller.bundle import write_output, zip_bytes
    from expunge_controller.bundling import collect_custody
    from expunge_controller.ledger import find_medium

    with app.controller() as controller, controller.store.read() as unit:
        files = collect_custody(unit, controller, find_medium(unit, medium).digest)
    write_output(output, zip_bytes(files))
    if as_json:
        print_json({"custody": str(output), "files": sorted(files)})
    else:
        click.echo(f"{output}: {len(files)} files. Check it: expunge custody check {output}")


@command.command(name="check")
@click.argument("record_file", type=_FILE)
@click.option("--signers", type=_FILE, help="Your own allowed_signers file.")
@json_option
@click.pass_obj
def check(app: App, record_file: Path, signers: Path | None, as_json: bool) -> int:
    """Check what `custody export` wrote, without a controller; exit code 9 when a step fails."""
    from expunge_agent.errors import EXIT_OK, VerificationError
    from expunge_controller.bundle_read import check_custody, read_trusted
    from expunge_controller.cli.app import print_steps
    from expunge_controller.records.findings import failures

    steps = check_custody(record_file, None if signers is None else read_trusted(signers))
    code = VerificationError.exit_code if failures(steps) else EXIT_OK
    print_steps(steps, as_json, {"exit_code": code})
    return code


@command.command(name="open")
@json_option
@click.pass_obj
def follow_ups(app: App, as_json: bool) -> None:
    """List the rejections whose remedy has not been carried out yet."""
    from expunge_controller.records.custody import parse_custody_event
    from expunge_controller.records.review import open_follow_up

    with app.controller() as controller, controller.store.read() as unit:
        chains = [
            [parse_custody_event(row.body) for row in unit.evidence.custody(medium.digest)]
            for medium in unit.evidence.media()
        ]
    found = [event for chain in chains if (event := open_follow_up(chain)) is not None]
    rows = [
        [
            one.medium[:16],
            one.subject,
            one.at,
            one.event,
            f"{one.remedy.action}: {one.remedy.technique}" if one.remedy else "destroy",
        ]
        for one in found
    ]
    if as_json:
        names = ("medium", "subject", "since", "event", "remedy")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    print_table(["medium", "name", "since", "event", "remedy"], rows, "No remedy is outstanding.")
