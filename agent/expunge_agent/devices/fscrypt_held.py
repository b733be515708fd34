"""Where else the kernel may hold the key of an fscrypt folder: file systems it was added to, keyrings of processes."""

from __future__ import annotations

import os

from expunge_agent.core.fscrypt import ELSEWHERE, PROVISIONED
from expunge_agent.core.guard import readable
from expunge_agent.devices import fscrypt, mounts
from expunge_agent.devices.roots import LIVE, Roots, read_bytes
from expunge_agent.protocol.receipt_keys import KeyCopy

_WITH_KEYS = ("ext4", "f2fs", "ubifs")
"""File systems that have a keyring of their own and are not asked over a network."""
_ABSENT = 1


def held(path: str, key: str) -> list[KeyCopy]:
    """Copies of the key `key` (hexadecimal) of the folder at `path` that removing it from that file system leaves."""
    return [*_in_file_systems(path, key), *in_keyrings()]


def _in_file_systems(path: str, key: str) -> list[KeyCopy]:
    """The other mounted file systems to which the same key was added. Not those of other mount namespaces."""
    own = os.stat(path).st_dev  # noqa: PTH116 - may hold surrogates
    seen = {f"{os.major(own)}:{os.minor(own)}"}
    found = []
    for mount in mounts.all_mounts(LIVE).mounts:
        if mount.fstype not in _WITH_KEYS or mount.namespace or mount.number in seen:
            continue
        try:
            if fscrypt.status(mount.point, key) == _ABSENT:
                seen.add(mount.number)
                continue
        except OSError:
            continue  # it knows no such keys, or this mount cannot be entered: another may
        seen.add(mount.number)
        where = f"the kernel's keyring of the file system mounted at {readable(mount.point, 2000)}"
        found.append(
            KeyCopy(
                where=where, what=ELSEWHERE, fate="remains", detail="Order its folders, too, or unmount it."
            )
        )
    return found


def in_keyrings(roots: Roots = LIVE) -> list[KeyCopy]:
    """Entries of the type ``fscrypt-provisioning``: raw keys, kept to be added to file systems. They do not tell whose.

    Only keyrings that this process may view show (proc_keys(5)).
    """
    found = []
    for line in read_bytes(roots.proc / "keys").decode("ascii", "replace").splitlines():
        words = line.split(None, 8)
        if len(words) == 9 and words[7].startswith("fscrypt-"):  # the kernel shows nine characters of it
            name = words[8].rpartition(": ")[0] or words[8]
            found.append(
                KeyCopy(
                    where=readable(f"keyring entry {words[0]} {name}", 500),
                    what=PROVISIONED,
                    fate="unknown",
                    detail="Its key cannot be read. Take it away if it is this one: keyctl invalidate.",
                )
            )
    return found
