"""What a custody event may hold besides who, where and when: people, a destruction, a remedy, a quality check."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from expunge_agent.protocol.base import Frozen, Name, Text
from expunge_profiles.custody_rules import custody_rules

PersonName = Annotated[str, msgspec.Meta(pattern=r"^(?!sig\Z)[a-z0-9][a-z0-9_-]{0,63}\Z")]
"""How a person is called in documents and files: lower case, so that no file system confuses two."""
Role = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,20}\Z")]
Millimetres = Annotated[str, msgspec.Meta(pattern=r"^([1-9][0-9]{0,3}|0)?(\.[0-9]{1,3})?\Z")]
"""A decimal number such as ``2`` or ``0.5``, or empty; documents hold no floats."""
PERSON_ROLES = custody_rules().roles


class Participant(Frozen, frozen=True):
    """Who took part in which role; the person signs the event's bytes."""

    role: Role
    person: PersonName


class Destruction(Frozen, frozen=True):
    """A physical destruction. ``particle_mm``: largest edge of what was left; ``temperature_c``: 0 where none."""

    method: Name
    particle_mm: Millimetres = ""
    temperature_c: Annotated[int, msgspec.Meta(ge=0, le=9999)] = 0


class Remedy(Frozen, frozen=True):
    """What has to follow a rejection (NIST SP 800-88 r2 §4.5.2: another technique, or escalate)."""

    action: Literal["repeat", "destroy"]
    technique: Name


class Quality(Frozen, frozen=True):
    """A second look at a sanitized medium: drawn by which lot, with which tool."""

    lot: Name
    tool: Name
    found: Text = ""
