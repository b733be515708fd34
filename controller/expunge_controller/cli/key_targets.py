"""Keys as targets: which folder's, which subject's; and whether the policy can destroy such a key at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from expunge_agent.errors import ProfileProblemError, UsageError
from expunge_agent.protocol import wire
from expunge_agent.protocol.identity import KeyIdentity, Target

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

FSCRYPT, VAULT = "fscrypt:", "vault:"
"""Before the folder on the machine, as the agent's inventory spells them."""
_SHOWN = 20
_TECHNIQUE = {"fscrypt": "fscrypt-key-removal", "vault": "vault-shred"}
"""By the scheme of a key; a profile of the same name allows it."""


def check_subject(answer: wire.Inventory, text: str) -> None:
    """Raise UsageError for a vault without a subject: all that is in it is never meant."""
    _, mark, subject = text.rpartition("#")
    if not text.startswith(VAULT) or (mark and subject and "/" not in subject):
        return
    found = [item.path for item in answer.items if text in item.asked]
    listed = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    if found or not answer.problems:
        raise UsageError(
            f"{text} names no subject of the vault.",
            f"Name one: {listed}" if found else "It has none yet: see `expunge-agent vault put`.",
        )


def check_profile(targets: Iterable[Target], profile: Profile) -> None:
    """Raise ProfileProblemError for a key that no technique of `profile` destroys: the agent would refuse it."""
    for target in targets:
        if not isinstance(target.identity, KeyIdentity):
            continue
        technique = _TECHNIQUE.get(target.identity.scheme, "")
        if technique not in profile.techniques:
            raise ProfileProblemError(
                f"The profile {profile.id} does not destroy keys such as {target.hint}.",
                f"Choose {technique or 'another one'}; see `expunge profiles list`.",
            )


def in_words(identity: KeyIdentity) -> str:
    """What is going to be destroyed, for a person who has to say yes."""
    if identity.scheme == "fscrypt":
        return f"the folder's key {identity.key}; all folders with it become unreadable"
    return f"the key {identity.key} of this subject; all its data become unreadable, wherever they are"
