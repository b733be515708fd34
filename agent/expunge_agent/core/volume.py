"""What a volume is made of, what an overwrite of it reaches, and which volumes an overwrite would not reach at all.

Sources: lvmthin(7), lvmcache(7), lvmraid(7), lvconvert(8) for snapshots; md(4); the kernel's
Documentation/admin-guide/device-mapper for the targets. The suffixes by which LVM names its inner devices are
those of lvm2, lib/activate/dev_manager.c and the reserved names of lvm(8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from expunge_agent.protocol.receipt_steps import Member

BUSES = ("lvm", "md", "dm-crypt", "dm")
"""Buses of devices that map onto others."""

_LVM = "LVM-"
_LVM_IDS = 64
"""Characters of the ids of volume group and logical volume in a mapped device's UUID, without hyphens."""
_INNER = re.compile(
    r"_(?:rimage|rmeta|mimage|mlog|tdata|tmeta|cdata|cmeta|corig|wcorig|cvol|cpool|vdata|vpool|vorigin|pmspare|"
    r"imeta|iorig)(?:_\d+)?$|^pvmove\d+$|_mimagetmp_\d+$"
)
_PIECES = re.compile(r"--|-|[^-]+")
"""A hyphen of a name itself is doubled, one that stands alone divides (lvm2, libdm/libdm-string.c)."""


class Layout(StrEnum):
    """How a volume maps its bytes."""

    PARTITION = "partition"
    LINEAR = "linear"
    """One place below for each byte, or several that are written alike at once (mirror, RAID)."""
    RAID = "raid"
    CRYPT = "crypt"
    THIN = "thin"
    THIN_POOL = "thin-pool"
    ORIGIN = "origin"
    SNAPSHOT = "snapshot"
    CACHE = "cache"
    VDO = "vdo"
    MOVING = "moving"
    INNER = "inner"
    CONTAINER = "container"
    CONTROLLER = "controller"
    """An array that a RAID controller shows as one disk."""
    ZVOL = "zvol"
    BCACHE = "bcache"


@dataclass(frozen=True)
class Volume:
    """One volume: ``name`` for people, ``members`` that it lies on.

    ``snapshots``: those of this origin. ``missing``: members that an array should have and has not; ``left_out``:
    members that get no data (spare, faulty). ``under_way``: what the kernel rebuilds meanwhile. ``targets``: the
    device mapper's targets it is made of, empty where that was not asked. ``below``: the volumes it lies on.
    """

    name: str
    layout: Layout
    members: tuple[Member, ...] = ()
    level: str = ""
    snapshots: tuple[str, ...] = ()
    missing: int = 0
    left_out: tuple[str, ...] = ()
    under_way: str = ""
    targets: tuple[str, ...] = ()
    below: tuple[Volume, ...] = ()
    group: str = ""
    """The volume group of a logical volume."""
    unasked: bool = False
    """The device mapper was asked what it is made of, and did not answer."""


@dataclass(frozen=True)
class Forbidden:
    """Why overwriting a volume would not reach its data, and what would."""

    why: str
    remedy: str


