"""What an order says of keys beyond the target: who vouches for what, where to look for copies, which header."""

from __future__ import annotations

from typing import Annotated

import msgspec

from expunge_agent.protocol.base import Frozen, Name, PathText
from expunge_agent.protocol.identity import FileIdentity
from expunge_agent.protocol.receipt_keys import Holds


class KeyStatement(Frozen, frozen=True):
    """Somebody's word on one condition (`key_rules.STATED`); what the machine sees to the contrary outweighs it."""

    id: Name
    holds: Holds
    said_by: Name


class KeyWish(Frozen, frozen=True):
    """For targets whose key is destroyed. ``search``: folders to look through for copies of the header or key;
    ``roots``: root folders of systems whose ``etc/crypttab`` may name keys; ``header``: the file with the LUKS
    header of the (only) target, where it does not stand on the target itself."""

    statements: Annotated[list[KeyStatement], msgspec.Meta(max_length=16)] = []
    search: Annotated[list[PathText], msgspec.Meta(max_length=16)] = []
    roots: Annotated[list[PathText], msgspec.Meta(max_length=16)] = []
    header: FileIdentity | None = None
