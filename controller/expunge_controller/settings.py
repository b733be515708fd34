"""The controller's folder: where it lies, what is in it, and its configuration file.

The folder is ``--home``, else ``EXPUNGE_HOME``, else ``/var/lib/expunge-controller`` for root and
``$XDG_DATA_HOME/expunge`` (``~/.local/share/expunge``) for everyone else.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from expunge_agent.errors import NotFoundError, StateError, UsageError
from expunge_agent.protocol.base import Frozen
from expunge_controller import files

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
"""What a controller or a machine may be called: it becomes part of a principal in allowed_signers."""
LOOPBACK = "127.0.0.1"

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Limit = Annotated[int, msgspec.Meta(ge=1, le=10_000)]


class Config(Frozen, frozen=True):
    """``config.toml``. ``address`` is what machines dial, ``listen`` what the endpoint binds.

    ``max_connections`` bounds simultaneous connections; while at most ``hold_connections`` are
    open, idle machines stay connected, beyond that they are told to call again. ``ssh_config``
    and ``known_hosts`` are read when the controller dials a machine through a jump host. ``language`` is that of
    PDFs where none is asked for.
    """

    name: Annotated[str, msgspec.Meta(pattern=NAME.pattern)]
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Port
    listen: str = LOOPBACK
    max_connections: Limit = 200
    hold_connections: Limit = 64
    ssh_config: str = "~/.ssh/config"
    known_hosts: str = "~/.ssh/known_hosts"
    language: Literal["en", "zh", "both"] = "both"

    @property
    def principal(self) -> str:
        """The name under which this controller signs."""
        return f"controller:{self.name}"


@dataclass(frozen=True)
class Home:
    """The paths inside a controller's folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration; written last by `init`, so its presence means the folder is whole."""
        return self.path / "config.toml"

    @property
    def database(self) -> Path:
        """The SQLite database."""
        return self.path / "controller.db"

    @property
    def keys(self) -> Path:
        """The folder of private keys."""
        return self.path / "keys"

    @property
    def order_key(self) -> Path:
        """Signs orders, custody events and certificates."""
        return self.keys / "order_key"

    @property
    def next_order_key(self) -> Path:
        """The order key that takes over once its rotation is recorded."""
        return self.keys / "order_key.next"

    @property
    def ssh_host_key(self) -> Path:
        """Proves the SSH endpoint to agents that dial in."""
        return self.keys / "ssh_host_key"

    @property
    def ssh_client_key(self) -> Path:
        """Opens machines that the controller dials."""
        return self.keys / "ssh_client_key"

    @property
    def log_key(self) -> Path:
        """Signs the checkpoints of the transparency log, and nothing else."""
        return self.keys / "log_key"

    @property
    def log_policy(self) -> Path:
        """Who witnesses the log, and how many must have signed; absent: nobody."""
        return self.path / "log-policy.toml"

    @property
    def log_head(self) -> Path:
        """The newest checkpoint signed, kept beside the database so that an older copy of that is noticed."""
        return self.path / "log.checkpoint"

    @property
    def runner_lock(self) -> Path:
        """Held by the one process that moves orders on."""
        return self.path / "runner.lock"

    @property
    def serve_lock(self) -> Path:
        """Held by ``expunge serve``."""
        return self.path / "serve.lock"

    @property
    def init_lock(self) -> Path:
        """Held while the folder is being made."""
        return self.path / "init.lock"


def default_home() -> Path:
    """``EXPUNGE_HOME``, or the usual place for this user."""
    named = os.environ.get("EXPUNGE_HOME")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/expunge-controller")
    data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(data) / "expunge"


def load_config(home: Home) -> Config:
    """The configuration in `home`. Raises NotFoundError where there is none, StateError where it is wrong."""
    try:
        text = home.config.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"There is no controller in {home.path}.",
            "Make one with `expunge init`, or name its folder with --home or EXPUNGE_HOME.",
        ) from error
    try:
        return msgspec.convert(tomllib.loads(text), Config)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise StateError(f"{home.config} is not right: {error}.", "Correct it by hand.") from error


def save_config(home: Home, config: Config) -> None:
    """Write ``config.toml`` as a whole or not at all, 0600."""
    lines = ["# expunge controller; see docs/operator-guide.md", ""]
    for field, value in msgspec.to_builtins(config).items():
        lines.append(f"{field} = {json.dumps(value)}")
    files.write_private(home.config, ("\n".join(lines) + "\n").encode())


def checked_name(name: str, what: str) -> str:
    """`name` when it may stand in a principal and a file name. Raises UsageError."""
    if not NAME.match(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {what}.",
            "Use up to 64 letters, digits, dots, dashes and underscores, a letter or digit first.",
        )
    return name
