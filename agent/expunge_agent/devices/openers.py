"""Which other processes have a file or a device open."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from expunge_agent.devices.roots import LIVE, Roots, names, read_bytes, read_text
from expunge_agent.devices.seen import seen_as_known


@dataclass(frozen=True)
class Openers:
    """``processes``: "<pid> <name>" each; ``unseen``: processes that this user may not look into."""

    processes: tuple[str, ...]
    unseen: int


@dataclass(frozen=True)
class _Open:
    """Process ids by what they have open: files by (st_dev, st_ino), block devices by ``major:minor``."""

    files: Mapping[tuple[int, int], set[str]]
    devices: Mapping[str, set[str]]
    unseen: int


@dataclass(frozen=True)
class Index:
    """What the processes other than this one have open: one walk through /proc for any number of questions.

    It is taken at the first question and never anew: who opens something later is seen by another one.
    """

    roots: Roots = LIVE

    def of_file(self, seen: os.stat_result) -> Openers:
        """The processes that have this file open or mapped."""
        held = self._open.files.get((seen.st_dev, seen.st_ino), set())
        mapped = self._mapped.get(b"%d" % seen.st_ino, set())
        if not held and not mapped:
            return Openers(processes=(), unseen=self._open.unseen)
        return self._named(held | {pid for pid in mapped - held if _has_mapped(self.roots.proc / pid, seen)})

    def of_devices(self, numbers: Iterable[str]) -> Openers:
        """The processes that have a block device of these ``major:minor`` open."""
        return self._named(set().union(*(self._open.devices.get(number, ()) for number in numbers)))

    def _named(self, pids: set[str]) -> Openers:
        titles = (f"{pid} {read_text(self.roots.proc / pid / 'comm') or '?'}" for pid in sorted(pids))
        return Openers(processes=tuple(titles), unseen=self._open.unseen)

    @cached_property
    def _open(self) -> _Open:
        files: dict[tuple[int, int], set[str]] = {}
        devices: dict[str, set[str]] = {}
        unseen = 0
        for pid in self._others():
            folder = f"{self.roots.proc}/{pid}/fd"  # a Path for each of thousands would double the time
            try:
                descriptors = os.listdir(folder)  # noqa: PTH208
            except PermissionError:
                unseen += 1
                continue
            except OSError:
                continue  # it has just ended
            for descriptor in descriptors:
                try:
                    seen = seen_as_known(f"{folder}/{descriptor}")
                except OSError:
                    continue
                if stat.S_ISREG(seen.mode):
                    files.setdefault((seen.device, seen.inode), set()).add(pid)
                elif stat.S_ISBLK(seen.mode):
                    number = f"{os.major(seen.node)}:{os.minor(seen.node)}"
                    devices.setdefault(number, set()).add(pid)
        return _Open(files, devices, unseen)

    @cached_property
    def _mapped(self) -> Mapping[bytes, set[str]]:
        """Process ids by the inode numbers, of whatever file system, in their maps."""
        found: dict[bytes, set[str]] = {}
        for pid in self._others():
            for inode in {line[4] for line in _maps(f"{self.roots.proc}/{pid}")}:
                found.setdefault(inode, set()).add(pid)
        return found

    def _others(self) -> list[str]:
        own = str(os.getpid())
        return [pid for pid in names(self.roots.proc) if pid.isdigit() and pid != own]


def _maps(folder: str | Path) -> list[list[bytes]]:
    """The lines of a process's maps, in fields (proc_pid_maps(5)): the first is the range, the fifth the inode."""
    lines = (line.split(None, 5) for line in read_bytes(f"{folder}/maps").split(b"\n"))
    return [fields for fields in lines if len(fields) >= 5]


def _has_mapped(folder: Path, seen: os.stat_result) -> bool:
    """Whether the file is mapped, be its descriptor closed; its device is asked of the mapping itself."""
    wanted = b"%d" % seen.st_ino
    return any(
        fields[4] == wanted and _is(folder / "map_files" / _range(fields[0]), seen)
        for fields in _maps(folder)
    )


def _range(field: bytes) -> str:
    """maps pads addresses with zeros, the names in map_files do not."""
    start, _, end = field.decode("ascii", "replace").partition("-")
    return f"{start.lstrip('0') or '0'}-{end.lstrip('0') or '0'}"


def _is(link: Path, seen: os.stat_result) -> bool:
    try:
        other = seen_as_known(str(link))
    except OSError:
        return False
    return stat.S_ISREG(other.mode) and (other.device, other.inode) == (seen.st_dev, seen.st_ino)
