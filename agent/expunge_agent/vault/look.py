"""Looking at a vault without any key: what its journal and keystore say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Never

from expunge_agent.errors import PermissionProblemError
from expunge_agent.protocol.base import Timestamp
from expunge_agent.vault.holders.port import FileSettings, HolderSettings, TpmSettings
from expunge_agent.vault.session import Place, Session, session


@contextmanager
def looking(place: Place, now: Timestamp) -> Iterator[Session]:
    """Hold the vault, but not its keys."""
    with session(place, _nobody, now) as held:
        if why := held.gap():
            held.story.gaps.append(why)
        yield held


def _nobody() -> Never:
    raise PermissionProblemError("No passphrase was asked for here.", "Report this.")


def where(settings: HolderSettings) -> str:
    """Where the root keys are kept, in words."""
    if isinstance(settings, FileSettings):
        return f"files in {settings.folder}"
    if isinstance(settings, TpmSettings):
        return f"TPM ({settings.tcti}), NV index {settings.index:#010x} and the next"
    return f"token {settings.token!r} ({settings.module})"
