"""Which other processes have a file or a device open."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expunge_agent.devices.roots import LIVE, Roots, names, read_bytes, read_text

Match = Callable[[os.stat_result], bool]


@dataclass(frozen=True)
class Openers:
    """``processes``: "<pid> <name>" each; ``unseen``: processes that this user may not look into."""

    processes: tuple[str, ...]
    unseen: int


def of_file(seen: os.stat_result, roots: Roots = LIVE) -> Openers:
    """The processes, other than this one, that have this file open or mapped."""

    def same(other: os.stat_result) -> bool:
        return (other.st_dev, other.st_ino) == (seen.st_dev, seen.st_ino) and stat.S_ISREG(other.st_mode)

    return _scan(roots, same, inode=seen.st_ino)


def of_devices(numbers: frozenset[str], roots: Roots = LIVE) -> Openers:
    """The processes, other than this one, that have a block device of these ``major:minor`` open."""

    def same(other: os.stat_result) -> bool:
        number = f"{os.major(other.st_rdev)}:{os.minor(other.st_rdev)}"
        return stat.S_ISBLK(other.st_mode) and number in numbers

    return _scan(roots, same, inode=0)


def _scan(roots: Roots, same: Match, inode: int) -> Openers:
    found, unseen = [], 0
    for pid in names(roots.proc):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        folder = roots.proc / pid
        try:
            held = _has_open(folder, same) or (inode > 0 and _has_mapped(folder, same, inode))
        except PermissionError:
            unseen += 1
            continue
        except OSError:
            continue  # it has just ended
        if held:
            found.append(f"{pid} {read_text(folder / 'comm') or '?'}")
    return Openers(processes=tuple(found), unseen=unseen)


def _has_open(folder: Path, same: Match) -> bool:
    return any(_is(folder / "fd" / name, same) for name in os.listdir(folder / "fd"))  # noqa: PTH208


def _has_mapped(folder: Path, same: Match, inode: int) -> bool:
    """Whether the file is mapped though its descriptor is closed (proc_pid_maps(5), field 5 is the inode)."""
    wanted = str(inode).encode()
    for line in read_bytes(folder / "maps").split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) >= 5 and fields[4] == wanted and _is(folder / "map_files" / _range(fields[0]), same):
            return True
    return False


def _range(field: bytes) -> str:
    """maps pads addresses with zeros, the names in map_files do not."""
    start, _, end = field.decode("ascii", "replace").partition("-")
    return f"{start.lstrip('0') or '0'}-{end.lstrip('0') or '0'}"


def _is(link: Path, same: Match) -> bool:
    try:
        return same(link.stat())
    except OSError:
        return False
