"""How far the shredding of a vault's key has come in an order; the vault's own journal has the rest."""

from __future__ import annotations

from dataclasses import dataclass

from expunge_agent.core.entry import Entry

KINDS = ("shred-starting",)


@dataclass
class VaultProgress:
    """``begun``: the vault was told to replace its root key."""

    begun: bool = False

    def apply(self, _record: Entry) -> None:
        """Take in a record of a kind in `KINDS`."""
        self.begun = True
