"""The rules that keep a wipe off everything that is not exactly the target, idle and expendable.

The order of the rules is the order in which a person would want to hear of them: first whether
the path is what it seems, then whether it is the thing ordered, then who needs it, then what
would hinder the work.

 1. symbolic link in the path     2. nothing there, or hidden      3. not a file or block device
 4. not the identity ordered      5. empty                         6. no identity at all
 7. needed by the running system  8. a volume that an overwrite does not reach
 9. swap                         10. mounted                      11. held (dm, md, LVM, bcache)
12. backs a loop device          13. read-only                    14. further hard links
15. open in another process      16. no permission

This is what can be seen before opening. The last guard is the kernel's own: an exclusive open
(``devices.opening``).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from expunge_agent.core.medium import Kind, Medium, Usage
from expunge_agent.core.volume import Volume, forbidden
from expunge_agent.protocol.identity import Target, differences, is_identifying
from expunge_agent.protocol.receipt import Reason, Refusal

LISTED = 8
"""Names spelled out in one sentence; the rest are counted."""


@dataclass(frozen=True)
class SystemPaths:
    """What the running system stands on (Filesystem Hierarchy Standard 3.0 §3).

    ``mounts``: a device that holds one of these mount points is a system device. ``trees``: a
    regular file below one of these is a system file, except below ``scratch``. ``own``: folders of
    this program (state, keys, journal), treated like ``trees``.
    """

    mounts: tuple[str, ...] = ("/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/usr", "/etc", "/var")
    trees: tuple[str, ...] = (
        "/bin",
        "/boot",
        "/dev",
        "/efi",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/run/systemd",
        "/sbin",
        "/sys",
        "/usr",
    )
    scratch: tuple[str, ...] = ("/dev/shm",)  # noqa: S108 - named, not used
    own: tuple[str, ...] = ()

    def device_reason(self, mounts: Iterable[str]) -> str:
        """Why a device with these mount points belongs to the system, or empty."""
        needed = [point for point in mounts if point in self.mounts]
        return f"it holds the system's {listing(needed)}" if needed else ""

    def tree_reason(self, path: str) -> str:
        """Why the files below the absolute `path` belong to the system, or empty."""
        for tree in self.own:
            if _below(tree, path):
                return f"expunge's own folder {readable(tree)} lies in it"
        if path in self.mounts or path == "/":
            return f"it is the system's {path}"
        return self.file_reason(path)

    def reaches_into(self, path: str) -> bool:
        """Whether something of the system lies below the absolute `path`, so that each file must be asked about."""
        return any(_below(tree, path) for tree in (*self.trees, *self.own))

    def file_reason(self, path: str) -> str:
        """Why the file at the absolute `path` belongs to the system, or empty."""
        for tree in self.own:
            if _below(path, tree):
                return f"it is part of expunge's own folder {readable(tree)}"
        if any(_below(path, tree) for tree in self.scratch):
            return ""
        for tree in self.trees:
            if _below(path, tree):
                return f"it lies in the system's {tree}"
        return ""


DEFAULT_SYSTEM = SystemPaths()

Rule = Callable[[Target | None, Medium | None, Usage, SystemPaths], Refusal | None]


def guard(
    target: Target | None, medium: Medium | None, usage: Usage, system: SystemPaths = DEFAULT_SYSTEM
) -> Refusal | None:
    """The first rule that forbids touching what `usage` describes, or None.

    `target` is what the order names (None: nobody ordered anything yet, as in an inventory);
    `medium` is None where the path is nothing that could be a medium.
    """
    return next(iter(objections(target, medium, usage, system)), None)


def objections(
    target: Target | None, medium: Medium | None, usage: Usage, system: SystemPaths = DEFAULT_SYSTEM
) -> list[Refusal]:
    """Every rule that forbids it, in order: what an inventory shows as ``blocked``."""
    found = (rule(target, medium, usage, system) for rule in RULES)
    return [refusal for refusal in found if refusal is not None]


def standing_objections(
    target: Target | None, medium: Medium | None, usage: Usage, system: SystemPaths = DEFAULT_SYSTEM
) -> list[Refusal]:
    """What forbids it even when everything that stands on it is taken down first."""
    found = (rule(target, medium, usage, system) for rule in RULES if rule not in IN_THE_WAY)
    return [refusal for refusal in found if refusal is not None]


def elsewhere_objection(usage: Usage) -> Refusal | None:
    """What forbids it for those who use the same data by another way (`Usage` holds nobody else)."""
    found = (rule(None, None, usage, DEFAULT_SYSTEM) for rule in (*IN_THE_WAY, _in_use))
    return next((refusal for refusal in found if refusal is not None), None)


def unreached(path: str, volume: Volume) -> Refusal | None:
    """Why the volume at `path` cannot be overwritten, or None."""
    found = forbidden(volume)
    if found is None:
        return None
    return Refusal(
        reason=Reason.UNSUPPORTED,
        detail=f"{readable(path)} cannot be overwritten as it is: {readable(found.why, 2000)}.",
        remedy=found.remedy,
    )


def readable(text: str, limit: int = 500) -> str:
    """`text` (bytes of a path) as it may stand in a sentence: no control characters, not too long."""
    clean = text
    if not text.isprintable():
        clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def listing(names: Sequence[str]) -> str:
    """The names in a sentence, at most `LISTED` of them."""
    shown = ", ".join(readable(name, 200) for name in names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"


def _below(path: str, tree: str) -> bool:
    tree = posixpath.normpath(tree)
    return path == tree or path.startswith(tree.rstrip("/") + "/")


def _symbolic_link(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.symlinks:
        return None
    real = (
        f"Name the real path: {readable(usage.real_path)}" if usage.real_path else "The link leads nowhere."
    )
    return Refusal(
        reason=Reason.SYMBOLIC_LINK,
        detail=f"{readable(usage.path)} goes through a symbolic link ({listing(usage.symlinks)}).",
        remedy=real,
    )


def _not_found(_t: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    path = readable(usage.path)
    if usage.kind is Kind.MISSING or (medium is None and usage.kind in (Kind.FILE, Kind.BLOCK)):
        return Refusal(
            reason=Reason.TARGET_NOT_FOUND,
            detail=f"There is nothing at {path}.",
            remedy="Check the path and the cabling; expunge-agent inventory lists what this machine has.",
        )
    if usage.kind is Kind.HIDDEN:
        return Refusal(
            reason=Reason.NOT_PERMITTED,
            detail=f"This user may not look at {path}.",
            remedy="Run the agent as root, or as a user who may search that folder.",
        )
    return None


_WRONG_KINDS = {
    Kind.UNNAMEABLE: "has a name that is not UTF-8",
    Kind.DIRECTORY: "is a directory",
    Kind.SYMLINK: "is a symbolic link",
    Kind.FIFO: "is a FIFO",
    Kind.SOCKET: "is a socket",
    Kind.CHARACTER: "is a character device",
}


def _wrong_kind(_t: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    what = _WRONG_KINDS.get(usage.kind)
    if what is None or (usage.kind is Kind.DIRECTORY and medium is not None):
        return None
    return Refusal(
        reason=Reason.WRONG_KIND,
        detail=f"{readable(usage.path)} {what}; only regular files, directories of them and block devices can be wiped.",
        remedy="Name a regular file or a directory by a UTF-8 path, or a block device such as a drive or a partition.",
    )


def _identity(target: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if target is None or medium is None:
        return None
    found = differences(target.identity, medium.identity)
    if not found:
        return None
    return Refusal(
        reason=Reason.IDENTITY_MISMATCH,
        detail=readable(f"{usage.path} is not the target ordered: {'; '.join(found)}.", 2000),
        remedy="Check which medium is meant, take the inventory again, and order by the identity found there.",
    )


def _empty(_t: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if medium is None or medium.size > 0 or usage.kind is Kind.DIRECTORY:
        return None  # what lies in a directory is counted when its files are listed
    if refusal := _odd_sectors(medium, usage):
        return refusal
    return Refusal(
        reason=Reason.EMPTY,
        detail=f"{readable(usage.path)} has a size of 0 bytes: there is nothing that could be wiped.",
        remedy="Delete an empty file by ordinary means."
        if usage.kind is Kind.FILE
        else "Insert the medium. A drive with sectors of 520 or 528 bytes, which Linux cannot address, shows as "
        "empty too: format it to 512 first (sg_format --format --size=512).",
    )


def _odd_sectors(medium: Medium, usage: Usage) -> Refusal | None:
    """A drive that is not empty, but formatted with sectors that Linux does not address (sd.c: 2^n, 512 to 4096)."""
    length = medium.logical_sector
    if usage.kind is not Kind.BLOCK or length <= 0 or length & (length - 1) == 0:
        return None
    return Refusal(
        reason=Reason.EMPTY,
        detail=f"{readable(usage.path)} has sectors of {length} bytes, as drives of storage systems do: "
        "Linux cannot address them and shows it with a size of 0 bytes.",
        remedy="Format it to sectors of 512 bytes first (sg_format --format --size=512), which takes hours "
        "and is no proof of erasure by itself.",
    )


def _no_identity(
    target: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths
) -> Refusal | None:
    named = [medium.identity] if medium is not None else []
    named += [target.identity] if target is not None else []
    if all(is_identifying(identity) for identity in named):
        return None
    return Refusal(
        reason=Reason.NO_IDENTITY,
        detail=f"{readable(usage.path)} has neither serial number nor WWN nor a kernel sequence number: "
        "nothing tells it from another device.",
        remedy="Attach the drive directly rather than through a bridge, or use a kernel from 5.15 on.",
    )


def _system(_t: Target | None, _m: Medium | None, usage: Usage, system: SystemPaths) -> Refusal | None:
    by_kind = {Kind.FILE: system.file_reason, Kind.DIRECTORY: system.tree_reason}
    reason = usage.system or (
        by_kind[usage.kind](usage.path) if usage.kind in by_kind else system.device_reason(usage.mounts)
    )
    if not reason:
        return None
    return Refusal(
        reason=Reason.SYSTEM,
        detail=f"{readable(usage.path)} is needed by the running system: {reason}.",
        remedy="Start the machine from another medium (or from memory) and wipe it from there.",
    )


def _volume(_t: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    return unreached(usage.path, medium.volume) if medium is not None and medium.volume is not None else None


def _swap(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.swaps:
        return None
    return Refusal(
        reason=Reason.SWAP,
        detail=f"{readable(usage.path)} is used as swap: {listing(usage.swaps)}.",
        remedy=f"Run swapoff {readable(usage.swaps[0], 200)} first.",
    )


def _mounted(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.mounts:
        return None
    return Refusal(
        reason=Reason.MOUNTED,
        detail=f"{readable(usage.path)}, or a part of it, is mounted on {listing(usage.mounts)}.",
        remedy="Unmount it first, and check that nothing mounts it again.",
    )


def _held(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.holders:
        return None
    if through := [holder for holder in usage.holders if holder.endswith(", multipath)")]:
        return Refusal(
            reason=Reason.HELD,
            detail=f"{readable(usage.path)} is one path of the multipath disk {listing(through)}: "
            "wiping it would go behind the back of the others.",
            remedy="Order the multipath disk itself, or take it apart first (multipath -f).",
        )
    return Refusal(
        reason=Reason.HELD,
        detail=f"{readable(usage.path)}, or a part of it, is held by {listing(usage.holders)}.",
        remedy="Deactivate what stands on it (vgchange -an, cryptsetup close, mdadm --stop, multipath -f) first.",
    )


def _loops(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.loops:
        return None
    return Refusal(
        reason=Reason.HELD,
        detail=f"{readable(usage.path)}, or a part of it, backs the loop device {listing(usage.loops)}.",
        remedy=f"Detach it first: losetup -d {readable(usage.loops[0], 200)}",
    )


def _read_only(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.read_only:
        return None
    return Refusal(
        reason=Reason.READ_ONLY,
        detail=f"{readable(usage.path)} cannot be written: {readable(usage.read_only)}.",
        remedy="Remove the write protection (switch, blockdev --setrw, chattr -i, remount) if it is meant to go.",
    )


def _hard_linked(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if usage.hard_links <= 1:
        return None
    return Refusal(
        reason=Reason.HARD_LINKED,
        detail=f"The file at {readable(usage.path)} has {usage.hard_links} names: "
        "wiping it takes the data away under the others too.",
        remedy="Find the others (find -xdev -samefile) and remove them, if the data is meant to go.",
    )


def _in_use(_t: Target | None, _m: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if not usage.opened_by:
        return None
    return Refusal(
        reason=Reason.IN_USE,
        detail=f"{readable(usage.path)}, or a part of it, is open in process {listing(usage.opened_by)}.",
        remedy="End that program first.",
    )


def _not_permitted(_t: Target | None, medium: Medium | None, usage: Usage, _s: SystemPaths) -> Refusal | None:
    if usage.writable or medium is None:
        return None
    return Refusal(
        reason=Reason.NOT_PERMITTED,
        detail=f"This user may not read and write {readable(usage.path)}.",
        remedy="Run the agent as root, or as the owner of the file.",
    )


IN_THE_WAY = (_swap, _mounted, _held, _loops)
"""Rules about what stands on a target and can be taken down first (`core.deactivation`)."""
RULES: tuple[Rule, ...] = (
    _symbolic_link,
    _not_found,
    _wrong_kind,
    _identity,
    _empty,
    _no_identity,
    _system,
    _volume,
    _swap,
    _mounted,
    _held,
    _loops,
    _read_only,
    _hard_linked,
    _in_use,
    _not_permitted,
)
