"""Paper records as media: a box or folder, known by the organisation's number for it. No agent touches it."""

from __future__ import annotations

from typing import Literal

from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import Identity
from expunge_controller.records.consistency import MAX_SUBJECT_NAME, medium_of
from expunge_controller.records.custody_people import PAPER


class PaperIdentity(Frozen, frozen=True, tag_field="kind", tag="paper"):
    """``number`` is what the organisation wrote on it, and tells it from others; what may change (count, seal) stands
    in custody."""

    container: Literal["box", "folder", "file", "binder", "other"]
    number: Name
    description: Name

    @property
    def size(self) -> U64:
        """Bytes; paper has none."""
        return U64(0)


Registered = Identity | PaperIdentity
"""What the register of media may hold."""


def registered_as(identity: Registered) -> tuple[str, str]:
    """(subject name, digest) by which custody calls what is registered with this identity."""
    if isinstance(identity, PaperIdentity):
        return f"{PAPER}{identity.container}:{identity.number}"[:MAX_SUBJECT_NAME], canonical.digest(identity)
    return medium_of(identity)
