"""Everything on this machine that could be wiped: what it is, what it answers, who uses it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from expunge_agent.core.drive import Drive
from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.medium import Found
from expunge_agent.core.stack import Layer
from expunge_agent.devices import describe, drives, multipath, raid
from expunge_agent.devices.encrypted import with_encryption
from expunge_agent.devices.look import look, look_at_node
from expunge_agent.devices.nodes import Node, by_number
from expunge_agent.devices.roots import LIVE, Roots
from expunge_agent.devices.sectors import addressable
from expunge_agent.devices.stack import stack
from expunge_agent.devices.usage import Eyes
from expunge_agent.devices.volumes import slaves

PATIENCE = 5.0
"""Seconds that each drive has to answer."""


@dataclass(frozen=True)
class Entry:
    """One medium. ``paths``: all of them, where there are several, or what a multipath map leads to; ``map``: the map that
    holds them, where one is assembled; ``members``: see `raid.members`.

    ``drive`` and ``layers`` are None for a file and where nothing is. ``silent`` says what did not answer.
    """

    found: Found
    paths: tuple[str, ...] = ()
    map: str = ""
    drive: Drive | None = None
    layers: Layer | None = None
    members: tuple[str, ...] = ()
    silent: str = ""


def inventory(
    extra_paths: Sequence[str | os.PathLike[str]] = (),
    roots: Roots = LIVE,
    system: SystemPaths | None = None,
) -> list[Found]:
    """Every medium in it, then each of `extra_paths` that is none of these, in that order, without asking the drives.

    Left out: devices of size 0 (unattached loop devices, empty readers and zram), RAM disks of the
    kernel (brd), hidden paths of an NVMe multipath and all but the first path of other multipath
    disks. What of this may be wiped is the guard's question, not this one's: the system's own disk
    is in the list too.
    """
    eyes = Eyes.open(roots, system)
    seen = _disks(eyes)
    for path in extra_paths:
        found = look(path, eyes=eyes)
        _name(seen, _node_at(found.usage.path, roots), found, eyes)
    return [found for _node, found in seen]


def survey(
    extra_paths: Sequence[str | os.PathLike[str]] = (),
    roots: Roots = LIVE,
    system: SystemPaths | None = None,
    patience: float = PATIENCE,
) -> list[Entry]:
    """`inventory` with what the drives answer, all asked at once, and the stack above each."""
    eyes = Eyes.open(roots, system)
    seen = _disks(eyes)
    for path in extra_paths:
        found = look(path, eyes=eyes)
        if (
            found.medium is not None and roots.live
        ):  # only what was named is read; a poor drive might not come back
            found = found._replace(medium=with_encryption(found.medium, patience))
        _name(seen, _node_at(found.usage.path, roots), found, eyes)
    nodes = [node for node, _found in seen if node is not None]
    answers = examine_all([node.disk for node in nodes], patience)
    return [_entry(node, found, eyes, answers, patience) for node, found in seen]


def examine_all(disks: Sequence[Node], patience: float = PATIENCE) -> dict[str, Drive]:
    """What each disk answers within `patience` seconds, by ``major:minor``; the silent ones are missing.

    A drive may hang its thread in the kernel for minutes: the threads are left behind, and do not keep
    the process from ending.
    """
    answers: dict[str, Drive] = {}
    threads = []
    for disk in dict.fromkeys(disks):
        if _is_quick(disk):
            answers[disk.number] = drives.examine_node(disk)
            continue
        thread = threading.Thread(
            target=_examine_into, args=(answers, disk), name=f"examine-{disk.name}", daemon=True
        )
        thread.start()
        threads.append(thread)
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return dict(answers)


def _examine_into(answers: dict[str, Drive], disk: Node) -> None:
    """One drive's answers; an answer nobody foresaw must not hide the other drives."""
    try:
        answers[disk.number] = drives.examine_node(disk)
    except Exception as error:  # noqa: BLE001
        known = drives.as_the_kernel_sees_it(disk, describe.medium(disk))
        why = f"its answers could not be read ({type(error).__name__}: {error}); this is the kernel's account"
        answers[disk.number] = msgspec.structs.replace(known, doubtful=[why])


def _is_quick(disk: Node) -> bool:
    """Whether nothing is opened for it, so that a thread would only cost time."""
    return drives.spoken(disk, describe.bus(disk)) == "none"


def _disks(eyes: Eyes) -> list[tuple[Node | None, Found]]:
    """Every medium once, by its first path."""
    found: list[tuple[Node | None, Found]] = []
    shown: set[str] = set()
    for disk in eyes.disks:
        if disk.driver == "ramdisk" or disk.number in shown:
            continue
        shown.update(path.number for path in eyes.paths.get(disk.number, ()))
        if disk.size > 0 or disk.driver == "sd":
            seen = look_at_node(disk, eyes)
            if disk.size > 0 or _has_odd_sectors(seen):
                found.append((disk, seen))
    return found


def _name(seen: list[tuple[Node | None, Found]], node: Node | None, found: Found, eyes: Eyes) -> None:
    """Put what was `found` at a named path into the list: in the place of the same medium, at the end where it is new."""
    whole = node if node is not None and not node.is_partition else None
    ways = {path.number for path in eyes.paths.get(whole.number, (whole,))} if whole is not None else set()
    for place, (listed, one) in enumerate(seen):
        if one.usage.path == found.usage.path or (listed is not None and listed.number in ways):
            seen[place] = (node, found)
            return
    seen.append((node, found))


def _has_odd_sectors(found: Found) -> bool:
    return (
        found.medium is not None
        and found.medium.logical_sector > 0
        and not addressable(found.medium.logical_sector)
    )


def _node_at(path: str, roots: Roots) -> Node | None:
    try:
        seen = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - may hold surrogates
    except (OSError, ValueError):
        return None
    return by_number(f"{os.major(seen.st_rdev)}:{os.minor(seen.st_rdev)}", roots) if seen.st_rdev else None


def _entry(node: Node | None, found: Found, eyes: Eyes, answers: dict[str, Drive], patience: float) -> Entry:
    if node is None or found.medium is None:
        return Entry(found)
    drive = answers.get(node.disk.number)
    silent = "" if drive else f"the drive did not answer within {patience:.0f} seconds"
    paths = eyes.paths.get(node.disk.number, ())
    above = multipath.map_over(paths or [node.disk])
    return Entry(
        found=found,
        paths=tuple(str(path.path) for path in (slaves(node) if multipath.is_map(node) else paths)),
        map=str(above.path) if above is not None else "",
        drive=drive or drives.as_the_kernel_sees_it(node.disk, describe.medium(node.disk)),
        layers=stack(node, eyes),
        members=tuple(raid.members(node)),
        silent=silent,
    )
