"""Key files, tokens and headers that crypttab(5) names for a LUKS volume, whatever it calls the volume by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge_agent.core.guard import readable
from expunge_agent.devices import aliases
from expunge_agent.devices.key_traces import read_regular, uuids_at
from expunge_agent.devices.mounts import unescape
from expunge_agent.devices.nodes import number_of_path
from expunge_agent.devices.roots import LIVE, Roots
from expunge_agent.errors import ExpungeError
from expunge_agent.protocol.receipt_keys import KeyCopy

_NO_KEY_FILE = ("", "none", "-", "/dev/urandom", "/dev/random", "/dev/hwrng")
_MOST = 1 << 20
_TOKEN_OPTIONS = ("tpm2-device", "fido2-device", "pkcs11-uri", "keyscript", "header", "tpm2-measure-pcr")
_BY_UUID = "/dev/disk/by-uuid/"
_ANYWHERE = ("LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/disk/by-")
"""Names that mean the same device on every system; ``/dev/sdb1`` does not."""


@dataclass(frozen=True)
class Sought:
    """The volume: ``label`` of its header, empty where it has none; ``paths`` of the target and of a detached header."""

    uuid: str
    label: str
    paths: Sequence[str]


def from_crypttab(folders: Iterable[str], sought: Sought, roots: Roots = LIVE) -> list[KeyCopy]:
    """What ``etc/crypttab`` below each of `folders` (the roots of systems) names for the volume.

    An entry whose device cannot be found here, or cannot be read for a header, may be of the volume too: what it names
    has the fate ``unknown``.
    """
    found: list[KeyCopy] = []
    for folder in folders:
        table = Path(folder) / "etc/crypttab"
        try:
            text = read_regular(table, _MOST).decode("utf-8", "backslashreplace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found.append(_unread(str(table), error))
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) < 2 or words[0].startswith("#"):
                continue
            theirs = _is_it(words, sought, folder, roots)
            if theirs is not False:
                found += _named(words, folder, str(table), sure=theirs is True)
    return found


def _unread(table: str, error: OSError) -> KeyCopy:
    return KeyCopy(
        where=readable(table, 500),
        what="perhaps key files, tokens and headers of the volume",
        fate="unknown",
        detail=f"What it names is not known: it could not be read ({error.strerror}).",
    )


def _is_it(words: list[str], sought: Sought, folder: str, roots: Roots) -> bool | None:
    """Whether an entry is about the volume; None where that cannot be told."""
    called = unescape(words[1].replace('"', "").encode())
    tag, _, value = called.partition("=")
    if called in sought.paths or any(f"header={path}" in _options(words) for path in sought.paths):
        return True
    if tag == "UUID" or called.startswith(_BY_UUID):
        return called.removeprefix(_BY_UUID).removeprefix("UUID=").lower() == sought.uuid.lower()
    if tag == "LABEL" and value and value == sought.label:
        return True
    place = _place(called, folder, roots)
    if place is None:
        return None
    numbers = {number_of_path(path, roots) for path in sought.paths}
    if (number_of_path(place, roots) or place) in numbers:
        return True
    if roots.live:
        try:
            if sought.uuid in uuids_at(os.path.realpath(place)):
                return True
        except OSError:
            return None
    return False if folder == "/" or not place.startswith("/dev/") or called.startswith(_ANYWHERE) else None


def _place(called: str, folder: str, roots: Roots) -> str | None:
    """The path of what an entry calls `called`; None where there is no such thing, or more than one."""
    try:
        place = aliases.resolve(called, roots)
    except ExpungeError:
        return None
    if not place.startswith("/"):
        return None
    if not place.startswith("/dev/"):
        place = os.path.join(folder, place.lstrip("/"))  # noqa: PTH118
    there = number_of_path(place, roots) or (roots.live and os.path.isfile(place))  # noqa: PTH113
    return place if there else None


def _options(words: list[str]) -> list[str]:
    return words[3].split(",") if len(words) > 3 else []


def _named(words: list[str], folder: str, table: str, *, sure: bool) -> Iterator[KeyCopy]:
    """What one line of crypttab gives away: ``name device key-file options``; not `sure`, where it may be another's."""
    where = f"{readable(table, 500)}, {readable(words[0], 100)}"
    perhaps = "" if sure else "perhaps "
    doubt = (
        ""
        if sure
        else f" Whether {readable(words[1], 200)} is this volume cannot be told from here: look where that system runs."
    )
    if len(words) > 2 and words[2] not in _NO_KEY_FILE:
        place = words[2] if words[2].startswith("/dev/") else os.path.join(folder, words[2].lstrip("/"))  # noqa: PTH118
        there = os.path.lexists(place)
        detail = (
            "It opens nothing without a header; with a backup of the header it does."
            if there
            else "It is not there now; it may be on a medium that is not attached."
        )
        yield KeyCopy(
            where=readable(place, 1000),
            what=f"{perhaps}the key file named in {where}",
            fate="remains" if there and sure else "unknown",
            detail=detail + doubt,
        )
    for option in _options(words):
        if option.partition("=")[0] in _TOKEN_OPTIONS:
            yield KeyCopy(
                where=readable(option, 500),
                what=f"{perhaps}an option in {where}",
                fate="unknown",
                detail="It tells where a passphrase or a header comes from; what is there was not looked at."
                + doubt,
            )
