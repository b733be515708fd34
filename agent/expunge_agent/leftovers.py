"""Hidden folders that orders made to fill free space and did not remove: found by their journals, whatever became of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge_agent.core.space_progress import Folder
from expunge_agent.devices.nodes import by_number
from expunge_agent.engine.own_folder import NotOurs, OwnFolder
from expunge_agent.errors import DocumentError
from expunge_agent.protocol import canonical
from expunge_agent.space_cleanup import remove_folder, restore_spare
from expunge_agent.state import State


@dataclass(frozen=True)
class Leftover:
    """One folder that is still there. ``standing``: ``finished``, ``unfinished`` or ``running``, of its order."""

    order: str
    folder: Folder
    standing: str
    spare: int | None = None

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.folder.path.rstrip('/')}/{self.folder.name}"


def leftovers(state: State) -> list[Leftover]:
    """What is left on file systems that are mounted where they were."""
    found = []
    for order in sorted(entry.name for entry in (state.root / "orders").iterdir() if entry.is_dir()):
        if order.startswith("."):
            continue
        standing = "unfinished"
        if state.receipt_number(order) is not None:
            standing = "finished"
        elif state.is_running(order):
            standing = "running"
        for folder, spare in _made_by(state.order_folder(order)):
            if _is_there(folder):
                found.append(Leftover(order, folder, standing, spare))
    return found


def remove(left: Leftover) -> str:
    """Remove it; why it is still there, or empty."""
    why = remove_folder(left.folder)
    if not why and left.spare is not None:
        kind, node = _under(left.folder.path)
        restore_spare(left.folder.path, kind, node, left.spare)  # else the next mount does it
    return why


def _under(path: str) -> tuple[str, str]:
    """(type, kernel's name of the device) of the file system at `path`; empty where it is not told."""
    device = Path(path).stat().st_dev
    node = by_number(f"{os.major(device)}:{os.minor(device)}")
    name = node.name if node is not None else ""
    return ("ext4" if (Path("/sys/fs/ext4") / name).is_dir() else "xfs") if name else "", name


def _is_there(folder: Folder) -> bool:
    try:
        found = OwnFolder.find(folder)
    except (NotOurs, OSError):
        return False
    if found is None:
        return False
    found.close()
    return True


def _made_by(order: Path) -> Iterator[tuple[Folder, int | None]]:
    """Each folder that the order's journals speak of, damaged ones too, as it is known best."""
    known: dict[str, Folder] = {}
    spares: dict[str, int] = {}
    for journal in sorted(order.glob("journal*")):
        last = ""
        for record in _records(journal):
            data = record.get("data", {})
            try:
                if record.get("kind") in ("space-folder", "space-made"):
                    folder = canonical.convert(data["folder"], Folder)
                    known[folder.name] = folder if folder.inode else known.get(folder.name, folder)
                    last = folder.name
                elif record.get("kind") == "space-spare" and last:
                    spares[last] = int(data["spare"])
            except (DocumentError, KeyError, TypeError, ValueError):
                continue
    for name, folder in known.items():
        yield folder, spares.get(name)


def _records(journal: Path) -> Iterator[dict[str, Any]]:
    """The records that can still be read, one by one: the order of a damaged journal proves nothing, its names do."""
    for line in journal.read_bytes().split(b"\n"):
        try:
            value = canonical.parse(line)
        except DocumentError:
            continue
        record = value.get("record") if isinstance(value, dict) else None
        if isinstance(record, dict):
            yield record
