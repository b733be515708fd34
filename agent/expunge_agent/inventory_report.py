"""The inventory as a controller gets it, and root's record of what the drives answer.

The network side may open no drive, nor folders that are closed to it. So root records the answers (``expunge-agent
inventory --record``, by a unit of its own), and the network side asks for a fresh record by a note in the spool, which
names the paths that it was asked for, and fills in from it.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from expunge_agent.core.capabilities import can, condition, hidden
from expunge_agent.core.guard import objections
from expunge_agent.core.settled import settled_type
from expunge_agent.devices import host
from expunge_agent.devices.aliases import resolve
from expunge_agent.devices.inventory import Entry, survey
from expunge_agent.devices.space import PREFIX
from expunge_agent.devices.space_item import space_item
from expunge_agent.errors import ExpungeError
from expunge_agent.files import exists, explained, read_limited, write_durable
from expunge_agent.key_items import PREFIXES as KEYS
from expunge_agent.key_items import key_items
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import Frozen, PathText, Text, Timestamp, timestamp
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.surroundings import protected

RECORD = "inventory.json"
WANTED = "inventory-wanted"
"""In the spool: closing this file after writing has root record the drives anew (expunge-agent-inventory.path), and what
lies at the paths in it. Whoever may write there is believed to ask, and nothing more (ADR 0032)."""
PATIENCE = 10.0
"""Seconds for a fresh record; then the old one is taken, which says when it was made."""
_MOST = 16 * 1024 * 1024
_MOST_WANTED = 2 * 1024 * 1024
MOST_PATHS = 256
_NOT_OURS = (Reason.NOT_PERMITTED, Reason.READ_ONLY)
"""What the rights and mounts of a process say that does not run the orders."""
_TOLD = ("drive", "type", "members", "silent", "can", "hidden", "condition")


class Record(Frozen, frozen=True):
    """What root saw of the drives and of the paths ``asked`` for, and when; another boot may have other drives."""

    at: Timestamp
    boot_id: Text
    items: list[wire.InventoryItem]
    problems: list[Text] = []
    asked: list[str] = []


class Wanted(Frozen, frozen=True):
    """The paths that a controller asked for; so many that every target of an order has room, and not any number."""

    paths: Annotated[list[PathText], msgspec.Meta(max_length=MOST_PATHS)]


def report(paths: list[str], state_root: Path, *, runs_orders: bool = True) -> wire.Inventory:
    """`runs_orders`: this process starts them itself. Else root does, and what this user may open says nothing."""
    system = protected(state_root)
    items, problems = [], []
    for text in [path for path in paths if path.startswith(PREFIX)]:
        told = space_item(text, system, runs_orders=runs_orders)
        if isinstance(told, Refusal):
            problems.append(f"{text}: {told.detail} {told.remedy}".rstrip())
        else:
            items.append(told)
    for text in [path for path in paths if path.startswith(KEYS)]:
        try:
            items += key_items(text, state_root / "vaults")
        except ExpungeError as error:
            problems.append(f"{text}: {error.message} {error.remedy}".rstrip())
    meant: dict[str, str] = {}
    for path in [path for path in paths if not path.startswith((PREFIX, *KEYS))]:
        try:
            meant[path] = resolve(path)
        except ExpungeError as error:
            problems.append(f"{path}: {error.message}")
    for entry in survey(list(meant.values()), system=system):
        found = entry.found
        against = [
            refusal.detail
            for refusal in objections(None, found.medium, found.usage, system)
            if runs_orders or found.medium is None or refusal.reason not in _NOT_OURS
        ]
        item = _item(entry, against)
        if item is None:
            problems.append(" ".join(against) or f"{found.usage.path} cannot be wiped.")
        else:
            asked = [given for given, path in meant.items() if given != path == item.path]
            items.append(msgspec.structs.replace(item, asked=asked))
    return wire.Inventory(items=items, problems=[problem[:4000] for problem in problems])


def record(state_root: Path, now: datetime) -> int:
    """Write down what every drive answers, for the network side; returns how many. Raises StateError and kin."""
    asked = _wanted(state_root)
    answer = report(asked, state_root, runs_orders=False)
    made = Record(
        at=timestamp(now),
        boot_id=host.boot_id(),
        items=answer.items,
        problems=answer.problems,
        asked=asked,
    )
    write_durable(state_root / RECORD, canonical.dumps(made))
    return len(answer.items)


def ask_for_record(state_root: Path, paths: list[str]) -> int:
    """Leave the note that has root record the drives and what lies at `paths`; returns the moment (nanoseconds) before
    which a record is old."""
    before = time.time_ns()
    if exists(state_root / RECORD):
        with explained(state_root):
            (state_root / "spool" / WANTED).write_bytes(canonical.dumps(Wanted(paths=paths[:MOST_PATHS])))
    return before


def _wanted(state_root: Path) -> list[str]:
    """What the note asks for; nothing where there is none, or it is no such note, or it was answered already."""
    note, answered = state_root / "spool" / WANTED, state_root / RECORD
    try:
        if exists(answered) and answered.stat().st_mtime_ns > note.lstat().st_mtime_ns:
            return []
        return canonical.loads(read_limited(note, _MOST_WANTED), Wanted, WANTED).paths
    except (ExpungeError, OSError):
        return []


def read_record(
    state_root: Path, newer_than: int, paths: list[str], patience: float = PATIENCE
) -> Record | None:
    """Root's record, waiting for one `newer_than` (nanoseconds) that tells of `paths`; the old one when none comes in time.

    None where root never made one, or made it in another boot, or it cannot be read.
    """
    until = time.monotonic() + patience
    while (made := _record(state_root)) is not None and time.monotonic() < until:
        if made[1] >= newer_than and set(paths) <= set(made[0].asked):
            break
        time.sleep(0.1)
    return made[0] if made is not None and made[0].boot_id == host.boot_id() else None


def _record(state_root: Path) -> tuple[Record, int] | None:
    """The record and when it was written (nanoseconds)."""
    path = state_root / RECORD
    try:
        if not exists(path):
            return None
        written = path.stat().st_mtime_ns
        return canonical.loads(read_limited(path, _MOST), Record, str(path)), written
    except (ExpungeError, OSError):
        return None


def with_record(answer: wire.Inventory, made: Record | None, paths: list[str]) -> wire.Inventory:
    """`answer` with what root's record says of the same media, and of those of `paths` that only root may look at; each
    says when that was."""
    if made is None:
        return answer
    known = {canonical.dumps(item.identity): item for item in made.items}
    items = []
    for item in answer.items:
        told = known.get(canonical.dumps(item.identity))
        if told is not None and told.drive:
            item = msgspec.structs.replace(  # noqa: PLW2901
                item,
                **{name: getattr(told, name) for name in _TOLD},
                notes=[*item.notes, f"The drive was asked by root at {made.at}."],
            )
        items.append(item)
    problems = list(answer.problems)
    for path in [path for path in paths if not _answering(answer.items, path)]:
        found = _answering(made.items, path)
        said = [problem for problem in made.problems if path in problem]
        if found or said:
            problems = [problem for problem in problems if path not in problem] + said
        for item in found:
            note = f"It was looked at by root at {made.at}."
            items.append(msgspec.structs.replace(item, notes=[*item.notes, note]))
    return wire.Inventory(items=items, problems=problems)


def _answering(items: list[wire.InventoryItem], path: str) -> list[wire.InventoryItem]:
    """The items that were found by `path`."""
    return [item for item in items if path in (item.path, *item.asked)]


def _item(entry: Entry, against: list[str]) -> wire.InventoryItem | None:
    medium, drive = entry.found.medium, entry.drive
    if medium is None:
        return None
    return wire.InventoryItem(
        identity=medium.identity,
        path=medium.path,
        type=settled_type(medium, drive).value,
        firmware=medium.firmware,
        logical_sector=medium.logical_sector,
        physical_sector=medium.physical_sector,
        blocked=against,
        notes=[
            *medium.notes,
            *entry.found.usage.notes,
            *([f"one medium with the multipath map {entry.map}"] if entry.map else []),
        ],
        paths=list(entry.paths),
        drive=_document(drive, without="answers"),
        stack=_document(entry.layers),
        members=list(entry.members),
        silent=entry.silent,
        can=can(drive) if drive else "",
        hidden=hidden(drive) if drive else "",
        condition=condition(drive) if drive else "",
    )


def _document(value: msgspec.Struct | None, without: str = "") -> dict[str, Any]:
    """`value` as plain JSON values, less one field; raw answers would make a frame of many drives too long."""
    if value is None:
        return {}
    plain: dict[str, Any] = msgspec.to_builtins(value, enc_hook=canonical.encode_hook)
    plain.pop(without, None)
    return plain