_DRIVES = "Take it apart and order the drives or partitions below it, whole."
_KEY = "Where it is encrypted, destroying its key reaches all of it."
_FORBIDDEN = {
    Layout.THIN: Forbidden(
        "it is a thin volume: what is written goes to whatever chunks the pool gives it, chunks shared with "
        "snapshots keep the old data, and so do those it once had",
        f"Remove it and its snapshots (lvremove), deactivate the pool, and order the physical volumes below it whole. {_KEY}",
    ),
    Layout.THIN_POOL: Forbidden(
        "it is a thin pool: its device maps no data of its own, and the volumes in it share its chunks",
        "Deactivate it with its volumes (lvchange -an) and order the physical volumes below it whole.",
    ),
    Layout.SNAPSHOT: Forbidden(
        "it is a snapshot: what is written goes to its copy-on-write area, and the blocks of its origin stay",
        "Remove the snapshot (lvremove) and order the origin, or the physical volumes below both whole.",
    ),
    Layout.CACHE: Forbidden(
        "it is a cached volume: blocks lie on the fast device and on the slow one, and the cache decides which is written",
        "Detach the cache first (lvconvert --uncache), then order the volume; order the fast device whole too.",
    ),
    Layout.VDO: Forbidden(
        "it deduplicates and compresses (VDO): what is written replaces no block",
        f"Order the drives or partitions below it, whole. {_KEY}",
    ),
    Layout.MOVING: Forbidden(
        "its extents are being moved (pvmove): where they lie changes while it is written",
        "Wait for pvmove, or end it (pvmove --abort), then order again; the old place keeps the data.",
    ),
    Layout.INNER: Forbidden(
        "it is an inner part of a logical volume, which LVM keeps for itself",
        "Order the logical volume that it belongs to, or the drives below.",
    ),
    Layout.CONTAINER: Forbidden(
        "it is a container of arrays and maps no data itself", "Order the arrays in it, or its drives."
    ),
    Layout.ZVOL: Forbidden(
        "it is a volume of ZFS, which writes changes to new places: snapshots and freed blocks keep the old data",
        f"Order the devices of the pool, whole. {_KEY}",
    ),
    Layout.BCACHE: Forbidden(
        "it is cached (bcache): blocks lie on the fast device and on the slow one, and the cache decides which is written",
        "Stop the cache first, then order both devices whole.",
    ),
}
_TARGETS = {
    "snapshot": Layout.SNAPSHOT,
    "snapshot-merge": Layout.SNAPSHOT,
    "thin": Layout.THIN,
    "thin-pool": Layout.THIN_POOL,
    "cache": Layout.CACHE,
    "writecache": Layout.CACHE,
    "vdo": Layout.VDO,
}
_NO_DATA = ("zero", "verity", "clone", "snapshot-origin", "zoned")
"""Targets that drop writes, take none, or keep old data elsewhere."""
_IN_PLACE = (
    "linear", "striped", "mirror", "raid", "crypt", "multipath", "integrity", "delay", "flakey", "dust", "ebs",
    "era", "error", "log-writes", "switch", "unstriped",
)  # fmt: skip
"""Targets that write each block to the same places each time (Documentation/admin-guide/device-mapper)."""


def forbidden(volume: Volume) -> Forbidden | None:
    """Why `volume` may not be a target of an overwrite, for itself or for what it lies on; None when it may."""
    if found := _of_itself(volume):
        return found
    for one in volume.below:
        if found := forbidden(one):
            why = (
                found.why
                if found.why.startswith("it lies on ")
                else f"it lies on {one.name}, and of that: {found.why}"
            )
            return Forbidden(why, found.remedy)
    return None


def _of_itself(volume: Volume) -> Forbidden | None:
    if found := _FORBIDDEN.get(volume.layout):
        return found
    if volume.layout is Layout.ORIGIN:
        shown = ", ".join(volume.snapshots[:8]) or "a snapshot"
        return Forbidden(
            f"it is the origin of snapshots ({shown}): each block that is overwritten is copied to them first",
            "Remove the snapshots first (lvremove); their copy-on-write areas stay on the drives, which only "
            "ordering those reaches.",
        )
    if volume.unasked:
        return Forbidden(
            "dmsetup did not say what it is mapped by, so nobody knows whether what is written replaces its data",
            "Install dmsetup, run the agent as root, and let its unit use /dev/mapper/control; then order again.",
        )
    if volume.under_way:
        return Forbidden(
            f"the kernel is still at work on it ({volume.under_way}): members that are not in step keep old data",
            "Wait for its end (mdadm --wait, lvs -o sync_percent), then order again.",
        )
    for target in volume.targets:
        if found := _FORBIDDEN.get(_TARGETS.get(target, Layout.LINEAR)):
            return found
        if target in _NO_DATA:
            return Forbidden(f"it is mapped by {target}: what is written to it replaces no data", _DRIVES)
    return None


def doubts(volume: Volume | None) -> list[str]:
    """What keeps a wipe of `volume` from being whole, as exceptions of a receipt."""
    if volume is None:
        return []
    return [*_own_doubts(volume), *(line for one in volume.below for line in doubts(one))]


