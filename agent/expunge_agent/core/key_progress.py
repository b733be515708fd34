"""How far the destruction of a key has come, folded from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field

from expunge_agent.core.entry import Entry
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_agent.protocol.receipt_keys import KeyCopy, KeyEvidence

KINDS = ("key-step-begun", "key-step")


class KeyStep(Frozen, frozen=True):
    """One step: begun, or ``done`` with what came of it. ``trouble``: why the key cannot be called destroyed."""

    name: Name
    done: bool = False
    detail: Text = ""
    trouble: Text = ""
    copies: list[KeyCopy] = []
    evidence: list[KeyEvidence] = []


@dataclass
class KeyProgress:
    """The steps by name, each as it was journalled last."""

    steps: dict[str, KeyStep] = field(default_factory=dict)

    def apply(self, record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        step = canonical.convert(record.data["step"], KeyStep)
        self.steps[step.name] = step

    @property
    def touched(self) -> bool:
        """Whether anything may have been changed."""
        return bool(self.steps)

    def done(self, name: str) -> KeyStep | None:
        """The step with this name if it came to its end."""
        step = self.steps.get(name)
        return step if step is not None and step.done else None
