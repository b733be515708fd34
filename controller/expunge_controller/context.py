"""An opened controller: its folder, configuration, store and signing key, handed to whoever needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from expunge_agent.protocol.sshsig import PrivateKeySigner
from expunge_controller import key_history, keys, translog
from expunge_controller.settings import Config, Home, load_config
from expunge_controller.store.port import Store
from expunge_controller.store.sqlite import open_store


@dataclass(frozen=True)
class Controller:
    """What the parts of the controller share. ``signer`` is the order key."""

    home: Home
    config: Config
    store: Store
    signer: PrivateKeySigner

    @property
    def principal(self) -> str:
        """The name under which this controller signs."""
        return self.config.principal


@contextmanager
def opened(home: Home) -> Iterator[Controller]:
    """The controller in `home`. Raises NotFoundError, StateError or PermissionProblemError."""
    config = load_config(home)
    store = open_store(home.database)
    try:
        key_history.settle(home, store, config.principal)
        controller = Controller(home, config, store, keys.load_key(home.order_key))
        translog.begin(home, config.name, store, utc_now())
        key_history.begin(controller, utc_now())
        yield controller
    finally:
        store.close()


def utc_now() -> datetime:
    """The controller's clock; pure parts get its value as an argument."""
    return datetime.now(UTC)
