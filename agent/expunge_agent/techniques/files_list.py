"""The list of work: every file that is meant, what an overwrite can reach of it, and its place in the stream.

It is written and durable before the first byte of a file is overwritten, so that whatever happens afterwards
it is known which files there were.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import msgspec

from expunge_agent.core.file_reach import WHOLE, Ground, Part, Reach, own, reach
from expunge_agent.core.guard import readable
from expunge_agent.devices.below import ELSEWHERE, Below, Entry, Narrowing, is_plain, reason
from expunge_agent.devices.file_facts import Users, closed_below, facts_of
from expunge_agent.devices.seen import mark_at, mark_of, seen_at, seen_of
from expunge_agent.devices.sharing import Sharers
from expunge_agent.devices.usage import Eyes
from expunge_agent.engine.buffers import MIB
from expunge_agent.engine.extents import parts as parts_of
from expunge_agent.files import explained
from expunge_agent.protocol.identity import TreeIdentity
from expunge_agent.protocol.receipt import Reason
from expunge_agent.techniques.files_attributes import attribute_bytes

BATCH_BYTES = 64 * MIB
"""A batch ends with the file that reaches this; a larger file is one by itself."""
GRAIN = 4096
"""Places in the stream are multiples of this, and of the file system's block."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS = {0o120000: "a symbolic link", 0o140000: "a socket", 0o010000: "a FIFO", 0o040000: "a directory"}


class Item(msgspec.Struct, frozen=True, array_like=True):
    """One line. ``batch`` −1: it is refused, for ``reason``. ``other``: no regular file, only unlinked.

    ``at``, ``length``: its bytes in the stream. ``parts`` None: the file system does not tell where it lies.
    ``room``: the size rounded up to what is overwritten. ``mark``: what tells it from another file with its inode
    number (`devices.seen`). ``folder``: a directory, in no batch either, to go once it is empty.
    """

    number: int
    path: bytes
    inode: int
    size: int
    room: int = 0
    at: int = 0
    length: int = 0
    batch: int = -1
    other: bool = False
    parts: list[Part] | None = None
    names: list[bytes] = []
    why: list[str] = []
    remedy: str = ""
    reason: str = ""
    mark: str = ""
    folder: bool = False

    @property
    def shown(self) -> str:
        """The path for people and documents."""
        return shown(self.path)

    def ranges(self) -> list[tuple[int, int]]:
        """(start, end) of its data, holes left out, up to the end of its last block."""
        if self.parts is None:
            return [(0, self.size)] if self.size else []
        if len(self.parts) == 1 and self.parts[0].end <= self.room:
            return [(self.parts[0].logical, self.parts[0].end)]
        found: list[tuple[int, int]] = []
        for part in own(self.parts, self.room):
            if found and found[-1][1] == part.logical:
                found[-1] = (found[-1][0], part.end)
            else:
                found.append((part.logical, part.end))
        return found


def shown(path: bytes) -> str:
    """A path as it may stand in a document."""
    return readable(path.decode("utf-8", "backslashreplace"), 2000)


@dataclass
class Totals:
    """Files and bytes found and refused, bytes of holes; the number of batches and of items."""

    files: int = 0
    bytes: int = 0
    refused: int = 0
    refused_bytes: int = 0
    batches: int = 0
    items: int = 0
    holes: int = 0
    data: int = 0


