"""Which QEMU the guests run in: $EXPUNGE_LAB_QEMU (a name or a path), or qemu-system-x86_64; and what it can show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache


def program() -> str:
    """The program's name or path."""
    return os.environ.get("EXPUNGE_LAB_QEMU") or "qemu-system-x86_64"


def missing() -> str:
    """Why it cannot be run, as one sentence; empty if it can."""
    found = shutil.which(program())
    return "" if found else f"there is no program {program()} (EXPUNGE_LAB_QEMU names it)"


@cache
def version() -> str:
    """Its own first line."""
    return _said("--version").partition("\n")[0] or "no QEMU"


@cache
def devices() -> frozenset[str]:
    """The devices that a user of it may add to a machine."""
    return frozenset(re.findall(r'^name "([^"]+)"', _said("-device", "help"), re.MULTILINE))


def lacks(*needed: str) -> str:
    """Why it cannot show these devices; empty if it can."""
    absent = [one for one in needed if one not in devices()]
    return f"{version()} has no device {', '.join(absent)}" if absent else ""


def _said(*arguments: str) -> str:
    try:
        done = subprocess.run([program(), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout
