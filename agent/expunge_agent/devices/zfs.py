"""Which devices belong to imported ZFS pools: the kernel lists neither holders nor mounts for them."""

from __future__ import annotations

from collections.abc import Mapping

from expunge_agent.devices.nodes import number_of_path
from expunge_agent.devices.process import run_tool
from expunge_agent.devices.roots import Roots, names
from expunge_agent.errors import ExpungeError

_SECONDS = 3.0


def pools(roots: Roots) -> Mapping[str, str]:
    """The pool of each member device, by ``major:minor``; empty without ZFS, or where zpool does not answer.

    What is missed here the kernel still refuses: ZFS opens its devices exclusively.
    """
    stats = roots.proc / "spl/kstat/zfs"
    if not roots.live or not any((stats / name / "state").exists() for name in names(stats)):
        return {}
    try:
        result = run_tool(["zpool", "status", "-P", "-L"], _SECONDS)
    except ExpungeError:
        return {}
    found = {number_of_path(path, roots): pool for path, pool in parse_status(result.stdout).items()}
    found.pop("", None)
    return found


def parse_status(output: bytes) -> dict[str, str]:
    """Path to pool, from ``zpool status -P`` (zpool-status(8)): full paths below each ``pool:`` line."""
    found: dict[str, str] = {}
    pool = ""
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "pool:":
            pool = words[1]
        elif pool and words and words[0].startswith("/dev/"):
            found[words[0]] = pool
    return found
