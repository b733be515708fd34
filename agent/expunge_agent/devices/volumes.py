"""What a volume is made of, as sysfs tells it and, for the mapping's targets, as dmsetup does."""

from __future__ import annotations

from dataclasses import replace

from expunge_agent.core.guard import readable
from expunge_agent.core.volume import (
    Layout,
    Volume,
    is_lvm,
    lvm_name,
    lvm_part,
    lvm_suffix,
)
from expunge_agent.devices import describe, raid, stack
from expunge_agent.devices.nodes import Node, by_number, number_of_path, resolve
from expunge_agent.devices.process import run_tool
from expunge_agent.devices.roots import names, read_int, read_text
from expunge_agent.errors import ExpungeError
from expunge_agent.protocol.receipt_steps import MAX_MEMBERS, Member

_SECONDS = 10.0
_DEPTH = 16
_NO_DATA = {"spare", "faulty", "journal"}
_BY_DRIVER = {"zvol": Layout.ZVOL, "bcache": Layout.BCACHE}
_AT_WORK = ("resync", "recover", "reshape", "repair")


def volume_of(node: Node, *, ask: bool = False) -> Volume | None:
    """What `node` maps, from sysfs alone; None for a drive and for a loop device over a file. Nothing is opened.

    With `ask` dmsetup is asked too (root): for the targets of mappings, and the state of LVM's RAID volumes.
    """
    if node.is_partition:
        return _partition(node, ask)
    if raid.is_volume(node):
        return Volume(name=str(node.path), layout=Layout.CONTROLLER)
    if node.disk.backing_file and (under := slaves(node)):
        return Volume(
            name=str(node.path), layout=Layout.LINEAR, members=members(node), below=_volumes(under, ask)
        )
    if (node.folder / "md").is_dir():
        return _array(node, ask)
    if (node.folder / "dm").is_dir():
        found = _mapped(node, ask)
        return _asked(found, node) if ask and node.roots.live else found
    kept = _BY_DRIVER.get(node.driver)
    return Volume(name=str(node.path), layout=kept, members=members(node)) if kept else None


def volume_at(path: str) -> Volume | None:
    """The volume at `path` on this machine, dmsetup being asked too; None for a drive and a file."""
    node = by_number(number_of_path(path))
    return volume_of(node, ask=True) if node is not None else None


def slaves(node: Node) -> list[Node]:
    """The devices that `node` is directly built on; of a loop device the block device that it lies over."""
    folder = node.disk.folder / "slaves"
    if backing := node.disk.backing_file:
        under = by_number(number_of_path(backing, node.roots), node.roots)
        return [under] if under is not None else []
    found = (resolve(node.roots, folder / name) for name in names(folder))
    return [one for one in found if one is not None]


def members(node: Node, depth: int = 1) -> tuple[Member, ...]:
    """Everything that `node` is built on, nearest first in each branch, each device once."""
    found: dict[str, Member] = {}
    _collect(node, depth, found)
    return tuple(found.values())[:MAX_MEMBERS]


def leaves(node: Node, depth: int = 0) -> list[Node]:
    """The devices at the bottom of what `node` is built on: drives, partitions, loop devices."""
    below = slaves(node) if depth < _DEPTH else []
    return [leaf for one in below for leaf in leaves(one, depth + 1)] if below else [node]


def title(node: Node) -> str:
    """A device by path and by what it says of itself."""
    who = describe.identity(node)
    named = " ".join(part for part in (who.bus, who.model, who.serial or who.wwn) if part)
    return readable(f"{node.path} ({named})", 300)


def _collect(node: Node, depth: int, found: dict[str, Member]) -> None:
    for one in slaves(node):
        if one.number in found or depth > _DEPTH:
            continue
        found[one.number] = _member(one, depth)
        if one.is_partition and one.disk.number not in found:
            found[one.disk.number] = _member(one.disk, depth + 1)
        _collect(one, depth + (2 if one.is_partition else 1), found)


def _member(node: Node, depth: int) -> Member:
    who = describe.identity(node)
    return Member(
        path=str(node.path),
        kind=stack.kind(node),
        type=describe.medium_type(node.disk, who).value,
        identity=who,
        depth=depth,
    )


def _partition(node: Node, ask: bool) -> Volume:
    """A partition of a drive, or of a volume: then it is what that is, and less of it."""
    whole = node.disk
    below = (_member(whole, 1), *members(whole, 2))
    base = volume_of(whole, ask=ask)
    if base is None:
        return Volume(name=str(node.path), layout=Layout.PARTITION, members=below)
    return replace(base, name=str(node.path), members=below)


