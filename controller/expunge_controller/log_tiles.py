"""The log as a folder that anybody may serve, copy and check (C2SP tlog-tiles)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from expunge_agent.errors import DocumentError, NotFoundError, RefusedError, UsageError
from expunge_controller import files, translog
from expunge_controller.context import Controller
from expunge_controller.records import merkle, tiles
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint
from expunge_controller.records.note import MAX_NOTE, verified
from expunge_controller.store.port import Unit


class Published(NamedTuple):
    """How far the folder goes now, and how many files were written for it."""

    size: int
    written: int


class Copy:
    """A folder of tiles, however it came here. Nothing in it is believed before it is checked."""

    def __init__(self, folder: Path) -> None:
        """Raises NotFoundError where `folder` holds no log, DocumentError where its checkpoint is damaged."""
        self._folder = folder
        self.head = self.file(tiles.CHECKPOINT, MAX_NOTE)
        self.checkpoint: Checkpoint = parse_checkpoint(self.head)[0]
        self._last: tuple[tiles.Tile, bytes] | None = None

    def read(self, tile: tiles.Tile) -> bytes:
        """The bytes of a tile; a partial one may have been replaced by the full one since."""
        if self._last is None or self._last[0] != tile:
            self._last = (tile, self._read(tile))
        return self._last[1]

    def entries(self, tile: tiles.Tile) -> list[bytes]:
        """The entries of a bundle. Raises DocumentError, also where there are too few."""
        found = tiles.bundled(self.read(tile))
        if len(found) < tile.width:
            raise DocumentError(f"{tile.path} is too short.", "Get the log again from its source.")
        return found[: tile.width]

    def file(self, name: str, limit: int = tiles.WIDTH * 2**16) -> bytes:
        """A file of the folder. Raises NotFoundError, DocumentError."""
        try:
            with (self._folder / name).open("rb") as stream:
                data = stream.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise NotFoundError(
                f"There is no {name} in {self._folder}.", "Copy the whole folder of the log."
            ) from error
        if len(data) > limit:
            raise DocumentError(f"{name} is far too long.", "Get the log again from its source.")
        return data

    def _read(self, tile: tiles.Tile) -> bytes:
        try:
            return self.file(tile.path)
        except NotFoundError:
            if tile.width == tiles.WIDTH:
                raise
        whole = self.file(tile._replace(width=tiles.WIDTH).path)
        return whole[: tile.width * merkle.HASH_SIZE] if tile.level >= 0 else whole


def publish(controller: Controller, folder: Path, now: datetime) -> Published:
    """Bring `folder` up to the log's head: tiles and entries first, the checkpoint last.

    The checkpoint is the newest that enough witnesses signed, so that nobody is shown one that a
    witness may never see. Raises UsageError where `folder` holds something else.
    """
    translog.head(controller, now)
    before = _head_in(folder)
    with controller.store.read() as unit:
        found = _newest(unit, controller)
        if before is not None and not _continues(unit, found, before):
            raise UsageError(
                f"{folder} holds a log that this one does not continue ({before.origin}, {before.size} entries).",
                "It is another log's, or this database was changed or is an older one: `expunge log check`.",
            )
        written = 0
        for tile in tiles.tiles_of(found.size, before.size if before else 0):
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, _bytes(unit, tile))
            written += 1
    _write(folder / tiles.CHECKPOINT, found.note)
    return Published(found.size, written + 1)


def restore(controller: Controller, folder: Path) -> int:
    """Append what a copy of this very log has beyond it: after an older database was put back.

    Returns how many entries came back; the documents that they stand for do not. Raises
    RefusedError where the copy is not this log going on, and then nothing was changed.
    """
    copy = Copy(folder)
    no = "The copy is not this log going on"
    remedy = "Entries were made since the database was put back, or it is another log: `expunge log check`."
    with controller.store.write() as unit:
        size, whole = unit.log.size(), copy.checkpoint.size
        key = translog.key_in(unit)
        if copy.checkpoint.origin != key.name or not verified(parse_checkpoint(copy.head)[1], [key]):
            raise RefusedError(f"{no}: it is not signed by it.", remedy)
        for tile in tiles.tiles_of(whole, size):
            first = tile.number * tiles.WIDTH
            if tile.level < 0:
                for entry in copy.entries(tile)[max(0, size - first) :]:
                    unit.log.append(entry)
        grown = unit.log.size()
        if grown != max(size, whole) or merkle.root(unit.log.node, whole) != copy.checkpoint.root:
            raise RefusedError(f"{no}: its {whole} entries do not begin with the {size} here.", remedy)
    return grown - size


def _newest(unit: Unit, controller: Controller) -> translog.Covered:
    policy = translog.policy_in(unit, controller.home)
    for row in reversed(list(unit.log.checkpoints_from(0))):
        found = translog.covered_by(unit, policy, row)
        if policy.is_enough(found.signed):
            return found
    raise UsageError(
        "No checkpoint has as many cosignatures as the policy asks for.", "Run `expunge log cosign` first."
    )


def _head_in(folder: Path) -> Checkpoint | None:
    if not folder.exists():
        folder.mkdir(parents=True)
    if (folder / tiles.CHECKPOINT).exists():
        return Copy(folder).checkpoint
    if any(entry.name != "tile" for entry in folder.iterdir()):
        raise UsageError(f"{folder} holds other files.", "Name an empty or new folder.")
    return None


def _continues(unit: Unit, found: translog.Covered, before: Checkpoint) -> bool:
    same = before.origin == translog.key_in(unit).name and before.size <= found.size
    return same and merkle.root(unit.log.node, before.size) == before.root


def _bytes(unit: Unit, tile: tiles.Tile) -> bytes:
    if tile.level >= 0:
        return tiles.tile_bytes(tile, unit.log.node)
    first = tile.number * tiles.WIDTH
    return tiles.bundle_bytes([row.body for row in unit.log.entries(first, first + tile.width)])


def _write(path: Path, data: bytes) -> None:
    files.write_private(path, data)
    path.chmod(0o644)