@dataclass
class Lister:
    """Goes through what is meant, and gives each an `Item`."""

    identity: TreeIdentity
    below: Below
    ground: Ground
    eyes: Eyes
    allow_exceptions: bool
    batch_files: int = 1000
    totals: Totals = field(default_factory=Totals)
    _at: int = 0
    _in_batch: int = 0
    _batch_bytes: int = 0

    def items(self) -> Iterator[Item]:
        """All of them; what has several names comes last, once."""
        users = Users.now(self.eyes)
        several: dict[int, list[str]] = {}  # paths only: a folder of backups has millions
        for entry in self._meant():
            if entry.is_file and entry.seen is not None and entry.seen.st_nlink > 1:
                several.setdefault(entry.seen.st_ino, []).append(entry.path)
            elif entry.is_file:
                yield self._file(entry, [], users)
            elif (item := self._other(entry)) is not None:
                yield item
        for inode, (first, *more) in several.items():
            entry = self.below.look(first)
            if entry.seen is not None and entry.is_file and entry.seen.st_ino == inode:
                yield self._file(entry, more, users)
            else:
                why = entry.error or "it was replaced while it was looked at"
                yield self._refuse(os.fsencode(first), inode, 0, Reach(False, (why,), "", Reason.IN_USE))

    def _meant(self) -> Iterator[Entry]:
        narrowing = Narrowing(self.identity)
        closed = closed_below(self.identity.path, self.eyes)
        if narrowing.names:
            for name in dict.fromkeys(narrowing.names):
                if not is_plain(name):
                    yield Entry(name, None, "no plain path below")
                else:
                    yield Entry(name, None, ELSEWHERE) if _passes(name, closed) else self.below.look(name)
            return
        for entry in self.below.walk(closed):
            if entry.is_folder or entry.elsewhere:
                if narrowing.everything:
                    yield replace(entry, elsewhere=entry.elsewhere or self.below.is_elsewhere(entry))
            elif narrowing.takes(entry.path) or (entry.seen is None and narrowing.everything):
                yield entry

    def _other(self, entry: Entry) -> Item | None:
        """What is no regular file: a name that goes, or is refused where it was named as a file. None where it went."""
        path = os.fsencode(entry.path)
        if entry.elsewhere:
            why = "another file system or subvolume begins here, which is not entered"
            number = entry.seen.st_ino if entry.seen is not None else 0
            return self._refuse(
                path, number, 0, Reach(False, (why,), "Name it by itself.", Reason.WRONG_KIND)
            )
        if entry.seen is None:
            return self._refuse(
                path,
                0,
                0,
                Reach(False, (f"it could not be looked at: {entry.error}",), "", Reason.NOT_PERMITTED),
            )
        what = _KINDS.get(entry.seen.st_mode & 0o170000, "a device node")
        if self.identity.names:
            why = f"it is {what}, not a regular file"
            reason = Reason.SYMBOLIC_LINK if what.endswith("link") else Reason.WRONG_KIND
            return self._refuse(
                path, entry.seen.st_ino, 0, Reach(False, (why,), "Name regular files only.", reason)
            )
        return self._name(entry, path, entry.seen)

    def _name(self, entry: Entry, path: bytes, seen: os.stat_result) -> Item | None:
        try:
            folder, name = self.below.place(entry.path)
            there = seen_at(folder, name)
        except OSError:
            there = None
        if there is None or (there.inode, there.mode) != (seen.st_ino, seen.st_mode):
            return None
        if entry.is_folder:
            return Item(-1, path, seen.st_ino, 0, other=True, mark=mark_at(there), folder=True)
        return self._item(path, seen.st_ino, 0, other=True, mark=mark_at(there))

    def _file(self, entry: Entry, more: list[str], users: Users) -> Item:
        path, seen = os.fsencode(entry.path), entry.seen
        if seen is None:
            raise AssertionError("a file that was not seen")
        try:
            parts, mark, answer = self._ask(entry, seen, 1 + len(more), users)
        except OSError as error:
            why = f"it could not be looked at: {reason(error)}"
            busy = error.errno == errno.EAGAIN
            answer = Reach(False, (why,), "", Reason.IN_USE if busy else Reason.NOT_PERMITTED)
            return self._refuse(path, seen.st_ino, seen.st_size, answer)
        if answer.ok and answer.why and not self.allow_exceptions:
            remedy = f"{answer.remedy} Or accept this with --allow-exceptions."
            answer = Reach(False, answer.why, remedy, Reason.NOT_REACHABLE)
        if not answer.ok:
            return self._refuse(path, seen.st_ino, seen.st_size, answer)
        names = [os.fsencode(one) for one in more]
        return self._item(path, seen.st_ino, seen.st_size, parts=parts, names=names, answer=answer, mark=mark)

    def _ask(
        self, entry: Entry, seen: os.stat_result, names: int, users: Users
    ) -> tuple[list[Part] | None, str, Reach]:
        folder, name = self.below.place(entry.path)
        fd = os.open(name, _READ, dir_fd=folder)
        try:
            now, there = os.fstat(fd), seen_of(fd)
            if not self.below.is_near(there) or (now.st_ino, now.st_dev, now.st_mode) != (
                seen.st_ino,
                self.below.device,
                seen.st_mode,
            ):
                why = "it was replaced while it was looked at, or something is mounted on it"
                return None, "", Reach(False, (why,), "Run it again.", Reason.IN_USE)
            parts = None if self.ground.memory else parts_of(fd)
            clipped = None if parts is None else own(parts, self._room(now.st_size))
            system = self._system_reason(entry.path)
            facts = facts_of(fd, now, clipped, names, system, users, self._sharers, self.eyes)
            facts = replace(facts, attributes=tuple(attribute_bytes(fd)))
            return clipped, mark_of(fd, there), reach(self.ground, facts)
        finally:
            os.close(fd)

    @cached_property
    def _sharers(self) -> Sharers:
        return Sharers(self.ground.filesystem)

    @cached_property
    def _near_system(self) -> bool:
        return self.eyes.system.reaches_into(self.identity.path)

    def _system_reason(self, path: str) -> str:
        """Why a file belongs to the system: the guard of the directory has looked at all that lies above it."""
        if not self._near_system:
            return ""
        return self.eyes.system.file_reason(f"{self.identity.path.rstrip('/')}/{path}")

    def _room(self, size: int) -> int:
        return -(-size // self.ground.block) * self.ground.block

    def _item(
        self,
        path: bytes,
        inode: int,
        size: int,
        *,
        parts: list[Part] | None = None,
        names: list[bytes] | None = None,
        answer: Reach = WHOLE,
        other: bool = False,
        mark: str = "",
    ) -> Item:
        room = size if parts is None else self._room(size)
        item = Item(
            number=self.totals.items,
            path=path,
            inode=inode,
            size=size,
            room=room,
            at=self._at,
            batch=self.totals.batches,
            other=other,
            parts=parts,
            names=names or [],
            why=list(answer.why),
            remedy=answer.remedy,
            mark=mark,
        )
        length = sum(end - start for start, end in item.ranges())
        self._count(size, other, length, max(0, room - length))
        return msgspec.structs.replace(item, length=length)

    def _count(self, size: int, other: bool, length: int, holes: int) -> None:
        """Take the item in, and begin another batch after it where this one is full."""
        totals = self.totals
        totals.items += 1
        totals.files += not other
        totals.bytes += size
        totals.data += length
        totals.holes += holes
        grain = max(GRAIN, self.ground.block)
        self._at += -(-length // grain) * grain
        self._in_batch += 1
        self._batch_bytes += length
        if self._in_batch >= self.batch_files or self._batch_bytes >= BATCH_BYTES:
            self.close_batch()

    def close_batch(self) -> None:
        """What comes next belongs to another batch; to be called once at the end too."""
        if self._in_batch:
            self.totals.batches += 1
            self._in_batch = self._batch_bytes = 0

    def _refuse(self, path: bytes, inode: int, size: int, answer: Reach) -> Item:
        number = self.totals.items
        self.totals.items += 1
        self.totals.files += 1
        self.totals.bytes += size
        self.totals.refused += 1
        self.totals.refused_bytes += size
        why, reason = list(answer.why), answer.reason.value
        return Item(number, path, inode, size, why=why, remedy=answer.remedy, reason=reason)


def _passes(path: str, closed: frozenset[str]) -> bool:
    """Whether the way to the relative `path`, or its end, is one of the mount points `closed`."""
    return path in closed or any(path.startswith(f"{one}/") for one in closed)


def write_list(items: Iterator[Item], path: Path, seen: Callable[[Item], None]) -> str:
    """Write the items to a new file at `path`, durable on return; SHA-256 of it. Each is shown to `seen`.

    Raises NoSpaceError where the disk is full.
    """
    encoder, digest = msgspec.json.Encoder(), hashlib.sha256()
    with explained(path):
        path.unlink(missing_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        lines = bytearray()
        for item in items:
            lines += encoder.encode(item) + b"\n"
            seen(item)
            if len(lines) >= MIB:
                _put(path, fd, lines, digest.update)
        _put(path, fd, lines, digest.update)
        with explained(path):
            os.fsync(fd)
    finally:
        os.close(fd)
    return digest.hexdigest()


def _put(path: Path, fd: int, lines: bytearray, count: Callable[[bytes], None]) -> None:
    """Write them, and take them out of `lines`."""
    data = bytes(lines)
    lines.clear()
    count(data)
    with explained(path):
        while data:
            data = data[os.write(fd, data) :]


def digest_of(path: Path) -> str:
    """SHA-256 of the file at `path`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_list(file: BinaryIO) -> Iterator[Item]:
    """The items of a list, one at a time."""
    decoder = msgspec.json.Decoder(Item)
    return (decoder.decode(line) for line in file)


def batches(items: Iterator[Item], done: int) -> Iterator[tuple[int, Sequence[Item]]]:
    """(number, items) of each batch from number `done` on; refused items are in none."""
    group: list[Item] = []
    for item in items:
        if item.batch < done:
            continue
        if group and group[0].batch != item.batch:
            yield group[0].batch, group
            group = []
        group.append(item)
    if group:
        yield group[0].batch, group
