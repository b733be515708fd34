"""Overlays that use directories of a file system (Documentation/filesystems/overlayfs.rst).

The kernel keeps such a file system when it is unmounted, and it shows nowhere but in the overlay's options.
"""

from __future__ import annotations

import os
import re

from expunge_agent.devices.mounts import Mount, Mounts

_OPTIONS = ("lowerdir", "upperdir", "workdir", "lowerdir+", "datadir+")
_COLON, _COMMA = re.compile(r"(?<!\\):"), re.compile(r"(?<!\\),")


def over(mount: Mount, numbers: set[str], seen: Mounts) -> list[Mount]:
    """The overlays, each once, that have a directory of `mount`, whose files have a device number of `numbers`."""
    found: dict[str, Mount] = {}
    for one in (*seen.mounts, *seen.copies):
        if one.fstype == "overlay" and any(
            _lies_on(path, mount, numbers) for path in directories(one.options)
        ):
            found.setdefault(one.number, one)
    return list(found.values())


def directories(options: str) -> list[str]:
    """The directories that an overlay's options name by absolute paths."""
    found: list[str] = []
    for option in _COMMA.split(options):
        key, _, value = option.partition("=")
        if key in _OPTIONS:
            found += _COLON.split(value) if key == "lowerdir" else [value]
    return [re.sub(r"\\(.)", r"\1", path) for path in found if path.startswith("/")]


def _lies_on(path: str, mount: Mount, numbers: set[str]) -> bool:
    """By the device number, or by the name alone where that does not tell: another mount lies over it, or btrfs
    numbers each subvolume."""
    try:
        device = os.stat(path).st_dev  # noqa: PTH116 - may hold surrogates
    except (OSError, ValueError):
        device = -1
    if device >= 0 and f"{os.major(device)}:{os.minor(device)}" in numbers:
        return True
    tells = device >= 0 and mount.fstype != "btrfs"
    return not tells and f"{path}/".startswith(mount.point.rstrip("/") + "/")
