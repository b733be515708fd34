"""What is mounted and what swaps, in every mount namespace that can be seen."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from expunge_agent.devices.nodes import number_of_path, resolve
from expunge_agent.devices.roots import LIVE, Roots, names, read_bytes

_OCTAL = re.compile(rb"\\([0-7]{3})")
_DEVICE_OPTIONS = ("logdev", "rtdev", "journal_path", "device")
"""Options of xfs, ext4 and erofs that name further devices of a file system."""


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)). Paths may hold surrogates for bytes that are no UTF-8."""

    mount_id: str
    number: str
    """``major:minor`` as st_dev has it; for btrfs and others an anonymous one (major 0)."""
    root: str
    point: str
    fstype: str
    source: str
    options: str
    namespace: str = ""
    """``pid`` of a process in that mount namespace; empty for our own."""
    parent: str = ""
    """The id of the mount that it is mounted on."""
    shared: str = ""
    """Its peer group, empty for a private mount."""
    master: str = ""
    """The peer group of which it gets what happens there, empty for none."""

    @property
    def title(self) -> str:
        """The mount point for people."""
        return (
            f"{self.point} (in the mount namespace of process {self.namespace})"
            if self.namespace
            else self.point
        )

    def sources(self) -> list[str]:
        """Absolute paths of the devices or files it says it is made of."""
        found = self.source.split(":") if self.source.startswith("/") else []
        for option in self.options.split(","):
            key, _, value = option.partition("=")
            if key in _DEVICE_OPTIONS and value.startswith("/"):
                found.append(value)
        return [path for path in (self.source, *found) if path.startswith("/")]


@dataclass(frozen=True)
class Mounts:
    """All mounts seen; ``unseen``: processes whose mounts this user may not read.

    ``copies``: mounts in other namespaces that have device and place of one in ``mounts``, as most processes have.
    """

    mounts: tuple[Mount, ...]
    unseen: int
    copies: tuple[Mount, ...] = ()


