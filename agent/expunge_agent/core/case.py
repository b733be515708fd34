"""All that is known when a technique is weighed for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from expunge_agent.core.drive import Drive
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.protocol.identity import Target
from expunge_profiles.schema import Profile


@dataclass(frozen=True)
class Scope:
    """What else of this machine the order takes in. Namespaces by their name in /sys/block.

    ``ordered``: those that are targets of the same order. ``in_use``: those that must not be touched now,
    and why. ``luks``: the LUKS volume that the target is, or why it is none.
    """

    ordered: frozenset[str] = frozenset()
    in_use: Mapping[str, str] = field(default_factory=dict)
    luks: LuksCase | str = ""


ALONE = Scope()


@dataclass(frozen=True)
class Case:
    """All that is known when a technique is weighed. ``type`` is `settled.settled_type`."""

    target: Target
    medium: Medium
    drive: Drive | None
    type: MediumType
    profile: Profile | None
    scope: Scope
