"""The kernel's side of fscrypt (include/uapi/linux/fscrypt.h): the policy of a folder, the state of a key, its removal."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from pathlib import Path
from typing import NamedTuple

from expunge_agent.core.fscrypt import Policy, Removal, parse_policy
from expunge_agent.devices import mounts
from expunge_agent.devices.roots import LIVE, Roots, names, read_text

_GET_POLICY_EX = 0xC0096616
_REMOVE_KEY_ALL_USERS = 0xC0406619
_GET_KEY_STATUS = 0xC080661A
_IDENTIFIER = 2
_SPEC = struct.Struct("<II32s")
MOST_TRIED = 100_000
"""Entries of a folder that are tried after its key has gone."""


class NotFscryptError(ValueError):
    """No folder with a key of its own; the text is a sentence that says why."""


def policy_of(path: str) -> Policy:
    """The policy of the folder at `path`, which may be locked. Raises NotFscryptError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NotFscryptError(f"The folder cannot be opened ({error.strerror}).") from error
    try:
        answer = bytearray(struct.pack("<Q24x", 24))
        fcntl.ioctl(fd, _GET_POLICY_EX, answer)
        return parse_policy(bytes(answer[8:]))
    except OSError as error:
        why = {
            errno.ENODATA: "The folder is not encrypted.",
            errno.ENOTTY: "Its file system knows no fscrypt.",
            errno.EOPNOTSUPP: "Its file system was made without encryption.",
        }.get(error.errno or 0, f"The kernel does not tell its policy ({error.strerror}).")
        raise NotFscryptError(_OTHERS.get(_type_of(path), why)) from error
    except ValueError as error:
        raise NotFscryptError(f"It has {error}.") from error
    finally:
        os.close(fd)


_OTHERS = {
    "zfs": "It lies on ZFS, whose own encryption is not covered: zfs unload-key only evicts the key, and copies of the "
    "wrapped key lie all over the pool.",
    "ecryptfs": "It is a mount of eCryptfs, which is not covered: each file below it carries its own wrapped key.",
}


def status(path: str, key: str) -> int:
    """FSCRYPT_KEY_STATUS of `key` (hexadecimal) on the file system of `path`. Raises OSError."""
    return _status(path, key)[0]


def remove(path: str, key: str) -> Removal:
    """Take the key away for all users, and the inodes that were unlocked with it out of memory. Files that are open stay
    readable: the flags tell. Needs root."""
    before = status(path, key)
    flags, told = 0, ""
    request = bytearray(_SPEC.pack(_IDENTIFIER, 0, bytes.fromhex(key)) + bytes(24))
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        point = os.open(_mount_point(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.ioctl(point, _REMOVE_KEY_ALL_USERS, request)
            (flags,) = struct.unpack_from("<I", request, _SPEC.size)
        finally:
            os.close(point)
    except OSError as error:
        if error.errno != errno.ENOKEY:  # it is not there: as it should be
            told = f"The kernel would not remove the key ({error.strerror})."
    return Removal(before=before, after=status(path, key), flags=flags, error=told)


class Tried(NamedTuple):
    """``open``: files of a folder whose contents can still be opened; ``files``: how many were tried; ``all``: whether
    none was left untried."""

    open: list[str]
    files: int
    all: bool


def stays_readable(path: str, most: int = MOST_TRIED) -> Tried:
    """Try to open the regular files below the folder, at any depth, up to `most` entries; without the key none opens.

    Other file systems below it are not entered. Folders open without the key too, and show names that say nothing.
    """
    queue, found, files, looked, whole = [path], list[str](), 0, 0, True
    device = os.lstat(path).st_dev
    while queue:
        here = queue.pop()
        for name in names(Path(here)):
            if (looked := looked + 1) > most:
                return Tried(found, files, False)
            one = os.path.join(here, name)  # noqa: PTH118
            try:
                seen = os.lstat(one)
            except OSError:
                whole = False
                continue
            if stat.S_ISDIR(seen.st_mode) and seen.st_dev == device:
                queue.append(one)
            elif stat.S_ISREG(seen.st_mode):
                files += 1
                found += [one] if _opens(one) else []
    return Tried(found, files, whole)


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def holders(path: str, roots: Roots = LIVE) -> list[str]:
    """Processes that have something below `path` open, or work in it: ``<pid> <name>``."""
    found, prefix = {}, path.rstrip("/") + "/"
    for pid in names(roots.proc):
        if not pid.isdigit() or pid == str(os.getpid()):
            continue
        folder = roots.proc / pid
        for link in (
            folder / "cwd",
            folder / "root",
            *((folder / "fd" / one) for one in names(folder / "fd")),
        ):
            try:
                there = os.readlink(link)  # noqa: PTH115
            except OSError:
                continue
            if (there + "/").startswith(prefix):
                found[pid] = f"{pid} {read_text(folder / 'comm') or '?'}"
    return list(found.values())


def _status(path: str, key: str) -> tuple[int, int]:
    request = bytearray(_SPEC.pack(_IDENTIFIER, 0, bytes.fromhex(key)) + bytes(88))
    fd = os.open(_mount_point(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _GET_KEY_STATUS, request)
    finally:
        os.close(fd)
    found: tuple[int, int] = struct.unpack_from("<II", request, _SPEC.size + 24)
    return found


def _type_of(path: str) -> str:
    mount = mounts.mount_holding(mounts.all_mounts(LIVE).mounts, path, LIVE)
    return mount.fstype if mount is not None else ""


def _mount_point(path: str) -> str:
    """The mount through which `path` is reached; itself where that cannot be told (any folder of the file system does)."""
    mount = mounts.mount_holding(mounts.all_mounts(LIVE).mounts, path, LIVE)
    return mount.point if mount is not None else path
