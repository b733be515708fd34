"""A volume under one order, folded from the journal: what it lies on, and what was taken down above it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from expunge_agent.core.deactivation import Step
from expunge_agent.core.entry import Entry
from expunge_agent.core.guard import listing, readable
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Text
from expunge_agent.protocol.receipt_steps import DeactivationStep, End, Member

KINDS = ("deactivating", "deactivated")


class VolumeFacts(Frozen, frozen=True):
    """A volume as it was when its wipe was planned: what it lies on, what a wipe leaves, and what is missing of it."""

    members: list[Member] = []
    not_covered: list[Text] = []
    doubts: list[Text] = []


@dataclass
class VolumeProgress:
    """``steps`` in the order in which they were begun; the last may have no end (``begun``)."""

    facts: VolumeFacts = field(default_factory=VolumeFacts)
    steps: list[DeactivationStep] = field(default_factory=list)
    last_uuid: str = ""
    """That of the device of the step begun last."""

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        if record.kind == "deactivating":
            self._begin(record.data)
        else:
            self._end(record.data)

    def _begin(self, data: dict[str, Any]) -> None:
        step = canonical.convert(data["step"], Step)
        self.last_uuid = step.uuid
        self.steps.append(
            DeactivationStep(
                what=step.what.value, on=step.on, device=step.device, ended="begun", beside=step.beside
            )
        )

    def _end(self, data: dict[str, Any]) -> None:
        ended: End = data["ended"]
        self.steps[-1] = msgspec.structs.replace(self.steps[-1], ended=ended, said=data["said"])

    @property
    def left_open(self) -> DeactivationStep | None:
        """The step that was begun and of which no end is journalled."""
        return self.steps[-1] if self.steps and self.steps[-1].ended == "begun" else None

    def taken_down(self) -> list[str]:
        """What is down by this order, as it may stand in a sentence."""
        return [
            f"{readable(one.on, 200)} ({one.what})" for one in self.steps if one.ended in ("done", "gone")
        ]

    def beside(self) -> list[str]:
        """What else what was taken down stood on, as sentences."""
        said = [
            f"{readable(one.on, 300)} stood on {listing(one.beside)} too: what lies there, its metadata among it, "
            "was not touched."
            for one in self.steps
            if one.beside and one.ended in ("done", "gone")
        ]
        return list(dict.fromkeys(said))
