"""What people say of a custody event on the command line, and how an event is told to them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge_controller.cli.app import print_json

if TYPE_CHECKING:
    from expunge_controller.custodian import Recorded, Words

_ROLES = ("operator", "witness", "custodian", "approver", "validator", "second", "checker")
_FILE = click.Path(path_type=Path, dir_okay=False)


def words_options(function: Any) -> Any:
    """The options that say what happened."""
    options = [
        click.option("--from", "giver", default="", help="Who gives it away."),
        click.option("--to", "receiver", default="", help="Who receives it."),
        *(click.option(f"--{role}", role, default="", help=f"Who is its {role}.") for role in _ROLES),
        click.option("--by", "actor", default="", help="A name, where nobody signs. Default: this user."),
        click.option("--location", default="", help="Where."),
        click.option("--seal", default="", help="The seal's number."),
        click.option("--count", type=click.IntRange(0), default=0, help="How many pieces."),
        click.option("--note", default="", help="Anything else; what a correction corrects."),
        click.option(
            "--attach", type=_FILE, multiple=True, help="A file, such as a photo; its SHA-256 is kept."
        ),
        click.option("--method", default="", help="How it was destroyed: shredding, incineration, …"),
        click.option("--particle-mm", default="", help="Largest particle left, in millimetres."),
        click.option("--temperature-c", type=click.IntRange(0, 9999), default=0, help="In degrees Celsius."),
        click.option(
            "--remedy", type=click.Choice(["repeat", "destroy"]), help="What must follow a rejection."
        ),
        click.option("--technique", default="", help="The technique with which to repeat or destroy."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def print_recorded(done: Recorded, as_json: bool) -> None:
    """What became of an event."""
    event = done.event
    if as_json:
        print_json(
            {
                "medium": event.medium,
                "event": event.event,
                "number": event.seq,
                "standing": event.standing,
                "signed_by": done.signers,
                "certificate": done.certificate,
                "repeated": done.repeated,
            }
        )
        return
    if done.repeated:
        click.echo(f"Event {event.seq} ({event.event}) of {event.subject} is recorded already.")
        return
    signers = ", ".join(done.signers) or "no person (name only)"
    click.echo(f"Event {event.seq} ({event.event}) of {event.subject} recorded, signed by {signers}.")
    if done.certificate:
        click.echo(f"certificate {done.certificate} issued")


def write_draft(path: Path, body: bytes) -> None:
    """Write a new file for people to sign. Raises UsageError where there is one already."""
    from expunge_agent.errors import UsageError

    try:
        with path.open("xb") as stream:
            stream.write(body)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already.", "Name a new file; a signed draft is not replaced."
        ) from error


def kind_of(text: str) -> Any:
    from expunge_agent.errors import UsageError
    from expunge_controller.custodian import recordable
    from expunge_controller.records.custody import CustodyKind

    known = [str(kind) for kind in CustodyKind if recordable(kind)]
    if text not in known:
        raise UsageError(f"{text!r} is no event that people record.", "Events: " + ", ".join(known) + ".")
    return CustodyKind(text)


def words_of(said: dict[str, Any]) -> Words:
    from expunge_agent.account import login_name
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol import canonical
    from expunge_controller.custodian import Words
    from expunge_controller.records.custody import Attachment
    from expunge_controller.records.custody_parts import Destruction, Participant, Remedy

    if (said["remedy"] is None) is not (not said["technique"]):
        raise UsageError(
            "--remedy and --technique go together.", "Such as: --remedy repeat --technique block-erase"
        )
    people = [
        {"role": role, "person": said[role]} for role in ("giver", "receiver", *_ROLES) if said.get(role)
    ]
    done = {key: said[key] for key in ("method", "particle_mm", "temperature_c")}
    plain_remedy = {"action": said["remedy"], "technique": said["technique"]}
    return Words(
        people=[canonical.convert(one, Participant, "name") for one in people],
        actor=said["actor"] or login_name(),
        location=said["location"],
        seal_id=said["seal"],
        count=said["count"],
        note=said["note"],
        attachments=[
            Attachment(name=path.name, sha256=canonical.sha256_hex(path.read_bytes()))
            for path in said["attach"]
        ],
        destruction=canonical.convert(done, Destruction, "destruction") if done["method"] else None,
        remedy=canonical.convert(plain_remedy, Remedy, "remedy") if said["remedy"] else None,
    )


def told(event: Any) -> list[str]:
    """An event for the person who is about to sign it."""
    from expunge_controller.cli.app import plain

    lines = {
        "event": f"{event.event} (number {event.seq})",
        "medium": f"{event.subject} ({event.medium})",
        "people": ", ".join(f"{one.person} ({one.role})" for one in event.people),
        "location": event.location,
        "seal": event.seal_id,
        "count": str(event.count or ""),
        "destroyed": " ".join(
            str(part)
            for part in (
                event.destruction.method,
                f"{event.destruction.particle_mm} mm" if event.destruction.particle_mm else "",
                f"{event.destruction.temperature_c} °C" if event.destruction.temperature_c else "",
            )
        )
        if event.destruction
        else "",
        "remedy": f"{event.remedy.action}: {event.remedy.technique}" if event.remedy else "",
        "quality": f"{event.quality.lot}, {event.quality.tool}" if event.quality else "",
        "receipt": event.receipt,
        "files": ", ".join(f"{one.name} {one.sha256[:16]}…" for one in event.attachments),
        "note": event.note,
        "at": event.at,
    }
    return [f"{name:<10}{plain(value)}" for name, value in lines.items() if value.strip()]
