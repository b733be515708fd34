"""How far the filling of free space has come, folded from the journal."""

from __future__ import annotations

from dataclasses import dataclass

from expunge_agent.core.entry import Entry
from expunge_agent.core.space import Space
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_space import FreeSpace, Left, Rest, Taken

KINDS = (
    "space-measured",
    "space-folder",
    "space-made",
    "space-spare",
    "space-filled",
    "space-peak",
    "space-removing",
    "space-removed",
    "space-kept",
    "space-trimmed",
)


class Folder(Frozen, frozen=True):
    """The hidden folder: where, by which name, journalled before it is made; who it is, once it is there."""

    path: Text
    name: Name
    device: U64 = U64(0)
    inode: U64 = U64(0)


class Part(Frozen, frozen=True):
    """One filling file: its name in the folder, inode and bytes."""

    name: Name
    inode: U64
    size: U64


class Filling(Frozen, frozen=True):
    """What was taken before the first pass. ``ended``: full, reserve or quota."""

    parts: list[Part]
    ended: Name
    names: U64
    taken: Taken
    missed: U64 = U64(0)
    """Free inodes that were not made anew, for want of room or time."""

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(int(part.size) for part in self.parts)


class Start(Frozen, frozen=True):
    """The file system before anything was made on it. ``inline``: inodes hold the contents of small files."""

    filesystem: Name
    options: Text
    size: U64
    free: U64
    reserve: U64
    reserve_why: Text
    not_reached: list[Text]
    doubts: list[Text]
    inline: bool


class Peak(Frozen, frozen=True):
    """When it was as full as it got: ``moved`` says that the filling files no longer lay where they did."""

    left: Left
    rest: Rest | None
    names: U64
    inodes_left: int
    moved: bool


@dataclass
class SpaceProgress:
    """One target's filling. ``begun``: something was once made on the file system. ``spare``: the file system's own reserve as it was before it was set to nothing."""

    start: Start | None = None
    folder: Folder | None = None
    begun: bool = False
    filling: Filling | None = None
    spare: int | None = None
    peak: Peak | None = None
    removing: bool = False
    cleaned_up: bool = True
    cleaning: str = ""
    trimmed: U64 | None = None
    trim: str = ""

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        kind, data = record.kind, record.data
        if kind == "space-measured":
            self.start = canonical.convert(data["start"], Start)
        elif kind in ("space-folder", "space-made"):
            self.folder = canonical.convert(data["folder"], Folder)
            self.begun, self.cleaned_up = True, False
        elif kind == "space-spare":
            self.spare = int(data["spare"])
        elif kind == "space-filled":
            self.filling = canonical.convert(data["filling"], Filling)
        elif kind == "space-peak":
            self.peak = canonical.convert(data["peak"], Peak)
        elif kind == "space-removing":
            self.removing = True
        elif kind == "space-removed":
            self.folder, self.spare = None, None
            self.cleaned_up, self.cleaning = True, ""
        elif kind == "space-kept":
            self.cleaned_up, self.cleaning = False, data["why"]
        else:
            self.trimmed = U64(data["bytes"]) if data["bytes"] else None
            self.trim = data["told"]

    def anew(self) -> None:
        """Forget what was filled: its files are gone."""
        self.folder = self.filling = self.peak = None
        self.removing = False

    def result(self) -> FreeSpace | None:
        """The receipt's block, None where it did not come to a look at the file system."""
        start, filling, peak = self.start, self.filling, self.peak
        if start is None:
            return None
        names = (peak.names if peak else U64(0)) + (filling.names if filling else U64(0))
        return FreeSpace(
            filesystem=start.filesystem,
            options=start.options,
            size=start.size,
            free_before=start.free,
            reserve=start.reserve,
            reserve_why=start.reserve_why,
            ended=filling.ended if filling and peak else "broken-off",  # type: ignore[arg-type]
            filled=U64(filling.size) if filling else None,
            taken=filling.taken if filling else None,
            rest=peak.rest if peak else None,
            left=peak.left if peak else None,
            names=U64(names),
            inodes_left=peak.inodes_left if peak else -1,
            moved=peak.moved if peak else False,
            cleaned_up=self.cleaned_up,
            cleaning=self.cleaning,
            trimmed=self.trimmed,
            trim=self.trim,
            not_reached=start.not_reached,
        )


def start_of(space: Space, reserve: int, why: str, not_reached: list[str], doubts: list[str]) -> Start:
    """What is journalled of `space` before anything is made on it."""
    return Start(
        filesystem=space.identity.filesystem,
        options=space.options[:4000],
        size=U64(space.size),
        free=U64(space.free),
        reserve=U64(reserve),
        reserve_why=why,
        not_reached=not_reached,
        doubts=doubts,
        inline="inline_data" in space.features,
    )
