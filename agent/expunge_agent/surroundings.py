"""All that a run needs from outside, in one place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from expunge_agent.core.guard import DEFAULT_SYSTEM, SystemPaths
from expunge_agent.engine.pace import Pace
from expunge_agent.engine.tuning import Tuning
from expunge_agent.engine.watchdog import PATIENCE
from expunge_agent.turns import Turns
from expunge_agent.vault.access import Access
from expunge_profiles.schema import Profile


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def protected(state: Path) -> SystemPaths:
    """What must never be a target: the system's own paths, and the state folder by every name it has."""
    return replace(DEFAULT_SYSTEM, own=tuple({str(state), os.path.realpath(state)}))


@dataclass(frozen=True)
class Surroundings:
    """`stop` ends the run soon and seals what was done; with `pause` set too it seals nothing, so that
    the order goes on at the next start. `checkpoint_seconds` is how much work a crash may cost, `patience`
    the seconds after which a medium that answers nothing is given up, `absence` how many seconds one that
    disappeared is waited for. A drive that erases itself is asked every `poll` seconds how far it is, and given
    up after `erase_timeout` (None: what it declares); `turns` is whom drives that erase themselves wait for
    (None: nobody). `vaults`: for orders to shred a key of a vault."""

    profiles: Mapping[str, Profile]
    now: Callable[[], datetime] = utc_now
    stop: threading.Event = field(default_factory=threading.Event)
    pause: threading.Event = field(default_factory=threading.Event)
    tuning: Tuning = field(default_factory=Tuning.default)
    checkpoint_seconds: float = 5.0
    patience: float = PATIENCE
    absence: float = 0.0
    poll: float = 2.0
    erase_timeout: float | None = None
    turns: Turns | None = None
    system: SystemPaths = DEFAULT_SYSTEM
    parallel: int = 32
    per_lane: int = 0
    pace: Pace = field(default_factory=Pace)
    calibrate: bool = False
    vaults: Access | None = None
