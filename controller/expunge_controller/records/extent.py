"""How many bytes the passes of a receipt had to go over, and how many its target has to show for them."""

from __future__ import annotations

from expunge_agent.protocol.receipt import TargetResult
from expunge_profiles.techniques import LUKS


def size_of(result: TargetResult) -> int:
    """Bytes that a certificate measures coverage by: the target's, or those of the files that filled free space."""
    if result.space is not None:
        return int(result.space.filled or 0)
    return int(result.target.identity.size)


def extent_of(result: TargetResult) -> int:
    """Bytes that the passes had to go over: `size_of`, or where LUKS keeps its keys."""
    if result.technique == LUKS and result.key is not None:
        return int(result.key.overwritten)
    return size_of(result)
