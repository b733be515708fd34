"""Makes a controller's folder; a folder left half made by a crash is completed."""

from __future__ import annotations

import socket
from pathlib import Path

from expunge_agent.errors import UsageError
from expunge_controller import files, key_history, keys, translog
from expunge_controller.context import Controller, utc_now
from expunge_controller.settings import Config, Home, save_config
from expunge_controller.store.sqlite import open_store

OURS = (
    "config.toml", "controller.db", "keys", "init.lock", "runner.lock", "serve.lock", "log-policy.toml",
    "log.checkpoint",
)  # fmt: skip


def init(home: Home, config: Config) -> None:
    """Make keys, database and, last, the configuration.

    Raises UsageError when the folder is a controller's already, or holds somebody else's files.
    """
    _folder(home.path)
    with files.locked(home.init_lock, f"{home.path} is being made right now.", "Wait for the other command."):
        if home.config.exists():
            raise UsageError(
                f"{home.path} is a controller's folder already; nothing was changed.",
                "Use it as it is, or name another folder with --home.",
            )
        _folder(home.keys)
        for path, purpose in (
            (home.order_key, "orders"),
            (home.ssh_host_key, "endpoint"),
            (home.ssh_client_key, "dialling"),
        ):
            keys.ensure_key(path, f"expunge-{config.name}-{purpose}")
        store = open_store(home.database, create=True)
        try:
            translog.begin(home, config.name, store, utc_now())
            key_history.begin(Controller(home, config, store, keys.load_key(home.order_key)), utc_now())
        finally:
            store.close()
        save_config(home, config)


def free_port(listen: str) -> int:
    """A TCP port that is free on the address `listen` now."""
    family = socket.AF_INET6 if ":" in listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((listen, 0))
        return int(probe.getsockname()[1])


def _folder(path: Path) -> None:
    """Make `path` with mode 0700, or take it over when it is empty or ours."""
    if path.exists() or path.is_symlink():
        if not path.is_dir():
            raise UsageError(f"{path} is not a folder.", "Name another one with --home.")
        strangers = sorted(
            entry.name
            for entry in path.iterdir()
            if not entry.name.startswith((*OURS, ".")) and not _key(entry)
        )
        if strangers:
            raise UsageError(
                f"{path} holds other files ({', '.join(strangers[:3])}).",
                "Name an empty or new folder with --home.",
            )
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    files.sync_folder(path.parent)


def _key(entry: Path) -> bool:
    return entry.name.removesuffix(".pub") in ("order_key", "ssh_host_key", "ssh_client_key", "log_key")