def _array(node: Node, ask: bool) -> Volume:
    """md(4) by Documentation/admin-guide/md.rst: level, degraded, sync_action, dev-*/state."""
    folder = node.folder / "md"
    level = read_text(folder / "level")
    states = {name: read_text(folder / name / "state") for name in names(folder) if name.startswith("dev-")}
    action = read_text(folder / "sync_action")
    return Volume(
        name=str(node.path),
        layout=Layout.CONTAINER if level == "container" else Layout.RAID,
        members=members(node),
        level=level,
        missing=max(read_int(folder / "degraded", 0), 0),
        left_out=tuple(
            f"{name.removeprefix('dev-')} ({state.replace(',', ', ')})"
            for name, state in states.items()
            if _NO_DATA & set(state.split(","))
        ),
        under_way=action if action in _AT_WORK else "",
        below=_below(node, ask),
    )


def _mapped(node: Node, ask: bool) -> Volume:
    name, uuid = read_text(node.folder / "dm/name"), read_text(node.folder / "dm/uuid")
    if is_lvm(uuid):
        return _logical(node, name, uuid, ask)
    return Volume(
        name=name or str(node.path),
        layout=Layout.CRYPT if uuid.startswith("CRYPT-") else Layout.LINEAR,
        members=members(node),
        below=_below(node, ask),
    )


def _logical(node: Node, name: str, uuid: str, ask: bool) -> Volume:
    """A logical volume by the names of the inner devices it stands on."""
    parsed = lvm_name(name)
    parts = {_part(one): one for one in slaves(node)}
    layout = _layout(name, uuid, frozenset(parts))
    snapshots: list[str] = []
    if layout is Layout.ORIGIN:
        others = [one for one in parts["real"].holders if one != node]
        snapshots = [_title(one) for one in others if "cow" in map(_part, slaves(one))]
    return Volume(
        name=parsed.title if parsed else name,
        layout=layout,
        members=members(node),
        snapshots=tuple(snapshots),
        below=_below(node, ask),
        group=parsed.group if parsed else "",
    )


def _below(node: Node, ask: bool) -> tuple[Volume, ...]:
    """The volumes that `node` lies on, those between which LVM keeps for itself passed over."""
    return _volumes(slaves(node), ask)


def _volumes(nodes: list[Node], ask: bool) -> tuple[Volume, ...]:
    found: dict[str, Volume] = {}
    for one in nodes:
        volume = volume_of(one, ask=ask)
        if volume is not None:
            inner = volume.layout in (Layout.INNER, Layout.THIN_POOL)
            found.update({each.name: each for each in (volume.below if inner else (volume,))})
    return tuple(found.values())


def _asked(volume: Volume, node: Node) -> Volume:
    """`volume` with what dmsetup says (Documentation/admin-guide/device-mapper/dm-raid.rst: health, sync action)."""
    lines = _status(node)
    raids = [line for line in lines if line[2] == "raid"]
    if not lines or any(len(line) < 8 for line in raids):
        return replace(volume, unasked=True)
    health = "".join(line[5] for line in raids)
    busy = [line[7] for line in raids if line[7] not in ("idle", "check", "frozen")]
    return replace(
        volume,
        targets=tuple(dict.fromkeys(line[2] for line in lines)),
        missing=volume.missing + health.count("D"),
        under_way=", ".join(busy) or ("resync" if "a" in health else ""),
    )


def _layout(name: str, uuid: str, parts: frozenset[str]) -> Layout:
    kinds = {part.partition("_")[0].rstrip("0123456789") for part in parts}
    if lvm_suffix(uuid) == "pool" or lvm_part(name, uuid) == "tpool":
        return Layout.THIN_POOL
    if lvm_part(name, uuid):
        return Layout.INNER
    if "tpool" in parts:
        return Layout.THIN
    if "real" in parts:
        return Layout.SNAPSHOT if "cow" in parts else Layout.ORIGIN
    if "pvmove" in kinds:
        return Layout.MOVING
    if kinds & {"cdata", "cmeta", "cvol", "cpool", "corig", "wcorig"}:
        return Layout.CACHE
    if kinds & {"vpool", "vdata"}:
        return Layout.VDO
    return Layout.RAID if kinds & {"rimage", "mimage"} else Layout.LINEAR


def _part(node: Node) -> str:
    return lvm_part(read_text(node.folder / "dm/name"), read_text(node.folder / "dm/uuid"))


def _title(node: Node) -> str:
    parsed = lvm_name(read_text(node.folder / "dm/name"))
    return parsed.title if parsed else node.name


def _status(node: Node) -> list[list[str]]:
    """``dmsetup status``: start, length, target and what it says, for each line; none where it does not answer."""
    major, _, minor = node.number.partition(":")
    try:
        result = run_tool(["dmsetup", "status", "--major", major, "--minor", minor], _SECONDS)
    except ExpungeError:
        return []
    if result.timed_out or result.returncode != 0:
        return []
    lines = (line.split() for line in result.stdout.decode("ascii", "replace").splitlines())
    return [line for line in lines if len(line) >= 3 and line[0].isdigit()]
