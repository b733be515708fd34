"""Mapped devices whose table holds the key of a LUKS volume, as sysfs shows them, and keys in the kernel's keyring.

libcryptsetup names a mapping ``CRYPT-LUKS2-<UUID without hyphens>-<name>`` (lib/utils_devpath.c, dm-uuid); suspended
and deferred ones are listed too. A mapping over the same device under any other name holds it as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from expunge_agent.devices.nodes import all_disks
from expunge_agent.devices.roots import LIVE, Roots, names, read_bytes, read_int, read_text


def holding(uuid: str, numbers: Iterable[str] = (), roots: Roots = LIVE) -> list[str]:
    """Mapped devices with a LUKS table of the volume `uuid`, or any ``CRYPT`` table over a device of `numbers`
    (``major:minor``), each as people know it: ``dm-3 (secret, suspended)``."""
    plain, below = uuid.replace("-", "").lower(), set(numbers)
    found = []
    for disk in all_disks(roots):
        called = read_text(disk.folder / "dm/uuid")
        parts = called.split("-")
        over = {read_text(disk.folder / "slaves" / name / "dev") for name in names(disk.folder / "slaves")}
        if called.startswith("CRYPT-") and (plain in (part.lower() for part in parts) or below & over):
            state = ", suspended" if read_int(disk.folder / "dm/suspended", 0) == 1 else ""
            found.append(f"{disk.name} ({read_text(disk.folder / 'dm/name')}{state})")
    return found


def in_keyring(uuid: str, roots: Roots = LIVE) -> list[str]:
    """Entries of the kernel's keyrings that name the volume: ``logon cryptsetup:UUID-d0`` (cryptsetup-open(8))."""
    found = []
    for line in read_bytes(roots.proc / "keys").decode("ascii", "replace").splitlines():
        words = line.split(None, 8)
        if len(words) == 9 and uuid and uuid in words[8]:
            found.append(f"{words[7]} {words[8]}".partition(": ")[0])
    return found
