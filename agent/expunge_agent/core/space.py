"""The rules of filling a file system's free space: where it may be done, how much is left, what it cannot reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge_agent.core.guard import SystemPaths, listing, readable
from expunge_agent.core.medium import MediumType
from expunge_agent.protocol.identity import SpaceIdentity, SpaceWish, differences
from expunge_agent.protocol.receipt import MediumFacts, Reason, Refusal

MIB = 1024 * 1024
LEAST_RESERVE = 64 * MIB
STATE_RESERVE = 16 * MIB
"""Bytes left where the journal lies on the very file system: it has to be written to the end."""
SYSTEM_RESERVE = 512 * MIB
"""Bytes that have to be left, or 5 % if that is more, where the running system stands on it."""
SUPPORTED = ("ext4", "xfs", "btrfs")
FOLDER_PREFIX = ".expunge-free-space-"

_INSTEAD = {
    "nfs": "Run the agent on the server that has the disk.",
    "nfs4": "Run the agent on the server that has the disk.",
    "cifs": "Run the agent on the server that has the disk.",
    "tmpfs": "Its pages are memory: unmount it, and wipe the swap areas that may hold some.",
    "ramfs": "Its pages are memory: unmount it.",
    "overlay": "Name the file system that its upper folder lies on.",
    "zfs": "Destroy the data set's key, or wipe the pool's devices.",
    "bcachefs": "It writes every change to a new place: wipe its devices.",
    "f2fs": "It writes every change to a new place: wipe its device.",
    "vfat": "Copy what is to stay, wipe the device, and make the file system anew.",
    "exfat": "Copy what is to stay, wipe the device, and make the file system anew.",
    "ext3": "Mount it as ext4 with extents, or wipe the device.",
    "ext2": "Mount it as ext4 with extents, or wipe the device.",
}
_ELSE = "Wipe the device under it, or destroy the key it is encrypted with."


@dataclass(frozen=True)
class Space:
    """A mounted file system as it was seen. Bytes; ``inodes_free`` −1 where they are made as needed.

    ``points``: every mount point of it; ``belongs_to``: the mount point under which ``path`` lies, where it
    is none itself. ``features``: ``data=journal``, ``inline_data``, ``discard``, ``realtime`` and the like.
    ``node`` is the kernel's name of the device under it, empty where there are several.
    """

    path: str
    identity: SpaceIdentity
    type: MediumType = MediumType.UNKNOWN
    options: str = ""
    symlinks: tuple[str, ...] = ()
    belongs_to: str = ""
    points: tuple[str, ...] = ()
    read_only: bool = False
    writable: bool = True
    size: int = 0
    free: int = 0
    available: int = 0
    block: int = 4096
    inodes_free: int = -1
    holds_state: bool = False
    leftovers: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    node: str = ""
    notes: tuple[str, ...] = ()

    def facts(self) -> MediumFacts:
        """The part of this that goes into a receipt."""
        return MediumFacts(path=self.path, type=self.type.value, notes=list(self.notes))


@dataclass(frozen=True)
class Reserve:
    """How many bytes ordinary users may still write while it is full, and why so many."""

    bytes: int
    why: str


def reserve_of(space: Space, wish: SpaceWish) -> Reserve:
    """What is left free: what was asked, never less than the journal needs where it lies there."""
    if wish.reserve is None:
        asked = Reserve(
            max(LEAST_RESERVE, space.size // 100), "the default: the larger of 64 MiB and 1 % of it"
        )
    else:
        asked = Reserve(int(wish.reserve), "as ordered")
    if space.holds_state and asked.bytes < STATE_RESERVE:
        return Reserve(STATE_RESERVE, "the agent's own journal lies on it and has to be written to the end")
    return asked


Rule = Callable[[SpaceIdentity | None, Space, SpaceWish, SystemPaths], Refusal | None]


def space_refusal(
    ordered: SpaceIdentity | None, space: Space, wish: SpaceWish, system: SystemPaths
) -> Refusal | None:
    """The first rule that forbids filling it, or None. `ordered` is None when nobody ordered anything yet."""
    found = (rule(ordered, space, wish, system) for rule in RULES)
    return next((refusal for refusal in found if refusal is not None), None)


def _link(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if not space.symlinks:
        return None
    return Refusal(
        reason=Reason.SYMBOLIC_LINK,
        detail=f"{readable(space.path)} goes through a symbolic link ({listing(space.symlinks)}).",
        remedy="Name the mount point by its real path.",
    )


def _no_mount_point(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if not space.belongs_to:
        return None
    place = readable(space.belongs_to)
    return Refusal(
        reason=Reason.WRONG_KIND,
        detail=f"{readable(space.path)} is not a mount point; it belongs to the file system mounted on {place}.",
        remedy=f"Name that one if it is meant: free-space:{place}",
    )


def _unsupported(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    kind = space.identity.filesystem
    if kind in SUPPORTED:
        return None
    instead = _INSTEAD.get("nfs" if kind.startswith("nfs") else kind, _ELSE)
    if kind.startswith("fuse"):
        instead = "Name the file system that its program keeps its data on."
    return Refusal(
        reason=Reason.UNSUPPORTED,
        detail=f"{readable(space.path)} is of type {kind}; what filling it would reach cannot be told there.",
        remedy=instead,
    )


def _mismatch(ordered: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    found = differences(ordered, space.identity) if ordered is not None else []
    if not found:
        return None
    return Refusal(
        reason=Reason.IDENTITY_MISMATCH,
        detail=f"{readable(space.path)} is not what was ordered: {'; '.join(found)}."[:4000],
        remedy="Take the inventory again and order it anew.",
    )


def _nameless(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if space.identity.uuid:
        return None
    return Refusal(
        reason=Reason.NO_IDENTITY,
        detail=f"The UUID of the file system on {readable(space.path)} cannot be read.",
        remedy="Run the agent as root, with a kernel that tells it (Linux 6.0 or later).",
    )


def _system(_o: SpaceIdentity | None, space: Space, wish: SpaceWish, system: SystemPaths) -> Refusal | None:
    reason = system.device_reason(space.points)
    if not reason:
        return None
    least = max(SYSTEM_RESERVE, space.size // 20)
    if wish.system and reserve_of(space, wish).bytes >= least:
        return None
    return Refusal(
        reason=Reason.SYSTEM,
        detail=f"The running system stands on the file system of {readable(space.path)}: {reason}.",
        remedy=f"If it is meant, say so (--system) and leave at least {least} bytes (--reserve).",
    )


def _read_only(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if not space.read_only:
        return None
    return Refusal(
        reason=Reason.READ_ONLY,
        detail=f"{readable(space.path)} is mounted read-only.",
        remedy="Mount it for writing; under systemd name it in ReadWritePaths= (docs/free-space.md).",
    )


def _no_permission(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if space.writable:
        return None
    return Refusal(
        reason=Reason.NOT_PERMITTED,
        detail=f"This user may not make a folder in {readable(space.path)}.",
        remedy="Run the agent as root.",
    )


def _left_over(_o: SpaceIdentity | None, space: Space, _w: SpaceWish, _s: SystemPaths) -> Refusal | None:
    if not space.leftovers:
        return None
    return Refusal(
        reason=Reason.IN_USE,
        detail=f"Another order fills it, or did not clean up: {listing(space.leftovers)}.",
        remedy="Wait for it, or remove what is left: expunge-agent leftovers --remove",
    )


def _nothing_free(_o: SpaceIdentity | None, space: Space, wish: SpaceWish, _s: SystemPaths) -> Refusal | None:
    reserve = reserve_of(space, wish).bytes
    room = space.available - reserve if reserve else space.free
    if room >= max(space.block, 4096):
        return None
    return Refusal(
        reason=Reason.EMPTY,
        detail=f"{readable(space.path)} has {space.available} free bytes, and {reserve} are to be left.",
        remedy="Choose a smaller reserve (--reserve), or free some space.",
    )


RULES: tuple[Rule, ...] = (
    _link,
    _no_mount_point,
    _unsupported,
    _nameless,
    _mismatch,
    _system,
    _read_only,
    _no_permission,
    _left_over,
    _nothing_free,
)
