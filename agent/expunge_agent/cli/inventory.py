"""expunge-agent inventory"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from expunge_agent.cli.common import print_json, print_line, table
from expunge_agent.core.capabilities import can, condition, details, hidden
from expunge_agent.core.guard import SystemPaths, objections, readable
from expunge_agent.core.medium import Kind
from expunge_agent.core.settled import settled_type
from expunge_agent.devices.inventory import Entry, inventory, survey
from expunge_agent.errors import NotFoundError, UsageError
from expunge_agent.inventory_report import record
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, Identity
from expunge_agent.state import State
from expunge_agent.surroundings import protected
from expunge_agent.terminal import size_text

_LOOK_AGAIN = 10.0
"""Seconds after which the drives are listed again though nobody announced anything."""
_LOOK_WHEN_DEAF = 1.0
_SETTLE = 0.2
"""Seconds for the partitions of a new drive to appear."""


@click.command(name="inventory")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Machine-readable; with --watch one line each.")
@click.option(
    "--details", "in_detail", is_flag=True, help="Show all that each drive answers, and what stands on it."
)
@click.option(
    "--record",
    "to_record",
    is_flag=True,
    help="Write down what the drives answer, for the controller to ask.",
)
@click.option("--watch", is_flag=True, help="Print drives as they come and go, until stopped.")
@click.pass_obj
def command(
    obj: dict[str, object],
    paths: tuple[str, ...],
    as_json: bool,
    in_detail: bool,
    to_record: bool,
    watch: bool,
) -> int:
    """Show the drives of this machine, and the files or devices at PATHS, and what keeps each from being wiped.

    Every drive is asked for its identity, abilities and state; it is opened for reading only, and
    commands that change something are never sent. Without root, the kernel's account is shown.
    """
    root = Path(str(obj["state"]))
    system = protected(root)
    if (watch or to_record) and (paths or in_detail or (watch and to_record)):
        raise UsageError("--watch and --record each stand alone.", "Leave out paths and other options.")
    if to_record:
        known = record(State.open(root).root, datetime.now(UTC))
        print_json({"recorded": known}) if as_json else click.echo(f"Recorded the answers of {known} media.")
        return 0
    if watch:
        _watch(system, as_json)
        return 0
    entries = survey(paths, system=system)
    missing = [entry.found.usage.path for entry in entries if entry.found.usage.kind is Kind.MISSING]
    if as_json:
        print_json([_plain(entry, system) for entry in entries])
        return NotFoundError.exit_code if missing else 0
    _show(entries, in_detail, system)
    if missing:
        names = ", ".join(readable(name, 200) for name in missing)
        raise NotFoundError(
            f"There is nothing at {names}.",
            "Look at the list for what is here, and at the path for mistakes.",
        )
    return 0


def _show(entries: list[Entry], in_detail: bool, system: SystemPaths) -> None:
    head = ["PATH", "BUS", "TYPE", "SIZE", "MODEL", "SERIAL", "CAN", "HIDDEN", "CONDITION", "STATE"]
    if not in_detail:
        table(head, [_row(entry, system) for entry in entries])
        return
    for entry in entries:
        table(head, [_row(entry, system)])
        for line in _details(entry, system):
            click.echo(f"  {line}")
        click.echo()


def _plain(entry: Entry, system: SystemPaths) -> dict[str, Any]:
    found, medium = entry.found, entry.found.medium
    return {
        "path": found.usage.path,
        "paths": list(entry.paths),
        "map": entry.map,
        "identity": medium.identity if medium else None,
        "type": settled_type(medium, entry.drive).value if medium else found.usage.kind.value,
        "rotational": medium.rotational if medium else None,
        "removable": medium.removable if medium else None,
        "facts": medium.facts() if medium else None,
        "drive": entry.drive,
        "silent": entry.silent,
        "members": list(entry.members),
        "stack": entry.layers,
        "blocked": objections(None, medium, found.usage, system),
        "notes": list(found.usage.notes),
    }


def _row(entry: Entry, system: SystemPaths) -> list[str]:
    medium, drive, usage = entry.found.medium, entry.drive, entry.found.usage
    against = objections(None, medium, usage, system)
    bus, model, serial = _names(medium.identity) if medium else ("", "", "")
    kind = settled_type(medium, drive).value if medium else ""
    return [
        readable(usage.path),
        bus or "-",
        _made_of(entry) or kind or "-",
        size_text(medium.size) if medium else "-",
        model or "-",
        serial or "-",
        (can(drive) if drive else "") or "-",
        (hidden(drive) if drive else "") or "-",
        "no answer" if entry.silent else (condition(drive) if drive else "") or "-",
        against[0].reason.value if against else "can be wiped",
    ]


def _made_of(entry: Entry) -> str:
    """What a medium that is no drive is called instead of its type."""
    medium, layers = entry.found.medium, entry.layers
    if medium is not None and any("RAID controller" in note for note in medium.notes):
        return "raid volume"
    return "multipath map" if layers is not None and layers.kind == "multipath" else ""


def _names(identity: Identity) -> tuple[str, str, str]:
    """Bus, model, and what tells it from others."""
    if isinstance(identity, BlockIdentity):
        return identity.bus, identity.model, identity.serial or identity.wwn or identity.instance
    if isinstance(identity, FileIdentity):
        return "file", "", f"inode {identity.inode} on {identity.device}"
    return "", "", ""


def _details(entry: Entry, system: SystemPaths) -> Iterator[str]:
    """What the table has no room for."""
    medium, usage, drive = entry.found.medium, entry.found.usage, entry.drive
    if len(entry.paths) > 1:
        yield f"paths: {', '.join(entry.paths)}"
    if entry.map:
        yield f"multipath map: {entry.map}"
    for member in entry.members:
        yield f"behind the controller: {member}"
    if entry.silent:
        yield entry.silent
    yield from details(drive) if drive is not None else ()
    if entry.layers is not None and entry.layers.layers:
        yield from (readable(line) for line in entry.layers.lines())
    for note in [*(medium.notes if medium else ()), *usage.notes]:
        yield f"note: {note}"
    for refusal in objections(None, medium, usage, system):
        yield f"refused: {refusal.detail}"


def _watch(system: SystemPaths, as_json: bool) -> None:
    """Print additions and removals until SIGINT or SIGTERM."""
    from expunge_agent.devices.uevents import Uevents

    with _stopping() as stop, Uevents() as uevents:
        pause = _LOOK_WHEN_DEAF if uevents.deaf else _LOOK_AGAIN
        known = {_key(entry): entry for entry in _listed(system)}
        for entry in known.values():
            _announce("present", entry, as_json)
        while not _told(stop):
            if uevents.wait(pause, also=stop) and not _told(stop):
                uevents.wait(_SETTLE, also=stop)
            now = {_key(entry): entry for entry in _listed(system)}
            for key in known.keys() - now.keys():
                _announce("removed", known[key], as_json)
            for key in now.keys() - known.keys():
                _announce("added", now[key], as_json)
            known = now


def _listed(system: SystemPaths) -> list[Entry]:
    return [Entry(found) for found in inventory(system=system) if found.medium is not None]


def _key(entry: Entry) -> tuple[str, Identity | None]:
    medium = entry.found.medium
    return entry.found.usage.path, medium.identity if medium else None


def _announce(event: str, entry: Entry, as_json: bool) -> None:
    medium = entry.found.medium
    assert medium is not None  # noqa: S101 - `_listed` leaves out what is none
    if as_json:
        print_line(
            {"event": event, "path": medium.path, "identity": medium.identity, "type": medium.type.value}
        )
        return
    bus, model, serial = _names(medium.identity)
    sign = {"added": "+", "removed": "-"}.get(event, " ")
    words = (sign, medium.path, bus, medium.type.value, size_text(medium.size), model, serial)
    click.echo("  ".join(word for word in words if word))


@contextmanager
def _stopping() -> Iterator[int]:
    """A descriptor that becomes readable when the process is told to stop."""
    ours, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(theirs)
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield ours
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(ours)
        os.close(theirs)


def _told(stop: int) -> bool:
    """Whether a signal has come; the descriptor is never read, so that the answer stays."""
    import select

    return bool(select.select([stop], [], [], 0)[0])
