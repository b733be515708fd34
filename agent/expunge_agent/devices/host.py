"""This machine: boot, name, kernel, keys, clock."""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import hmac
import os
import platform
import re

from expunge_agent.devices.roots import LIVE, Roots, clean, read_bytes, read_text

APPLICATION = b"expunge"
TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""
_TIMEX_BYTES = 256
"""At least sizeof(struct timex): 208 on LP64, 128 on ILP32; spare room on purpose."""


def boot_id(roots: Roots = LIVE) -> str:
    """The kernel's id of this boot (random(4)), a UUID in lower case; empty when it does not say."""
    return read_text(roots.proc / "sys/kernel/random/boot_id").lower()


def hostname(roots: Roots = LIVE) -> str:
    """The machine's name as the kernel has it."""
    return read_text(roots.proc / "sys/kernel/hostname") or clean(os.fsencode(platform.node()))


def kernel(roots: Roots = LIVE) -> str:
    """System and kernel release, such as ``Linux 6.1.0-40-amd64``."""
    release = read_text(roots.proc / "sys/kernel/osrelease") or platform.release()
    return f"{platform.system()} {release}"


def machine_id(roots: Roots = LIVE) -> str:
    """An id of this installation that does not give away the one in /etc/machine-id.

    HMAC-SHA256 of ``expunge`` keyed by the 16 bytes of machine-id(5), as that page asks of
    applications; 64 hexadecimal digits. Empty when the machine has no id (not yet set up, or
    running from memory).
    """
    text = read_text(roots.etc / "machine-id")
    if not re.fullmatch("[0-9a-f]{32}", text):
        return ""
    return hmac.new(bytes.fromhex(text), APPLICATION, hashlib.sha256).hexdigest()


def ssh_host_keys(roots: Roots = LIVE) -> list[str]:
    """``<type> SHA256:<base64>`` of each public SSH host key, as ssh-keygen -lf prints the fingerprint."""
    found = []
    for path in sorted((roots.etc / "ssh").glob("ssh_host_*_key.pub")):
        words = read_bytes(path).split()
        try:
            blob = base64.b64decode(words[1], validate=True)
        except (IndexError, binascii.Error):
            continue
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        found.append(f"{clean(words[0])} SHA256:{digest}")
    return found


def clock(roots: Roots = LIVE) -> str:
    """``synchronized``, ``unsynchronized`` or ``unknown``: what the kernel says of its clock.

    systemd-timesyncd's mark counts, then adjtimex(2). A virtual machine's kernel may be told the
    time by its host and still say that nobody synchronises it.
    """
    if (roots.run / "systemd/timesync/synchronized").exists():
        return "synchronized"
    if not roots.live:
        return "unknown"
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return "unknown"
    if state < 0:
        return "unknown"
    return "unsynchronized" if state == TIME_ERROR else "synchronized"


def process_token(pid: int, roots: Roots = LIVE) -> str:
    """``<boot id> <pid> <start time>``: names a process so that a later one with its number is not taken for it."""
    return f"{boot_id(roots)} {pid} {_start_time(pid, roots)}"


def is_process(token: str, roots: Roots = LIVE) -> bool:
    """Whether the process of this `process_token` still runs."""
    words = token.split()
    if len(words) != 3 or not words[1].isascii() or not words[1].isdigit():
        return False
    return words[2] != "-" and token == process_token(int(words[1]), roots)


def _start_time(pid: int, roots: Roots) -> str:
    """Clock ticks after boot (proc_pid_stat(5), field 22); ``-`` when there is no such process."""
    after_name = read_bytes(roots.proc / str(pid) / "stat").rpartition(b")")[2].split()
    return after_name[19].decode("ascii") if len(after_name) > 19 and after_name[0] != b"Z" else "-"
