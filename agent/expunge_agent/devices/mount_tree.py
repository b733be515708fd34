"""How mounts lie on each other: what hides a mount, and which mounts go with it when it is unmounted.

Path lookup goes to whatever was mounted on a place last, so that umount(8) by name takes that down. An unmount
travels to where its parent mount is shared (mount_namespaces(7); Documentation/filesystems/sharedsubtree.rst §5d).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from posixpath import join, relpath

from expunge_agent.devices.mounts import Mount, Mounts, all_mounts, mounts_of_devices
from expunge_agent.devices.roots import Roots, read_bytes

FIRST = "1"
"""The process whose mount namespace is the machine's own."""


def hiding(mount: Mount, mounts: Sequence[Mount]) -> list[Mount]:
    """The mounts of its namespace that lie on `mount`, or on a place on the way to it: its name leads to them."""
    beside = [
        one
        for one in mounts
        if one.namespace == mount.namespace and one.mount_id not in (mount.mount_id, one.parent)
    ]  # the first of all is its own parent
    by_id = {one.mount_id: one for one in beside}
    found = [one for one in beside if one.parent == mount.mount_id and one.point == mount.point]
    at: Mount | None = mount
    passed = {mount.mount_id}
    while at is not None:
        found += [one for one in beside if one.parent == at.parent and one is not at and _covers(one, at)]
        at = by_id.get(at.parent)
        if at is None or at.mount_id in passed:
            break
        passed.add(at.mount_id)
    return found


def acting(seen: Mounts) -> list[Mount]:
    """The mounts among which umount is run: the machine's own, where this process has a namespace of its own."""
    every = [*seen.mounts, *seen.copies]
    own = {one.mount_id for one in seen.mounts if not one.namespace}
    first = [one for one in every if one.namespace == FIRST]
    return (
        first
        if any(one.mount_id not in own for one in first)
        else [one for one in every if not one.namespace]
    )


def astray(mount: Mount, gone: Sequence[Mount], seen: Mounts) -> bool:
    """Whether `mount` stays when all of `gone` are unmounted, which stand on the same device."""
    every = {(one.namespace, one.mount_id): one for one in (*seen.mounts, *seen.copies)}
    if any(one.mount_id == mount.mount_id for one in gone):
        return False
    above = every.get((mount.namespace, mount.parent))
    if above is None:
        return True
    for one in gone:
        parent = every.get((one.namespace, one.parent))
        if parent is None or (one.number, _place(one, parent)) != (mount.number, _place(mount, above)):
            continue
        reached = _reached(parent, seen)
        if reached & {above.shared, above.master} - {""}:
            return False
    return True


def topmost(point: str, numbers: frozenset[str], roots: Roots) -> str:
    """What is wrong with unmounting `point` to take down a file system on one of `numbers`; empty if nothing is."""
    mounts = acting(all_mounts(roots))
    meant = {one.mount_id for one in mounts_of_devices(mounts, numbers, roots) if one.point == point}
    tops = [one for one in mounts if one.point == point and not hiding(one, mounts)]
    if len(tops) == 1 and tops[0].mount_id in meant:
        return ""
    return "another file system is mounted over it by now" if meant else "it is not mounted there any more"


def device_of(mount: Mount, roots: Roots) -> str:
    """The device number that files of `mount` have (on btrfs not its own); empty where its name leads elsewhere."""
    try:
        fd = os.open(mount.point, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        said = re.search(rb"^mnt_id:\s*(\d+)$", read_bytes(roots.proc / f"self/fdinfo/{fd}"), re.MULTILINE)
        device = os.fstat(fd).st_dev
    finally:
        os.close(fd)
    if said is None or said[1].decode() != mount.mount_id:
        return ""
    return f"{os.major(device)}:{os.minor(device)}"


def _covers(one: Mount, other: Mount) -> bool:
    return one.point == other.point or other.point.startswith(one.point.rstrip("/") + "/")


def _place(mount: Mount, parent: Mount) -> str:
    """Where `mount` is mounted, as a path in the file system of `parent`."""
    return f"{parent.number} {join(parent.root, relpath(mount.point, parent.point))}"


def _reached(parent: Mount, seen: Mounts) -> set[str]:
    """The peer groups to which an unmount on `parent` travels."""
    reached = {parent.shared} - {""}
    slaves = [one for one in (*seen.mounts, *seen.copies) if one.master]
    while more := {one.shared for one in slaves if one.master in reached} - reached - {""}:
        reached |= more
    return reached
