"""Taking one thing down that stands on a target, by the program that owns it, and seeing that it is gone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from expunge_agent.core.deactivation import Step, StepKind
from expunge_agent.core.guard import readable
from expunge_agent.devices import mount_tree, mounts
from expunge_agent.devices.process import run_tool
from expunge_agent.devices.roots import LIVE, Roots, read_text
from expunge_agent.errors import ExpungeError, NotFoundError

_SECONDS = 120.0
_SWAP_SECONDS = 3600.0
"""All that is swapped out is read back."""
_GONE_SECONDS = 5.0
"""How long a device may take to vanish after its program has ended."""
_PAUSE = 0.1
_BY_MAP = (StepKind.CLOSE_CRYPT, StepKind.FLUSH_MULTIPATH, StepKind.REMOVE_MAP)


def is_there(step: Step, roots: Roots = LIVE) -> bool:
    """Whether what the step takes down still stands; a device with its number but another UUID is another one."""
    return _count(step, roots) > 0


def take_down(step: Step, roots: Roots = LIVE) -> str:
    """Do the step, if it is still due. Empty when what it takes down was seen to be gone; else why it is not, in words.

    umount goes by name: what the name leads to is looked at once more right before.
    """
    if step.what is StepKind.UNMOUNT and (why := mount_tree.topmost(step.on, _numbers(step, roots), roots)):
        return why
    before = _count(step, roots)
    if not before and step.what is StepKind.DETACH_LOOP:
        return ""  # its number may be somebody else's by now
    said = _act(step, roots)
    until = time.monotonic() + _GONE_SECONDS
    while _count(step, roots) >= before:
        if time.monotonic() > until:
            return said or "the program that does it reported success, and it is still there"
        time.sleep(_PAUSE)
    return ""


def commands(step: Step, roots: Roots = LIVE) -> list[list[str]]:
    """The programs that do the step, the first that is installed being the one; none where a file of sysfs does."""
    remove = ["dmsetup", "remove", "--retry", "--", step.on]
    match step.what:
        case StepKind.UNMOUNT:
            return [[*_in_the_first_namespace(roots), "umount", "--", step.on]]
        case StepKind.SWAPOFF:
            return [["swapoff", "--", step.on]]
        case StepKind.CLOSE_CRYPT:
            return [["cryptsetup", "close", "--", step.on], remove]
        case StepKind.DEACTIVATE_LV:
            return [["lvchange", "--yes", "--activate", "n", "--", step.on]]
        case StepKind.STOP_MD:
            return [["mdadm", "--stop", step.on]]
        case StepKind.DETACH_LOOP:
            return [["losetup", "--detach", step.on]]
        case StepKind.REMOVE_MAP:
            return [remove]
        case StepKind.FLUSH_MULTIPATH:
            return [["multipath", "-f", step.on], remove]
        case StepKind.STOP_BCACHE | StepKind.STOP_BCACHE_SET:
            return []


def _act(step: Step, roots: Roots) -> str:
    """Carry it out; what went wrong, in words, or empty."""
    ways = commands(step, roots)
    if not ways:
        return _write_stop(_stop_file(step, roots))
    for number, command in enumerate(ways, start=1):
        try:
            return _run(command, _SWAP_SECONDS if step.what is StepKind.SWAPOFF else _SECONDS)
        except NotFoundError as error:
            if number == len(ways):
                return f"{error.message} {error.remedy}"
        except ExpungeError as error:
            return f"{error.message} {error.remedy}"
    raise AssertionError("unreachable")


def _run(command: Sequence[str], seconds: float) -> str:
    """What `command` complained of; empty when it ended well. Raises ExpungeError when it could not be started."""
    done = run_tool(command, seconds)
    if done.timed_out:
        return f"{command[0]} did not end within {seconds:.0f} seconds and was killed"
    if done.returncode == 0:
        return ""
    said = (done.stderr or done.stdout).decode("utf-8", "replace")
    words = readable("; ".join(line.strip() for line in said.splitlines() if line.strip()), 1000)
    return f"{command[0]} ended with {done.returncode}: {words or 'it gave no reason'}"


def _in_the_first_namespace(roots: Roots) -> list[str]:
    """What to put before umount where this process sees copies of the machine's mounts, as in a unit that
    protects the system: those of the machine itself are meant."""
    try:
        own = os.readlink(f"{roots.proc}/self/ns/mnt")  # noqa: PTH115 - names, no paths
        first = os.readlink(f"{roots.proc}/1/ns/mnt")  # noqa: PTH115
    except OSError:
        return []
    return [] if own == first else ["nsenter", "--mount=/proc/1/ns/mnt", "--"]


def _count(step: Step, roots: Roots) -> int:
    """How often what the step takes down is there."""
    if step.what is StepKind.UNMOUNT:
        seen = mount_tree.acting(mounts.all_mounts(roots))
        return sum(
            one.point == step.on for one in mounts.mounts_of_devices(seen, _numbers(step, roots), roots)
        )
    if step.what is StepKind.SWAPOFF:
        return mounts.swaps(roots).count(step.on)
    if step.what is StepKind.STOP_BCACHE_SET:
        return int((roots.sys / "fs/bcache" / step.on).is_dir())
    return int(_stands(step, roots))


def _numbers(step: Step, roots: Roots) -> frozenset[str]:
    return frozenset([read_text(_folder(step, roots) / "dev")]) - {""}


def _stands(step: Step, roots: Roots) -> bool:
    folder = _folder(step, roots)
    if step.what is StepKind.DETACH_LOOP:
        over = read_text(folder / "loop/backing_file")
        return bool(over) and step.uuid in ("", over)  # numbers are given again at once
    if step.what is StepKind.STOP_MD:
        return bool(read_text(folder / "md/level")) and read_text(folder / "md/uuid") == step.uuid
    if step.what is StepKind.STOP_BCACHE:
        return (folder / "bcache").is_dir()
    named = step.what not in _BY_MAP or read_text(folder / "dm/name") == step.on
    return (folder / "dm").is_dir() and named and read_text(folder / "dm/uuid") == step.uuid


def _folder(step: Step, roots: Roots) -> Path:
    return roots.sys / "class/block" / step.device.replace("/", "!")


def _stop_file(step: Step, roots: Roots) -> Path:
    """Documentation/admin-guide/bcache.rst: writing to ``stop`` of a device, or of a set."""
    if step.what is StepKind.STOP_BCACHE_SET:
        return roots.sys / "fs/bcache" / step.on / "stop"
    return _folder(step, roots) / "bcache/stop"


def _write_stop(path: Path) -> str:
    try:
        path.write_text("1")
    except OSError as error:
        return f"{readable(str(path))} could not be written ({error.strerror})"
    return ""
