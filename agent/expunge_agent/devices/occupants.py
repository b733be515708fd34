"""Which processes stand in a file system: open files, working folder, root, program, mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from expunge_agent.devices.roots import LIVE, Roots, names, read_bytes, read_text
from expunge_agent.devices.seen import seen_as_known


@dataclass(frozen=True)
class Occupants:
    """One walk through /proc for any number of questions; it is taken at the first question and never anew.

    This very process counts too: it may have been started in a folder of the target. What is missed
    here, as a file whose file system numbers it otherwise than its mount (btrfs), the kernel still refuses.
    """

    roots: Roots = LIVE

    def of(self, numbers: frozenset[str]) -> tuple[str, ...]:
        """``<pid> <name>`` of the processes in a file system with one of these ``major:minor``."""
        pids: set[str] = set().union(*(self._found.get(number, ()) for number in numbers))
        return tuple(
            f"{pid} {read_text(self.roots.proc / pid / 'comm') or '?'}" for pid in sorted(pids, key=int)
        )

    @cached_property
    def _found(self) -> Mapping[str, set[str]]:
        found: dict[str, set[str]] = {}
        for pid in names(self.roots.proc):
            if pid.isdigit():
                for number in self._of_process(f"{self.roots.proc}/{pid}"):
                    found.setdefault(number, set()).add(pid)
        return found

    def _of_process(self, folder: str) -> set[str]:
        places = [f"{folder}/{name}" for name in ("cwd", "root", "exe")]
        places += [f"{folder}/fd/{name}" for name in names(Path(folder, "fd"))]
        found = set()
        for place in places:
            try:
                device = seen_as_known(place).device
            except OSError:
                continue
            found.add(f"{os.major(device)}:{os.minor(device)}")
        return found | _mapped(folder)


def _mapped(folder: str) -> set[str]:
    """Devices of mapped files (proc_pid_maps(5): the fourth field, hexadecimal)."""
    found = set()
    for line in read_bytes(f"{folder}/maps").split(b"\n"):
        fields = line.split(None, 5)
        if len(fields) >= 5 and fields[4] != b"0":
            major, _, minor = fields[3].partition(b":")
            found.add(f"{int(major, 16)}:{int(minor, 16)}")
    return found
