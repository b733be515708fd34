"""How far the shredding of a vault's key has come in an order; the vault's own journal has the rest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class VaultProgress:
    """``begun``: the vault was told to replace its root key."""

    begun: bool = False
