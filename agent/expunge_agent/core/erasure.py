"""What an erase should leave as it was, and what of the drive is in the reach of its command."""

from __future__ import annotations

from expunge_agent.core.drive import Drive

_SECTOR = 512


def changes(before: Drive, after: Drive) -> list[str]:
    """How the drive differs in what an erase leaves as it is: its names, its size, what it hides, its locks.

    That it grew by just what it had hidden is what was asked of it.
    """
    same = ("model", "serial", "firmware", "names", "logical_sector")
    grown = laid_open(before) and after.apparent == before.native
    told = [
        f"{name}: before {getattr(before, name)!s}, after {getattr(after, name)!s}"
        for name in (same if grown else (*same, "apparent"))
        if getattr(before, name) != getattr(after, name)
    ]
    if len(after.namespaces) != len(before.namespaces):
        told.append(f"namespaces: before {len(before.namespaces)}, after {len(after.namespaces)}")
    hidden = [f"{one.kind.upper()} of {one.size} bytes" for one in after.hidden if one.size]
    if hidden:
        told.append(f"it hides space: {', '.join(hidden)}")
    if after.security is not None and (after.security.enabled or after.security.locked):
        told.append("an ATA password is set on it")
    return [one[:4000] for one in told]


def laid_open(before: Drive) -> int:
    """Bytes that a drive hid before its command, and was made to give back for it."""
    hid = any(area.size for area in before.hidden)
    return int(before.native) - int(before.apparent) if hid and before.native > before.apparent else 0


def looked_at(before: Drive | None) -> int:
    """Of these, the bytes that canaries and read-back can cover: sectors of 512 bytes, which go by ATA commands."""
    return laid_open(before) if before is not None and before.logical_sector == _SECTOR else 0


def unseen(drive: Drive | None) -> list[str]:
    """What of the drive is in its command's reach, and nobody looks at, as exceptions."""
    given_back = laid_open(drive) if drive is not None else 0
    if not given_back or looked_at(drive):
        return []
    return [
        f"{given_back} bytes that the drive had hidden were given back before its command; no canary was put there, "
        "and they were not read back. Take the inventory again and order the whole size."
    ]
