"""A bundle whose keys have a history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from expunge_agent.protocol.base import timestamp
from expunge_controller.bundle import KeyEventParts, SignedBytes, bundle_files
from expunge_controller.records.key_event import KeyEventKind, check_chain, narrowed, signers_of
from support.evidence import MACHINE, World, key_entry
from support.logs import WITNESSED_AT

AGENT = f"agent:{MACHINE}"
SEEN = datetime.fromtimestamp(WITNESSED_AT, UTC)
"""When the witness signed the checkpoint with the receipt (entry 3) in it."""


def seen(seconds: int) -> str:
    """A time around the witness's."""
    return timestamp(SEEN + timedelta(seconds=seconds))


class Story(World):
    """A world in which more happens to the agent's key, or to the controller's."""

    def bundle(
        self, *events: tuple[int, SignedBytes], witnessed: bool = True, others: tuple[SignedBytes, ...] = ()
    ) -> dict[str, bytes]:
        """A bundle with further events of the agent, each at its place in a log of nine entries; `others` are the
        controller's."""
        size = 9
        agents = [(2, self.key_events[1]), *events]
        ours = [(1, self.key_events[0]), *((7 + number, event) for number, event in enumerate(others))]
        self.log.fixed = {place: key_entry(event) for place, event in (*ours, *agents)}
        parts = self.parts()
        reference = self.log.reference(parts.receipt, size=size, witnessed=witnessed)
        signers = [
            signer
            for chain in (ours, agents)
            for signer in signers_of(check_chain([event.body for _, event in chain]))
        ]
        made = parts._replace(
            signers=narrowed(signers, with_people=False),
            certificate=self.certificate(parts.receipt, self.order(), reference),
            log=self.log.parts(parts.receipt, size=size, witnessed=witnessed),
            key_events=[
                KeyEventParts(*event, self.log.proof(parts.receipt, place, size, witnessed=witnessed))
                for place, event in (*ours, *agents)
            ],
        )
        return bundle_files(made)

    def about(self, kind: KeyEventKind, when: str, **changes: Any) -> SignedBytes:
        """An event that ends the agent's key."""
        fields = {"event": kind, "at": when, "since": when, **changes}
        return self.key_event(AGENT, self.key_events[1:], **fields)
