"""Where else the key of a LUKS volume may be: copies of its header in folders, key files named in crypttab(5)."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from expunge_agent.core import luks
from expunge_agent.core.guard import readable
from expunge_agent.core.luks_case import HEADER_COPY
from expunge_agent.protocol.receipt_keys import KeyCopy

MAX_COPIES = 100
"""Copies listed; more are counted."""
_NO_KEY_FILE = ("", "none", "-")
_TOKEN_OPTIONS = ("tpm2-device", "fido2-device", "pkcs11-uri", "keyscript", "header", "tpm2-measure-pcr")


def header_copies(uuid: str, folders: Iterable[str], but: Iterable[tuple[int, int]] = ()) -> list[KeyCopy]:
    """Regular files below `folders` that hold a LUKS header of `uuid`, at the start or where LUKS2 has its second.

    Links are not followed, other file systems are not entered; what could not be looked at is among the result
    with the fate ``unknown``. `but` are files by (device, inode) that are no copies.
    """
    found: list[KeyCopy] = []
    blind = 0
    seen = set(but)
    for path, status in regular_files(folders):
        if status is None:
            blind += 1
            continue
        if (status.st_dev, status.st_ino) in seen or status.st_size < 512:
            continue
        seen.add((status.st_dev, status.st_ino))
        try:
            same = uuid in _uuids(path)
        except OSError:
            blind += 1
            continue
        if same:
            found.append(
                KeyCopy(
                    where=readable(path, 2000),
                    what=HEADER_COPY,
                    fate="remains",
                    detail="With it and one of its passphrases or key files the data can be read.",
                )
            )
    if len(found) > MAX_COPIES:
        more = len(found) - MAX_COPIES
        found[MAX_COPIES:] = [KeyCopy(where=f"{more} more files", what=HEADER_COPY, fate="remains")]
    if blind:
        found.append(
            KeyCopy(
                where=f"{blind} files and folders that could not be read",
                what="perhaps a copy of the header",
                fate="unknown",
            )
        )
    return found


def from_crypttab(roots: Iterable[str], uuid: str, paths: Iterable[str]) -> list[KeyCopy]:
    """Key files, tokens and headers that ``etc/crypttab`` below each of `roots` names for the volume, which it may call
    by UUID or by one of `paths`."""
    names = {f"UUID={uuid}", f"/dev/disk/by-uuid/{uuid}", *paths}
    found: list[KeyCopy] = []
    for root in roots:
        table = Path(root) / "etc/crypttab"
        try:
            text = table.read_bytes()[: 1 << 20].decode("utf-8", "backslashreplace")
        except OSError:
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) < 2 or words[0].startswith("#") or words[1].replace('"', "") not in names:
                continue
            found += _named(words, root, str(table))
    return found


def _named(words: list[str], root: str, table: str) -> Iterator[KeyCopy]:
    """What one line of crypttab gives away: ``name device key-file options``."""
    where = f"{readable(table, 500)}, {readable(words[0], 100)}"
    if len(words) > 2 and words[2] not in _NO_KEY_FILE:
        place = words[2] if words[2].startswith("/dev/") else os.path.join(root, words[2].lstrip("/"))  # noqa: PTH118
        there = os.path.lexists(place)
        yield KeyCopy(
            where=readable(place, 1000),
            what=f"the key file named in {where}",
            fate="remains" if there else "unknown",
            detail="It opens nothing without a header; with a backup of the header it does."
            if there
            else "It is not there now; it may be on a medium that is not attached.",
        )
    for option in words[3].split(",") if len(words) > 3 else []:
        if option.partition("=")[0] in _TOKEN_OPTIONS:
            yield KeyCopy(
                where=readable(option, 500),
                what=f"an option in {where}",
                fate="unknown",
                detail="It tells where a passphrase or a header comes from; what is there was not looked at.",
            )


def regular_files(folders: Iterable[str]) -> Iterator[tuple[str, os.stat_result | None]]:
    """Every regular file below `folders`; None for what could not be looked at."""
    for folder in folders:
        try:
            device = os.lstat(folder).st_dev
        except OSError:
            yield folder, None
            continue
        queue = [folder]
        while queue:
            here = queue.pop()
            try:
                entries = sorted(os.scandir(here), key=lambda one: one.name)
            except OSError:
                yield here, None
                continue
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    yield entry.path, None
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield entry.path, status
                elif stat.S_ISDIR(status.st_mode) and status.st_dev == device:
                    queue.append(entry.path)


def _uuids(path: str) -> set[str]:
    """The UUIDs of all LUKS headers in a file, damaged ones too."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return {luks.uuid_of(os.pread(fd, 512, place)) for place in (0, *luks.SECOND_OFFSETS)} - {""}
    finally:
        os.close(fd)
