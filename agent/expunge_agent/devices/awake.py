"""Keeping the machine from sleeping while drives erase themselves."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from expunge_agent.devices.process import CLEAN_ENVIRONMENT


@contextmanager
def awake(why: str) -> Iterator[bool]:
    """Hold off sleep for as long as this lasts, where systemd runs; whether that was asked for.

    systemd-inhibit(1) holds its lock for as long as the program it started, here one that ends with us.
    """
    if not Path("/run/systemd/system").is_dir() or shutil.which("systemd-inhibit") is None:
        yield False
        return
    command = ["systemd-inhibit", "--what=sleep:idle", "--who=expunge-agent", f"--why={why}", "--mode=block"]
    try:
        process = subprocess.Popen(
            [*command, "cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=CLEAN_ENVIRONMENT,
            cwd="/",
        )
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()
