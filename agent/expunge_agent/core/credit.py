"""What a technique earns on this very medium, and what of it it leaves out, whether or not it can be used."""

from __future__ import annotations

from expunge_agent.core.case import Case
from expunge_agent.core.drive import HiddenArea
from expunge_agent.core.guard import listing
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.technique import BY_KEY, Technique, earns
from expunge_agent.core.volume import uncredited
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.key_rules import lesser

DISCARDS = (Technique.SECURE_DISCARD, Technique.DISCARD, Technique.ZERO_OUT)
"""Commands that unmap or zero: they prove nothing."""


def is_command(technique: Technique) -> bool:
    """Whether the drive itself carries it out, on all of itself (or of a namespace)."""
    return technique not in (Technique.OVERWRITE, *BY_KEY, *DISCARDS)


def credit(case: Case, technique: Technique) -> Level:
    """The most `technique` earns on this very medium when nothing hinders it (see `technique.earns`).

    A TCG revert takes the data away only where the drive encrypts what it stores, which Pyrite does
    not: elsewhere it earns nothing.
    """
    if technique is Technique.OPAL_REVERT and case.drive is not None:
        opal = case.drive.opal
        if opal is None or not opal.media_encryption or "pyrite" in opal.ssc.lower():
            return Level.NONE
    if technique is Technique.LUKS_ERASE:
        luks = case.scope.luks
        return lesser(earns(technique, case.type), luks.level) if isinstance(luks, LuksCase) else Level.NONE
    return earns(technique, case.type)


def shortfall(case: Case, technique: Technique) -> str:
    """Why `technique` cannot count for the whole medium, in words; empty when nothing is left out.

    Space that the drive keeps from the host counts as left out unless it can be given back first, for
    its own commands as well: what could not be seen cannot be verified (NIST SP 800-88 r2: hidden areas
    are grounds for doubt).
    """
    drive = case.drive
    if technique is Technique.LUKS_ERASE:
        luks = case.scope.luks
        if isinstance(luks, LuksCase) and luks.level is Level.NONE:
            return f"the conditions of cryptographic erase are not met: {luks.lacking}"
    if array := uncredited(case.medium.volume):
        return array
    if drive is None or case.medium.partition:
        return ""
    stuck = [area for area in drive.hidden if area.size and (drive.distrusted or not area.restorable)]
    if stuck:
        areas = " and ".join(f"{area.kind.upper()} of {area.size} bytes" for area in stuck)
        return f"the drive hides space that cannot be given back: {areas}"
    if drive.unreached and is_command(technique) and earns(technique, case.type) is Level.PURGE:
        return "; ".join(drive.unreached)  # to clear, as an overwrite does, is to clear what the target is
    if drive.doubtful_areas:
        return f"the drive does not tell all that it hides: {listing(drive.doubtful_areas)}"
    apparent, native = int(drive.apparent), int(drive.native)
    if native > apparent > 0 and not any(area.size for area in drive.hidden):
        return f"the drive keeps {native - apparent} bytes from the host and does not say how"
    if apparent and case.medium.size > apparent:
        return f"the host sees {case.medium.size} bytes and the drive says it has {apparent}"
    if technique is Technique.OVERWRITE and apparent > case.medium.size:
        return f"the host reaches {case.medium.size} of the {apparent} bytes that the drive says it has"
    return ""


def given_back(case: Case, technique: Technique) -> list[HiddenArea]:
    """Hidden areas that the drive gives back before it is given the command; an overwrite gives none back."""
    return restorable(case) if is_command(technique) else []


def restorable(case: Case) -> list[HiddenArea]:
    """Hidden areas that the drive says it gives back, and that can be believed."""
    if case.drive is None or case.medium.partition or case.drive.distrusted:
        return []
    return [area for area in case.drive.hidden if area.size and area.restorable]
