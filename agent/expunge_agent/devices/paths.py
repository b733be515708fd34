"""A path as it was given, looked at component by component: nothing is followed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from expunge_agent.core.medium import Kind

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER,
}


@dataclass(frozen=True)
class Walked:
    """``path`` is absolute and plain; ``seen`` what lstat says of its last component."""

    path: str
    kind: Kind
    symlinks: tuple[str, ...]
    real_path: str
    seen: os.stat_result | None


def walk(path: str | os.PathLike[str]) -> Walked:
    """Look at every component of `path` without following a link.

    ``..`` is taken away only after each component before it has been found to be no link; a
    trailing slash, which would make the kernel follow a link, is dropped first.
    """
    given = os.fspath(path)
    if "\0" in given or not given:
        return Walked(
            path=given.replace("\0", "\\0"), kind=Kind.MISSING, symlinks=(), real_path="", seen=None
        )
    whole = given if given.startswith("/") else f"{os.getcwd()}/{given}"  # noqa: PTH109 - never resolved
    plain = os.path.normpath("/" + whole.lstrip("/"))
    if not _is_utf8(plain):
        return Walked(
            path=plain.encode("utf-8", "backslashreplace").decode(),
            kind=Kind.UNNAMEABLE,
            symlinks=(),
            real_path="",
            seen=None,
        )
    links, kind, seen = _components(whole)
    real = _real(whole) if links else ""
    return Walked(path=plain, kind=kind, symlinks=tuple(links), real_path=real, seen=seen)


def _components(whole: str) -> tuple[list[str], Kind, os.stat_result | None]:
    links: list[str] = []
    current, seen, kind = "", None, Kind.DIRECTORY
    for part in whole.split("/"):
        if part in ("", "."):
            continue
        current = f"{current}/{part}"
        try:
            seen = os.lstat(current)
        except PermissionError:
            return links, Kind.HIDDEN, None
        except (OSError, ValueError):
            return links, Kind.MISSING, None
        kind = _KINDS.get(stat.S_IFMT(seen.st_mode), Kind.MISSING)
        if kind is Kind.SYMLINK:
            links.append(current)
    return links, kind, seen


def _real(path: str) -> str:
    """Where the links lead, as the kernel follows them; empty when they lead nowhere."""
    try:
        real = os.path.realpath(path, strict=True)
    except (OSError, ValueError):
        return ""
    return real if _is_utf8(real) else ""


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
