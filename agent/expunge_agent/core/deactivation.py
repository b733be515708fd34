"""Taking down what stands on a target: from the tree of it to ordered steps, or the reasons why not.

The model is curtin's clear-holders (block/clear_holders.py): tree, plan, steps. What stands highest goes
first; only what stands on the target goes. A step is planned for what this module knows how to take down without
loss; anything else, and anything that the running system or a process needs, refuses the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from expunge_agent.core.guard import listing, readable
from expunge_agent.core.volume import lvm_name, lvm_part
from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.receipt_steps import MAX_STEPS


class StepKind(StrEnum):
    """What can be taken down, by the way it is done."""

    UNMOUNT = "unmount"
    SWAPOFF = "swapoff"
    CLOSE_CRYPT = "close-crypt"
    DEACTIVATE_LV = "deactivate-lv"
    STOP_MD = "stop-md"
    DETACH_LOOP = "detach-loop"
    REMOVE_MAP = "remove-map"
    FLUSH_MULTIPATH = "flush-multipath"
    STOP_BCACHE = "stop-bcache"
    STOP_BCACHE_SET = "stop-bcache-set"


class Step(Frozen, frozen=True):
    """One step: ``on`` as the program that does it takes it. ``device`` and ``uuid`` tell whether it is still there.

    ``beside``: devices off the target that it stands on too.
    """

    what: StepKind
    on: Text
    device: Name
    uuid: Text = ""
    beside: list[Text] = []

    @property
    def words(self) -> str:
        """The step as a person reads it."""
        also = f" (it stands on {listing(self.beside)} too)" if self.beside else ""
        return f"{_WORDS[self.what]} {readable(self.on)}{also}"


_WORDS = {
    StepKind.UNMOUNT: "unmount",
    StepKind.SWAPOFF: "stop swapping to",
    StepKind.CLOSE_CRYPT: "close the encrypted mapping",
    StepKind.DEACTIVATE_LV: "deactivate the logical volume",
    StepKind.STOP_MD: "stop the array",
    StepKind.DETACH_LOOP: "detach the loop device",
    StepKind.REMOVE_MAP: "remove the mapping",
    StepKind.FLUSH_MULTIPATH: "flush the multipath map",
    StepKind.STOP_BCACHE: "stop the cached device",
    StepKind.STOP_BCACHE_SET: "stop the cache set",
}


@dataclass(frozen=True)
class Swap:
    """A swap area: its path, and how many bytes of it are in use."""

    path: str
    used: int


@dataclass(frozen=True)
class Over:
    """A mount that hides another one, by its id."""

    mount_id: str
    point: str


@dataclass(frozen=True)
class MountedAt:
    """One mount of a file system. ``namespace``: a process in another mount namespace, empty for our own.

    ``users``: ``<pid> <name>`` of processes that have something of it open or stand in it. ``layers`` and
    ``swaps``: loop devices over files in it, and swap files. ``beside``: further devices of the file system.
    ``over``: mounts to which its name leads instead. ``overlays``: those that use directories of it.
    """

    point: str
    namespace: str = ""
    mount_id: str = ""
    over: tuple[Over, ...] = ()
    overlays: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    layers: tuple[Standing, ...] = ()
    swaps: tuple[Swap, ...] = ()
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """A device and what stands on it. ``kind`` as in an inventory's stack: partition, lvm, crypt, md raid1, loop …

    ``label`` is the name of a mapped device, ``uuid`` that of mapping or array (of a loop device its file); ``system`` why the running system
    needs it; ``pool`` its ZFS pool; ``beside``: devices off the target that it stands on too. ``cache_set``: the
    bcache set that it caches for. ``held``: the kernel says that something has it, and nothing of it is seen.
    """

    name: str
    kind: str
    path: str
    label: str = ""
    uuid: str = ""
    system: str = ""
    pool: str = ""
    opened_by: tuple[str, ...] = ()
    mounts: tuple[MountedAt, ...] = ()
    swaps: tuple[Swap, ...] = ()
    beside: tuple[str, ...] = ()
    cache_set: str = ""
    held: bool = False
    layers: tuple[Standing, ...] = ()


@dataclass(frozen=True)
class Surface:
    """What of the machine a plan depends on: the point of each mount of our own namespace (as often as something
    is mounted there), and bytes of memory that can still be given to programs."""

    points: tuple[str, ...] = ()
    available: int = 0


@dataclass
class Taking:
    """What there is to do. ``refusals``: why it may not be done; then ``steps`` are only for the eye."""

    steps: list[Step] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def plan_deactivation(tree: Standing, surface: Surface, ordered: frozenset[str] = frozenset()) -> Taking:
    """The steps that free the device at the root of `tree`, first things first.

    `ordered`: paths of the order's other targets; one that stands on this one refuses it: each is wiped
    with nothing on it.
    """
    planner = _Planner(tree, surface, ordered)
    planner.clear(tree)
    planner.end()
    return planner.taking


class _Planner:
    """One walk through a tree, in which a device may stand in several places."""

    def __init__(self, tree: Standing, surface: Surface, ordered: frozenset[str]) -> None:
        self.taking = Taking()
        self._surface = surface
        self._ordered = ordered
        self._mounts: list[tuple[Standing, MountedAt]] = list(_all_mounts(tree))
        self._begun: set[str] = set()
        self._through: set[str] = set()
        self._unmounted: set[str] = set()
        self._points = Counter({_key(one): one.point for _, one in self._mounts}.values())
        self._by_id = {one.mount_id: (layer, one) for layer, one in self._mounts if one.mount_id}
        self._swap_used = 0

    def clear(self, layer: Standing) -> None:
        """Everything that stands on `layer`."""
        self._objections(layer)
        for above in layer.layers:
            self._take_down(above)
        for swap in layer.swaps:
            self._swapoff(swap, layer)
        for mount in reversed(layer.mounts):  # what was mounted last lies on top
            self._unmount(mount, layer)
        if layer.cache_set:
            self._add(StepKind.STOP_BCACHE_SET, layer.cache_set, layer)

    def end(self) -> None:
        """The rules that need the whole."""
        if self._swap_used > self._surface.available:
            self._refuse(
                Reason.SWAP,
                f"{self._swap_used} bytes are swapped out to it, and {self._surface.available} bytes of memory are free.",
                "End programs, or add another swap area, then order again.",
            )
        if len(self.taking.steps) > MAX_STEPS:
            self._refuse(
                Reason.HELD,
                f"{len(self.taking.steps)} things stand on it.",
                "Take them down by hand first.",
            )

    def _take_down(self, layer: Standing) -> None:
        """`layer` with all that stands on it."""
        if layer.name in self._through:
            return
        if layer.name in self._begun:
            self._refuse(
                Reason.HELD,
                f"{layer.path} stands on itself.",
                "Take it down by hand, and find out how that came about.",
            )
            return
        self._begun.add(layer.name)
        if layer.path in self._ordered:
            self._refuse(
                Reason.HELD,
                f"{layer.path}, which stands on it, is a target of the same order.",
                "Order what stands above first, and this one when that is done.",
            )
        self.clear(layer)
        self._close(layer)
        self._through.add(layer.name)

    def _close(self, layer: Standing) -> None:
        """`layer` itself, once nothing stands on it."""
        kind = layer.kind
        if kind == "partition":
            return
        if kind == "lvm":
            self._close_lvm(layer)
        elif kind == "crypt":
            self._add(StepKind.CLOSE_CRYPT, layer.label, layer)
        elif kind == "multipath":
            self._add(StepKind.FLUSH_MULTIPATH, layer.label, layer)
        elif kind in ("device mapper", "multipath partition", "verity", "integrity"):
            self._add(StepKind.REMOVE_MAP, layer.label, layer)
        elif kind.startswith("md"):
            self._add(StepKind.STOP_MD, layer.path, layer)
        elif kind == "loop":
            self._add(StepKind.DETACH_LOOP, layer.path, layer)
        elif kind == "bcache":
            self._add(StepKind.STOP_BCACHE, layer.path, layer)
        else:
            self._refuse(
                Reason.HELD,
                f"{layer.path} ({readable(kind)}) stands on it, which --deactivate does not know how to take down.",
                "Take it down by hand.",
            )

    def _close_lvm(self, layer: Standing) -> None:
        """LVM takes its inner devices down with the volume; without one above they go by its name."""
        name = lvm_name(layer.label)
        if name is None:
            self._refuse(
                Reason.HELD,
                f"{layer.path} is said to be of LVM and has the name {readable(layer.label)}.",
                "Take it down by hand (dmsetup remove).",
            )
        elif not (lvm_part(layer.label, layer.uuid) and any(above.kind == "lvm" for above in layer.layers)):
            self._add(StepKind.DEACTIVATE_LV, name.title, layer)

    def _swapoff(self, swap: Swap, layer: Standing) -> None:
        if self._add(StepKind.SWAPOFF, swap.path, layer):
            self._swap_used += swap.used

    def _unmount(self, mount: MountedAt, layer: Standing) -> None:
        """A mount, after what hides it, lies below its point, or on files in it."""
        if _key(mount) in self._unmounted:  # not by its place: several may be mounted on one
            return
        self._unmounted.add(_key(mount))
        self._mount_objections(mount)
        for one in mount.over:
            if known := self._by_id.get(one.mount_id):
                self._unmount(known[1], known[0])
        for under, other in self._mounts:
            hidden = mount.mount_id and mount.mount_id in {one.mount_id for one in other.over}
            if _below(other.point, mount.point) and not hidden:
                self._unmount(other, under)
        for above in mount.layers:
            self._take_down(above)
        for swap in mount.swaps:
            self._swapoff(swap, layer)
        self._add(StepKind.UNMOUNT, mount.point, layer, mount.beside)

    def _objections(self, layer: Standing) -> None:
        """Why `layer` may not be touched, whatever stands on it."""
        if layer.system:
            self._refuse(
                Reason.SYSTEM,
                f"{layer.path} is needed by the running system: {layer.system}.",
                "Start the machine from another medium (or from memory) and wipe it from there.",
            )
        if layer.pool:
            self._refuse(
                Reason.HELD,
                f"{layer.path} belongs to the ZFS pool {readable(layer.pool)}, which may lie on other drives too.",
                "Export the pool first (zpool export).",
            )
        if layer.opened_by:
            self._refuse(
                Reason.IN_USE,
                f"{layer.path} is open in process {listing(layer.opened_by)}.",
                "End that program first.",
            )
        if layer.held:
            self._refuse(
                Reason.IN_USE,
                f"{layer.path} is held by something that the kernel does not name: a file system that an overlay or "
                "a mount namespace out of sight keeps, or a driver.",
                "Find out what uses it (lsblk, findmnt), and take that down by hand.",
            )

    def _mount_objections(self, mount: MountedAt) -> None:
        point = readable(mount.point)
        if mount.namespace:
            self._refuse(
                Reason.MOUNTED,
                f"It is mounted on {point} in the mount namespace of process {mount.namespace}.",
                "End that program, or unmount it there.",
            )
        elif not mount.point.startswith("/") or not mount.point.isprintable():
            self._refuse(
                Reason.MOUNTED,
                f"It is in use as {point}, which is no mount point that can be named.",
                "Unmount it by hand.",
            )
        if mount.users:
            self._refuse(
                Reason.IN_USE,
                f"The file system on {point} is in use by process {listing(mount.users)}.",
                "End that program first.",
            )
        self._hidden(mount)
        if mount.overlays:
            self._refuse(
                Reason.MOUNTED,
                f"Overlays have directories of the file system on {point}: {listing(mount.overlays)}.",
                "Unmount the overlays first.",
            )
        every = Counter(self._surface.points)
        foreign = [one for one in every if _below(one, mount.point) and every[one] > self._points[one]]
        if foreign:
            self._refuse(
                Reason.MOUNTED,
                f"Other file systems are mounted below {point}: {listing(foreign)}.",
                "Unmount those first; they do not stand on the target.",
            )

    def _hidden(self, mount: MountedAt) -> None:
        """What is mounted over it and does not stand on the target would be taken down in its place."""
        strange = [one.point for one in mount.over if one.mount_id not in self._by_id]
        if strange:
            self._refuse(
                Reason.MOUNTED,
                f"The mount on {readable(mount.point)} is hidden by another file system, mounted over it on "
                f"{listing(strange)}.",
                "Unmount that one first; it does not stand on the target.",
            )

    def _add(self, what: StepKind, on: str, layer: Standing, beside: Sequence[str] = ()) -> bool:
        """Plan a step; a swap area that was planned already is not planned again."""
        also = beside if what in (StepKind.UNMOUNT, StepKind.SWAPOFF) else layer.beside
        step = Step(what=what, on=on, device=layer.name, uuid=layer.uuid, beside=list(also))
        if what is not StepKind.UNMOUNT and step in self.taking.steps:
            return False
        self.taking.steps.append(step)
        return True

    def _refuse(self, reason: Reason, detail: str, remedy: str) -> None:
        refusal = Refusal(reason=reason, detail=detail[:4000], remedy=remedy)
        if refusal not in self.taking.refusals:
            self.taking.refusals.append(refusal)


def listed(steps: Sequence[Step]) -> list[str]:
    """The steps for people, one line each, numbered."""
    return [f"{number}. {step.words}" for number, step in enumerate(steps, start=1)]


def _all_mounts(layer: Standing) -> Iterator[tuple[Standing, MountedAt]]:
    for mount in layer.mounts:
        yield layer, mount
        for above in mount.layers:
            yield from _all_mounts(above)
    for above in layer.layers:
        yield from _all_mounts(above)


def _key(mount: MountedAt) -> str:
    """Which mount it is: a btrfs is met on each of its devices."""
    return mount.mount_id or f"object {id(mount)}"


def _below(point: str, tree: str) -> bool:
    return point != tree and point.startswith(tree.rstrip("/") + "/")
