"""Looking at one path, and finding a target again: nothing is opened for writing, nothing is followed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from expunge_agent.core.guard import SystemPaths, readable
from expunge_agent.core.medium import Found, Kind, Medium, MediumType, Usage
from expunge_agent.devices import describe, host, mounts, multipath, sectors, usage
from expunge_agent.devices.nodes import Node, all_disks, by_number
from expunge_agent.devices.paths import Walked, walk
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.roots import LIVE, Roots
from expunge_agent.devices.usage import Eyes
from expunge_agent.devices.volumes import volume_of
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import (
    BlockIdentity,
    FileIdentity,
    Identity,
    TreeIdentity,
    differences,
    is_identifying,
)
from expunge_agent.protocol.receipt import Reason, Refusal

_COPY_ON_WRITE = ("btrfs", "zfs", "bcachefs", "nilfs2", "f2fs")
"""File systems that write changed data elsewhere, or may."""


def look(
    path: str | os.PathLike[str],
    roots: Roots = LIVE,
    system: SystemPaths | None = None,
    eyes: Eyes | None = None,
    narrow: TreeIdentity | None = None,
) -> Found:
    """What stands at `path` and who uses it; medium None where it is no file and no block device.

    `eyes` (which bring their own roots and system) are for several looks in one moment, as for a plan;
    without them everything is looked at anew. `narrow` tells which files of a directory are meant. Never raises for what a user may get wrong: `core.guard`
    turns it into a refusal.
    """
    eyes = eyes or Eyes.open(roots, system)
    walked = walk(path)
    if walked.kind is Kind.FILE and walked.seen is not None:
        return Found(_file_medium(walked, walked.seen, eyes), usage.of_file(walked, walked.seen, eyes))
    if walked.kind is Kind.DIRECTORY and walked.seen is not None:
        return Found(_tree_medium(walked, walked.seen, eyes, narrow), _tree_usage(walked, eyes))
    if walked.kind is Kind.BLOCK and walked.seen is not None:
        device = walked.seen.st_rdev
        node = by_number(f"{os.major(device)}:{os.minor(device)}", eyes.roots)
        if node is not None:
            found = usage.of_block(node, walked.path, eyes)
            medium = _described(node, walked.path)
            return Found(medium, _with_links(found, walked))
    kind = Kind.MISSING if walked.kind is Kind.BLOCK else walked.kind
    return Found(None, _with_links(Usage(path=walked.path, kind=kind), walked))


def find(identity: Identity, hint: str, roots: Roots = LIVE) -> str | None:
    """Where the target with `identity` is on this machine now, or None when it is not there.

    A file is only looked for at its own path. A block device is looked for among all of them, so
    that a drive which got another name is found; if none is the one, whatever block device stands
    at `hint` is returned, for the guard to say in what it differs. Of several paths to one disk the
    one at `hint` is returned, else the first. Raises TargetRefused when several devices answer to the
    identity: it does not tell which is meant.
    """
    if isinstance(identity, FileIdentity | TreeIdentity):
        return identity.path if os.path.lexists(identity.path) else None
    nodes = {str(node.path): node for node in _disks_and_partitions(roots)}
    candidates = [(path, describe.identity(node)) for path, node in nodes.items()]
    exact = [path for path, seen in candidates if not differences(identity, seen)]
    if len(exact) > 1 and _are_paths([nodes[path] for path in exact], roots):
        return hint if hint in exact else exact[0]
    if len(exact) > 1:
        raise TargetRefused(
            Refusal(
                reason=Reason.NO_IDENTITY,
                detail=f"{readable(', '.join(sorted(exact)))} all answer to the identity ordered.",
                remedy="Detach all but the one that is meant. Nothing shows that they are paths of one disk.",
            )
        )
    if exact:
        return exact[0]
    same_unit = [path for path, seen in candidates if _same_unit(identity, seen)]
    if len(same_unit) == 1:
        return same_unit[0]
    walked = walk(hint) if hint else None
    return walked.path if walked is not None and walked.kind is Kind.BLOCK else None


def look_at_node(node: Node, eyes: Eyes) -> Found:
    """The same for a device of sysfs, whose path is the one the kernel gives it."""
    return Found(_described(node, str(node.path)), usage.of_block(node, str(node.path), eyes))


def file_identity(path: str, seen: os.stat_result, roots: Roots = LIVE) -> FileIdentity:
    """Who the file at the absolute `path` is, as stat(2) numbers it."""
    device = f"{os.major(seen.st_dev)}:{os.minor(seen.st_dev)}"
    return FileIdentity(
        path=path, device=device, inode=U64(seen.st_ino), size=U64(seen.st_size), host=host.machine_id(roots)
    )


def tree_identity(
    path: str, seen: os.stat_result, narrow: TreeIdentity | None = None, roots: Roots = LIVE
) -> TreeIdentity:
    """The files below the directory at the absolute `path`: all, or those that `narrow` names."""
    return TreeIdentity(
        path=path,
        device=f"{os.major(seen.st_dev)}:{os.minor(seen.st_dev)}",
        inode=U64(seen.st_ino),
        host=host.machine_id(roots),
        names=narrow.names if narrow else [],
        include=narrow.include if narrow else [],
    )


def _tree_medium(walked: Walked, seen: os.stat_result, eyes: Eyes, narrow: TreeIdentity | None) -> Medium:
    who = tree_identity(walked.path, seen, narrow, eyes.roots)
    mount = mounts.mount_holding(eyes.mounts.mounts, walked.path, eyes.roots)
    notes = (f"files below a directory on {mount.fstype}",) if mount else ()
    return Medium(path=walked.path, identity=who, type=MediumType.FILE, notes=notes)


def _tree_usage(walked: Walked, eyes: Eyes) -> Usage:
    """Of the directory itself; its files are asked about one by one."""
    read_only = bool(os.statvfs(walked.path).f_flag & os.ST_RDONLY)
    return Usage(
        path=walked.path,
        kind=Kind.DIRECTORY,
        symlinks=walked.symlinks,
        real_path=walked.real_path,
        read_only="its file system is mounted read-only" if read_only else "",
        writable=os.access(walked.path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True),
        system=eyes.system.tree_reason(walked.path),
    )


def _file_medium(walked: Walked, seen: os.stat_result, eyes: Eyes) -> Medium:
    who = file_identity(walked.path, seen, eyes.roots)
    mount = mounts.mount_holding(eyes.mounts.mounts, walked.path, eyes.roots)
    notes = [f"a file on {mount.fstype}"] if mount else []
    if mount and mount.fstype in _COPY_ON_WRITE:
        notes.append("this file system may write elsewhere than where the old data lies")
    if seen.st_blocks * 512 < seen.st_size:
        notes.append("a sparse file: it has holes that hold no data")
    return Medium(path=walked.path, identity=who, type=MediumType.FILE, notes=tuple(notes))


def _described(node: Node, path: str) -> Medium:
    found = replace(describe.medium(node, path), volume=volume_of(node))
    return sectors.with_true_sector(found, node)


def _with_links(found: Usage, walked: Walked) -> Usage:
    return replace(found, symlinks=walked.symlinks, real_path=walked.real_path)


def _are_paths(nodes: list[Node], roots: Roots) -> bool:
    """Whether all of `nodes` are paths to one disk, or to the same partition of it."""
    paths = multipath.groups(all_disks(roots)).get(nodes[0].disk.number, ())
    return all(node.disk in paths for node in nodes)


def _same_unit(ordered: Identity, seen: BlockIdentity) -> bool:
    """Whether `seen` answers to the ordered names, though something else (its size) differs."""
    if not isinstance(ordered, BlockIdentity) or not is_identifying(ordered):
        return False
    return (ordered.serial, ordered.wwn, ordered.instance) == (seen.serial, seen.wwn, seen.instance)


def _disks_and_partitions(roots: Roots) -> Iterable[Node]:
    for disk in all_disks(roots):
        yield disk
        yield from disk.partitions