def unescape(field: bytes) -> str:
    r"""A field of mountinfo or swaps: ``\040`` and its like are blank, tab, newline and backslash."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))


def parse_mountinfo(data: bytes, namespace: str = "") -> list[Mount]:
    """The mounts in `data`; lines that are none are passed over."""
    found = []
    for line in data.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if not dash or len(left) < 6 or len(right) < 2:
            continue
        found.append(
            Mount(
                mount_id=left[0].decode("ascii", "replace"),
                number=left[2].decode("ascii", "replace"),
                root=unescape(left[3]),
                point=unescape(left[4]),
                fstype=unescape(right[0]),
                source=unescape(right[1]),
                options=unescape(right[2]) if len(right) > 2 else "",
                namespace=namespace,
                parent=left[1].decode("ascii", "replace"),
                shared=_group(left[6:], b"shared:"),
                master=_group(left[6:], b"master:"),
            )
        )
    return found


def _group(fields: list[bytes], name: bytes) -> str:
    found = (one.removeprefix(name) for one in fields if one.startswith(name))
    return next(found, b"").decode("ascii", "replace")


def all_mounts(roots: Roots = LIVE) -> Mounts:
    """The mounts of our own namespace and, as far as this user may look, of all others."""
    found = parse_mountinfo(read_bytes(roots.proc / "self/mountinfo"))
    known = {(mount.number, mount.point) for mount in found}
    copies: list[Mount] = []
    spaces: set[tuple[str, str]] = set()
    with contextlib.suppress(PermissionError):
        spaces |= {space for space in [_namespace(roots, "self")] if space}
    unseen = 0
    for pid in names(roots.proc):
        if not pid.isdigit():
            continue
        try:
            space = _namespace(roots, pid)
        except PermissionError:
            unseen += 1
            continue
        if space is not None and space not in spaces:
            spaces.add(space)
            for mount in parse_mountinfo(read_bytes(roots.proc / pid / "mountinfo"), pid):
                if (mount.number, mount.point) not in known:
                    known.add((mount.number, mount.point))
                    found.append(mount)
                else:
                    copies.append(mount)
    return Mounts(mounts=tuple(found), unseen=unseen, copies=tuple(copies))


def mounts_of_devices(mounts: Iterable[Mount], numbers: frozenset[str], roots: Roots = LIVE) -> list[Mount]:
    """The mounts that stand on one of the block devices `numbers` (``major:minor``).

    A btrfs mount has an anonymous number and names one of its devices only, so its members are
    looked up in sysfs too; a btrfs that is mounted nowhere we can see is reported without a place.
    """
    found, together = [], btrfs_members(roots)
    named = set()
    for mount in mounts:
        devices = {mount.number} | {number_of_path(path, roots) for path in mount.sources()}
        for members in together.values():
            if devices & members:
                devices |= members
        if devices & numbers:
            found.append(mount)
            named |= devices
    for uuid, members in together.items():
        if members & numbers and not members & named:
            found.append(
                Mount(
                    mount_id="",
                    number="",
                    root="/",
                    point=f"(btrfs {uuid})",
                    fstype="btrfs",
                    source="",
                    options="",
                )
            )
    return found


def mounts_of_file(mounts: Iterable[Mount], seen: os.stat_result, roots: Roots = LIVE) -> list[Mount]:
    """The mounts that are this very file: bound over another file, or a file system image in it."""
    number = f"{os.major(seen.st_dev)}:{os.minor(seen.st_dev)}"
    found = []
    for mount in mounts:
        bound = mount.number == number and mount.root != "/" and not mount.namespace
        paths = [mount.point] if bound else []
        paths += [path for path in mount.sources() if not path.startswith("/dev/")]
        if roots.live and any(_same_file(path, seen) for path in paths):
            found.append(mount)
    return found


def mount_holding(mounts: Iterable[Mount], path: str, roots: Roots = LIVE) -> Mount | None:
    """The mount through which `path` is reached; None when that cannot be told.

    Asked of the kernel by mount id: a file on btrfs has another device number than its mount.
    """
    if not roots.live:
        return None
    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        about = read_bytes(roots.proc / f"self/fdinfo/{fd}")
    finally:
        os.close(fd)
    found = re.search(rb"^mnt_id:\s*(\d+)$", about, re.MULTILINE)
    wanted = found[1].decode() if found else ""
    return next((mount for mount in mounts if mount.mount_id == wanted and not mount.namespace), None)


def swaps(roots: Roots = LIVE) -> list[str]:
    """The paths of all active swap areas (proc_swaps(5)), devices and files."""
    lines = read_bytes(roots.proc / "swaps").split(b"\n")[1:]
    return [unescape(line.split()[0]) for line in lines if line.strip()]


def swaps_of_devices(numbers: frozenset[str], roots: Roots = LIVE) -> list[str]:
    """The active swap areas that are one of the block devices `numbers`."""
    return [path for path in swaps(roots) if number_of_path(path, roots) in numbers]


def swaps_of_file(seen: os.stat_result, roots: Roots = LIVE) -> list[str]:
    """The active swap areas that are this file."""
    return [path for path in swaps(roots) if roots.live and _same_file(path, seen)]


def _same_file(path: str, seen: os.stat_result) -> bool:
    try:
        other = os.stat(path)  # noqa: PTH116 - may hold surrogates and newlines
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(other.st_mode) and (other.st_dev, other.st_ino) == (seen.st_dev, seen.st_ino)


def _namespace(roots: Roots, pid: str) -> tuple[str, str] | None:
    """A process's mount namespace and root folder, which limit what its mountinfo shows.

    None when it has ended; raises PermissionError when it may not be asked.
    """
    folder = f"{roots.proc}/{pid}"
    try:
        return os.readlink(f"{folder}/ns/mnt"), os.readlink(f"{folder}/root")  # noqa: PTH115 - names, no paths
    except PermissionError:
        raise
    except OSError:
        return None


def btrfs_members(roots: Roots) -> dict[str, frozenset[str]]:
    """The device numbers of each btrfs file system in use, by its UUID."""
    found = {}
    for uuid in names(roots.sys / "fs/btrfs"):
        folder = roots.sys / "fs/btrfs" / uuid / "devices"
        nodes = [resolve(roots, folder / name) for name in names(folder)]
        if members := frozenset(node.number for node in nodes if node is not None):
            found[uuid] = members
    return found