def _own_doubts(volume: Volume) -> list[str]:
    found = []
    if volume.missing:
        found.append(
            f"{volume.name} ran without {volume.missing} of its members: what those hold was not overwritten."
        )
    if volume.unasked:
        found.append(f"How {volume.name} maps its blocks could not be asked (dmsetup): it may keep old data.")
    known = {*_IN_PLACE, *_NO_DATA, *_TARGETS}
    found += [
        f"{volume.name} is mapped by {target}: whether that writes in place is not known here."
        for target in volume.targets
        if target not in known
    ]
    return found


def uncredited(volume: Volume | None) -> str:
    """Why no level can be had on `volume`, in words; empty where one can.

    What counts on which medium credits a RAID logical drive with nothing before every member of it is sanitized
    (ADR 0023): the host sees one copy of what several members hold.
    """
    if volume is None:
        return ""
    if volume.layout in (Layout.RAID, Layout.CONTROLLER):
        return f"{volume.name} is an array, and an array earns nothing before each member of it is sanitized by itself"
    return next((why for one in volume.below if (why := uncredited(one))), "")


def not_covered(volume: Volume | None) -> list[str]:
    """What overwriting all that `volume` maps leaves as it is."""
    if volume is None:
        return []
    said = [*_not_mapped(volume), *(line for one in volume.below for line in not_covered(one))]
    return list(dict.fromkeys(said))


def _not_mapped(volume: Volume) -> list[str]:
    """The same for one volume without those below it."""
    if volume.layout is Layout.CONTROLLER:
        return [f"Whatever the drives behind the RAID controller hold besides what {volume.name} shows."]
    if volume.layout is Layout.PARTITION:
        return [f"Everything of the drive outside {volume.name}."]
    said = [
        f"Everything of the members that {volume.name} does not map: other extents, and the places where its "
        "data lay before it was moved, reduced or snapshotted."
    ]
    if volume.layout is Layout.CRYPT:
        said.append("The header and the keyslots of the encrypted container below the mapping.")
    elif volume.layout is Layout.RAID:
        said.append("Superblocks, bitmaps, journals and reserved space of the members.")
        if volume.level not in ("raid0", "linear", "striped"):
            said.append(
                "Copies and parity of each block were written by the kernel; a read-back is served by one of them."
            )
        said += [f"{one}: no data of the array is written to it." for one in volume.left_out]
    elif volume.group:
        said.append(f"The metadata areas of the volume group {volume.group}.")
    return said


@dataclass(frozen=True)
class LvmName:
    """A logical volume's device by its name: ``layer`` is empty for the volume itself."""

    group: str
    volume: str
    layer: str = ""

    @property
    def title(self) -> str:
        """``vg/lv`` as LVM's own programs take it."""
        return f"{self.group}/{self.volume}"


def lvm_name(name: str) -> LvmName | None:
    """The names in that of a mapped device, ``vg-lv`` or ``vg-lv-layer``; None when it is none of LVM's."""
    parts = [""]
    for piece in _PIECES.findall(name):
        if piece == "-":
            parts.append("")
        else:
            parts[-1] += "-" if piece == "--" else piece
    if len(parts) not in (2, 3) or not all(parts):
        return None
    return LvmName(*parts)


def is_lvm(uuid: str) -> bool:
    """Whether a mapped device with this UUID is one of LVM's."""
    return uuid.startswith(_LVM)


def lvm_suffix(uuid: str) -> str:
    """What follows both ids in the UUID of an inner device of LVM's (``real``, ``cow``, ``tpool`` …)."""
    return uuid.removeprefix(_LVM)[_LVM_IDS:].removeprefix("-") if is_lvm(uuid) else ""


def lvm_part(name: str, uuid: str) -> str:
    """Which inner part of a logical volume a mapped device is (``rimage``, ``cow`` …), empty for a whole one.

    A thin pool (``pool``) is a volume of its own.
    """
    suffix = lvm_suffix(uuid)
    parsed = lvm_name(name)
    found = _INNER.search(parsed.volume) if parsed is not None and not parsed.layer else None
    if found is not None:  # says more: the origin of a cache has the suffix of a snapshot's
        return found[0].lstrip("_")
    return "" if suffix == "pool" else suffix
