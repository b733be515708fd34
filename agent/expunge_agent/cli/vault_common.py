"""What the verbs of the vault share: options, passphrase, progress."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from expunge_agent.devices.private_child import keep_out_of_dumps, lock_memory
from expunge_agent.errors import UsageError
from expunge_agent.protocol.base import timestamp
from expunge_agent.terminal import size_text, time_text
from expunge_agent.vault.access import Access
from expunge_agent.vault.secret import Secret
from expunge_agent.vault.session import Place

_EVERY = {True: 0.2, False: 5.0}
"""Seconds between progress lines, on a terminal and elsewhere."""

vault_argument = click.argument("vault", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    envvar="EXPUNGE_VAULT_PASSPHRASE_FILE",
    help="File with the passphrase (of a token: the PIN) on its first line; asked for if left out.",
)


def now() -> str:
    """The present moment, as documents have it."""
    return timestamp(datetime.now(UTC))


def known(obj: dict[str, object]) -> Path:
    """Where this machine keeps what it knows of vaults."""
    return Path(str(obj["state"])) / "vaults"


def place_of(obj: dict[str, object], vault: Path) -> Place:
    """The vault that the command line names."""
    return Place(vault.absolute(), known(obj))


def access_of(obj: dict[str, object], passphrase_file: Path | None, *, new: bool = False) -> Access:
    """How to get at the keys; the passphrase is read or asked for once, at first need."""
    kept: list[Secret] = []

    def passphrase() -> Secret:
        if not kept:
            kept.append(_passphrase(passphrase_file, new=new))
            atexit.register(kept[0].wipe)
        return kept[0]

    return Access(known(obj), passphrase)


def _passphrase(path: Path | None, *, new: bool) -> Secret:
    keep_out_of_dumps()  # this process holds the passphrase until it ends
    lock_memory()
    if path is not None:
        return Secret.first_line(path)
    if sys.stdin.isatty():
        found = Secret.typed("Passphrase")
        if new and not found.same_as(Secret.typed("The same again")):
            raise UsageError("The two were not the same.", "Type it anew.")
        return found
    raise UsageError("Nobody is there to ask for the passphrase.", "Add --passphrase-file.")


class Meter:
    """Progress on standard error: a moving line on a terminal, a plain one now and then elsewhere."""

    def __init__(self, what: str, total: int, *, quiet: bool) -> None:
        self._what, self._total, self._quiet = what, total, quiet
        self._begun = self._said = time.monotonic()
        self._moving = sys.stderr.isatty()

    def __call__(self, done: int) -> None:
        """`done` bytes are through."""
        instant = time.monotonic()
        if self._quiet or instant - self._said < _EVERY[self._moving]:
            return
        self._said = instant
        rate = int(done / max(instant - self._begun, 0.001))
        line = f"{self._what}: {size_text(done)}"
        if self._total:
            left = (self._total - done) // max(rate, 1)
            line += f" of {size_text(self._total)}, ETA {time_text(left)}"
        line += f", {size_text(rate)}/s"
        click.echo(f"\r{line:<78}" if self._moving else line, err=True, nl=not self._moving)

    def close(self) -> None:
        """End a moving line."""
        if self._moving and not self._quiet and self._said > self._begun:
            click.echo("", err=True)


def metered(meter: Meter, act: Callable[[Callable[[int], None]], Any]) -> Any:
    """Do `act` with progress told to `meter`."""
    try:
        return act(meter)
    finally:
        meter.close()


def ours(name: int) -> int:
    """A duplicate of standard input or output that a child may be given under its own number."""
    return os.dup(name)
