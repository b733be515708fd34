"""The inventory as a controller gets it, and root's record of what the drives answer.

The network side may open no drive. So root records the answers (``expunge-agent inventory --record``, by a
unit of its own), and the network side asks for a fresh record by a note in the spool, and fills in from it.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from expunge_agent.core.capabilities import can, condition, hidden
from expunge_agent.core.guard import objections
from expunge_agent.devices import host
from expunge_agent.devices.aliases import resolve
from expunge_agent.devices.inventory import Entry, survey
from expunge_agent.devices.space import PREFIX
from expunge_agent.devices.space_item import space_item
from expunge_agent.errors import ExpungeError
from expunge_agent.files import exists, explained, read_limited, write_durable
from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import Frozen, Text, Timestamp, timestamp
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.surroundings import protected

RECORD = "inventory.json"
WANTED = "inventory-wanted"
"""In the spool: closing this file after writing has root record the drives anew (expunge-agent-inventory.path)."""
PATIENCE = 10.0
"""Seconds for a fresh record; then the old one is taken, which says when it was made."""
_MOST = 16 * 1024 * 1024
_TOLD = ("drive", "members", "silent", "can", "hidden", "condition")


class Record(Frozen, frozen=True):
    """What root saw of the drives, and when; another boot may have other drives."""

    at: Timestamp
    boot_id: Text
    items: list[wire.InventoryItem]


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
    meant: dict[str, str] = {}
    for path in [path for path in paths if not path.startswith(PREFIX)]:
        try:
            meant[path] = resolve(path)
        except ExpungeError as error:
            problems.append(f"{path}: {error.message}")
    for entry in survey(list(meant.values()), system=system):
        found = entry.found
        against = [
            refusal.detail
            for refusal in objections(None, found.medium, found.usage, system)
            if runs_orders or found.medium is None or refusal.reason is not Reason.NOT_PERMITTED
        ]
        item = _item(entry, against)
        if item is None:
            problems.append(" ".join(against) or f"{found.usage.path} cannot be wiped.")
        else:
            asked = [given for given, path in meant.items() if given != path == item.path]
            items.append(msgspec.structs.replace(item, asked=asked))
    return wire.Inventory(items=items, problems=problems)


def record(state_root: Path, now: datetime) -> int:
    """Write down what every drive answers, for the network side; returns how many. Raises StateError and kin."""
    items = report([], state_root).items
    made = Record(at=timestamp(now), boot_id=host.boot_id(), items=items)
    write_durable(state_root / RECORD, canonical.dumps(made))
    return len(items)


def ask_for_record(state_root: Path) -> int:
    """Leave the note that has root record the drives; returns the moment (nanoseconds) before which a record is old."""
    before = time.time_ns()
    if exists(state_root / RECORD):
        with explained(state_root):
            (state_root / "spool" / WANTED).write_bytes(b"")
    return before


def read_record(state_root: Path, newer_than: int, patience: float = PATIENCE) -> Record | None:
    """Root's record, waiting for one `newer_than` (nanoseconds); the old one when none comes in time.

    None where root never made one, or made it in another boot, or it cannot be read.
    """
    path = state_root / RECORD
    until = time.monotonic() + patience
    while exists(path) and path.stat().st_mtime_ns < newer_than and time.monotonic() < until:
        time.sleep(0.1)
    try:
        made = canonical.loads(read_limited(path, _MOST), Record, str(path)) if exists(path) else None
    except (ExpungeError, OSError):
        return None
    return made if made is not None and made.boot_id == host.boot_id() else None


def with_record(answer: wire.Inventory, made: Record | None) -> wire.Inventory:
    """`answer` with what root's record says of the same media; each says when that was."""
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
    return wire.Inventory(items=items, problems=answer.problems)


def _item(entry: Entry, against: list[str]) -> wire.InventoryItem | None:
    medium, drive = entry.found.medium, entry.drive
    if medium is None:
        return None
    return wire.InventoryItem(
        identity=medium.identity,
        path=medium.path,
        type=medium.type.value,
        firmware=medium.firmware,
        logical_sector=medium.logical_sector,
        physical_sector=medium.physical_sector,
        blocked=against,
        notes=[*medium.notes, *entry.found.usage.notes],
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
