"""Which machine is connected right now: one live session each, so that a copied agent shows."""

from __future__ import annotations

import threading
from typing import ClassVar, Protocol

from expunge_agent.errors import PeerIdentityError

PROOF_SECONDS = 5.0
"""How long an older session may take to prove that its agent is still there."""


class LiveSession(Protocol):
    """What the registry asks of a session."""

    instance: str

    def prove_alive(self, seconds: float) -> bool:
        """Ask the agent for a sign of life, from another thread."""
        ...

    def stop(self) -> None:
        """End the session soon, from another thread."""
        ...


class DuplicateAgentError(PeerIdentityError):
    """Two running agents claim to be the same machine."""

    code: ClassVar[str] = "duplicate-agent"


class Registry:
    """The live sessions by machine id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: dict[str, LiveSession] = {}
        self._closed = False

    def claim(self, machine_id: str, session: LiveSession) -> None:
        """Make `session` the machine's only one.

        The same instance calling again replaces its older session. Another instance does so only
        when the older one no longer answers; otherwise DuplicateAgentError.
        """
        while True:
            with self._lock:
                older = self._live.get(machine_id)
                if older is None or older.instance == session.instance:
                    self._live[machine_id] = session
                    break
            if older.prove_alive(PROOF_SECONDS):
                raise DuplicateAgentError(
                    "Another agent with this machine's identity is connected already.",
                    "A copied disk image carries its agent's keys: give the copy a fresh state folder.",
                )
            older.stop()
            self.release(machine_id, older)
        if older is not None:
            older.stop()
        if self._closed:  # it was greeted while the others were being ended
            session.stop()

    def release(self, machine_id: str, session: LiveSession) -> None:
        """Forget `session`, unless another one took its place."""
        with self._lock:
            if self._live.get(machine_id) is session:
                del self._live[machine_id]

    def is_live(self, machine_id: str) -> bool:
        """Whether the machine is connected."""
        with self._lock:
            return machine_id in self._live

    def count(self) -> int:
        """How many machines are connected."""
        with self._lock:
            return len(self._live)

    def stop_all(self) -> None:
        """End every session soon."""
        with self._lock:
            sessions = list(self._live.values())
        for session in sessions:
            session.stop()

    def close(self) -> None:
        """End every session soon, and from now on each that claims its place."""
        self._closed = True
        self.stop_all()
