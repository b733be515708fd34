"""Files of a directory on a machine: patterns, lists, one file with its name, as the agent's own `wipe` takes them."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from msgspec.structs import replace

from expunge_agent.errors import UsageError
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import FileIdentity, Target, TreeIdentity
from expunge_agent.protocol.order import MAX_ORDER

_WILD = re.compile(r"[*?\[]")
_MOST_LISTED = MAX_ORDER // 2
"""Bytes of a list: it stands in the order, each name once."""


@dataclass(frozen=True)
class Files:
    """How the directories of an order are narrowed. ``listed``: paths of files, None without a list; ``remove``: single
    files are to lose their names, too."""

    globs: tuple[str, ...] = ()
    listed: tuple[str, ...] | None = None
    remove: bool = False


def read_list(source: IO[bytes]) -> tuple[str, ...]:
    """The paths in a list: separated by NUL where it has one, else by newlines. Raises UsageError."""
    data = source.read(_MOST_LISTED + 1)
    if len(data) > _MOST_LISTED:
        raise UsageError(
            f"The list has more than {_MOST_LISTED} bytes, and an order has no room for more.",
            "Give several orders a part each, or order the directory with --glob.",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("The list is not UTF-8.", "Order the directory with --glob.") from error
    found = tuple(dict.fromkeys(line for line in text.split("\0" if "\0" in text else "\n") if line))
    if not found:
        raise UsageError("The list names no file.", "Check the list.")
    return found


def folders_beside(texts: Iterable[str], files: Files) -> list[str]:
    """The directories that the machine has to be asked for besides `texts`: before a pattern, around a single file."""
    asked = [_before(text) for text in texts if _is_pattern(text)]
    if files.remove:
        asked += [posixpath.dirname(posixpath.normpath(text)) for text in texts if text.startswith("/")]
    return list(dict.fromkeys(asked))


def meant(answer: wire.Inventory, text: str, files: Files) -> Target | None:
    """The target for `text` where it is a pattern, or a single file whose name is to go; None where it is neither."""
    items = {item.path: item for item in answer.items}
    own = items.get(posixpath.normpath(text))
    if own is None and _is_pattern(text):
        around, rest = items.get(_before(text)), _after(text)
        if around is not None and isinstance(around.identity, TreeIdentity):
            return _below(around.identity, include=[rest])
    elif own is not None and files.remove and isinstance(own.identity, FileIdentity):
        folder, name = posixpath.split(own.path)
        around = items.get(folder)
        if around is not None and isinstance(around.identity, TreeIdentity):
            return _below(around.identity, names=[name])
    return None


def narrowed(targets: Iterable[Target], files: Files) -> list[Target]:
    """Of each directory only the files that match, or are listed. Raises UsageError."""
    found = list(targets)
    if files.globs and not any(_is_whole(target) for target in found):
        raise UsageError("--glob narrows a directory, and none was named.", "Name the directory.")
    if files.listed is not None:
        found = [_listed(found, files.listed)]
    return [_matching(target, files.globs) for target in found]


def _matching(target: Target, globs: tuple[str, ...]) -> Target:
    if not globs or not isinstance(target.identity, TreeIdentity) or not _is_whole(target):
        return target
    return replace(target, identity=replace(target.identity, include=list(globs)))


def _listed(targets: list[Target], listed: tuple[str, ...]) -> Target:
    identity = targets[0].identity
    if len(targets) > 1 or not isinstance(identity, TreeIdentity) or not _is_whole(targets[0]):
        raise UsageError(
            "A list goes with one TARGET, the directory that all its files lie below.",
            "Name that directory alone; give each file system an order of its own.",
        )
    return replace(targets[0], identity=replace(identity, names=list(_names(identity.path, listed))))


def _names(folder: str, listed: tuple[str, ...]) -> Iterator[str]:
    """Each path relative to the directory; those in the list may be so already."""
    top = folder.rstrip("/") + "/"
    for path in listed:
        if ".." in path.split("/"):
            raise UsageError(f"The list has a path with '..': {path!r}.", "Write the path without it.")
        plain = posixpath.normpath(path)
        name = plain.removeprefix(top) if plain.startswith("/") else plain
        if name.startswith("/") or name == ".":
            raise UsageError(f"{path!r} in the list does not lie below {folder}.", "Name its own directory.")
        yield name


def _is_whole(target: Target) -> bool:
    """Whether it is a directory that nothing narrows yet."""
    who = target.identity
    return isinstance(who, TreeIdentity) and not who.names and not who.include


def _below(identity: TreeIdentity, *, names: Iterable[str] = (), include: Iterable[str] = ()) -> Target:
    narrow = replace(identity, names=list(names), include=list(include))
    return Target(identity=narrow, hint=identity.path)


def _is_pattern(text: str) -> bool:
    return text.startswith("/") and _WILD.search(text) is not None


def _split(text: str) -> tuple[list[str], int]:
    parts = text.split("/")
    return parts, next(index for index, part in enumerate(parts) if _WILD.search(part))


def _before(text: str) -> str:
    """The directory before the first wildcard."""
    parts, first = _split(text)
    return posixpath.normpath("/".join(parts[:first]) or "/")


def _after(text: str) -> str:
    parts, first = _split(text)
    return "/".join(parts[first:])
