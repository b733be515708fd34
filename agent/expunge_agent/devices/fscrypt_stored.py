"""What the fscrypt tool keeps on a file system: sought at every mount of it, as a mount may show a part of it only.

The tool keeps ``.fscrypt`` at the top of the mount that it took for the main one (filesystem/mountpoint.go): mostly the
root of the file system, for one that is seen through bind mounts the top of one of those.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from expunge_agent.core.fscrypt import POLICY, PROTECTOR, SHARED, UNSEEN, Policy, protectors_of
from expunge_agent.core.guard import readable
from expunge_agent.devices import mounts
from expunge_agent.devices.key_traces import read_regular
from expunge_agent.devices.mounts import Mount
from expunge_agent.devices.roots import LIVE
from expunge_agent.protocol.receipt_keys import KeyCopy

_MOST_METADATA = 1 << 16


def stored(path: str, policy: Policy) -> list[KeyCopy]:
    """The policy below each ``.fscrypt`` of the folder's file system and its protectors, those of other policies told apart.

    Where the root of the file system is mounted nowhere that can be looked at, or a ``.fscrypt`` cannot be read, something
    may be stored there: that is among the result with the fate ``unknown``.
    """
    every, whole = _mounts_of(path)
    unseen = (
        [] if whole else [_unseen(f"the root of the file system of {path}", "It is mounted nowhere here.")]
    )
    bases: dict[tuple[int, int], Path] = {}
    for mount in every:
        place = Path(mount.point) / ".fscrypt"
        try:
            base = _base(place)
            if base is not None:
                seen = base.stat()
                bases.setdefault((seen.st_dev, seen.st_ino), base)
        except OSError as error:
            unseen.append(_unseen(str(place), f"It cannot be looked at ({error.strerror})."))
    found = []
    try:
        found = list(_kept(list(bases.values()), policy.key))
    except OSError as error:
        unseen.append(_unseen(str(error.filename), f"It cannot be read ({error.strerror})."))
    return found + unseen


def _mounts_of(path: str) -> tuple[list[Mount], bool]:
    """The mounts of the file system of `path` that can be entered, writable ones first; whether one shows its root."""
    every = mounts.all_mounts(LIVE).mounts
    through = mounts.mount_holding(every, path, LIVE)
    device = os.stat(path).st_dev  # noqa: PTH116 - may hold surrogates
    numbers = {f"{os.major(device)}:{os.minor(device)}"} | (
        {through.number} if through is not None else set()
    )
    found = [one for one in every if one.number in numbers and not one.namespace and _on_top(one, every)]
    found.sort(key=_read_only)
    return found, any(one.root == "/" for one in found)


def _on_top(mount: Mount, every: tuple[Mount, ...]) -> bool:
    """Whether the way to its mount point leads to this mount, and not to one above it."""
    there = mounts.mount_holding(every, mount.point, LIVE)
    return there is not None and there.mount_id == mount.mount_id


def _read_only(mount: Mount) -> bool:
    try:
        return bool(os.statvfs(mount.point).f_flag & os.ST_RDONLY)
    except OSError:
        return True


def _base(place: Path) -> Path | None:
    """The folder at `place`, a link of the administrator's followed; None where there is none. Raises OSError."""
    try:
        seen = os.lstat(place)
        if stat.S_ISLNK(seen.st_mode):
            return place.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if seen.st_dev != os.lstat(place.parent).st_dev:
        raise OSError(0, "something else is mounted over it", str(place))
    return place if stat.S_ISDIR(seen.st_mode) else None


def _kept(bases: list[Path], key: str) -> Iterator[KeyCopy]:
    """The policy `key` and its protectors in all of `bases`. Raises OSError for what is there and cannot be read."""
    policies = [one for base in bases for one in _entries(base / "policies")]
    protectors = [one for base in bases for one in _entries(base / "protectors")]
    others, unclear = set[str](), False
    for one in policies:
        if one.name != key:
            try:
                others.update(protectors_of(read_regular(one, _MOST_METADATA)))
            except (OSError, ValueError):
                unclear = True  # it may need any of them
    own = [one for one in policies if one.name == key]
    wanted = {name for one in own for name in _named_by(one)}
    yield from (KeyCopy(where=str(one), what=POLICY, fate="remains") for one in own)
    for one in protectors:
        name = one.name.removesuffix(".link")
        if name in wanted:
            shared = unclear or name in others or one.name != name
            yield KeyCopy(where=str(one), what=SHARED if shared else PROTECTOR, fate="remains")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _named_by(policy: Path) -> list[str]:
    """The protectors that the folder's own policy names. Raises OSError where that cannot be told."""
    try:
        return protectors_of(read_regular(policy, _MOST_METADATA))
    except ValueError as error:
        raise OSError(errno.EINVAL, f"it is no stored policy: {error}", str(policy)) from error


def _unseen(where: str, why: str) -> KeyCopy:
    return KeyCopy(
        where=readable(where, 2000),
        what=UNSEEN,
        fate="unknown",
        detail=f"{why} Mount the root of the file system where it can be written, and order again.",
    )
