"""Which technique a target gets: medium × drive × level × profile × order, with every reason as output.

Nothing is left to silence: each technique of the closed table is a candidate, usable or with the reason why
not. A technique that earns less than the order asks for is taken only where the order allows a downgrade,
and the reason is written. Once a sanitize has started this is not asked again.
"""

from __future__ import annotations

from expunge_agent.core.case import ALONE, Case, Scope
from expunge_agent.core.credit import credit, given_back, shortfall
from expunge_agent.core.drive import Drive, HiddenArea, NvmeNamespace
from expunge_agent.core.guard import readable
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.obstacles import (
    OTHER_PROFILE,
    Obstacle,
    obstacle,
    other_namespaces,
    reaches_all,
    unfit_medium,
)
from expunge_agent.core.preference import UNKNOWN, estimate, preference, read_back_seconds
from expunge_agent.core.settled import settled_type
from expunge_agent.core.technique import Technique, earns
from expunge_agent.core.volume import uncredited
from expunge_agent.protocol.base import Frozen, Level, Text
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_profiles.schema import Profile

__all__ = ["ALONE", "Candidate", "Scope", "Selection", "select", "taken"]

DESTROY = "Otherwise destroy the medium physically, with a witness."
_RANK = [Level.NONE, Level.CLEAR, Level.PURGE]


class Candidate(Frozen, frozen=True):
    """One technique, weighed. ``why_not`` is empty when it is usable.

    ``earns``: the most it earns on this very medium, or would if nothing stood in its way; lower than the
    table's where something is left out, which ``detail`` then says. ``seconds``: an estimate of the erase
    itself, −1 unknown; ``seconds_from``: where it comes from, in words.
    """

    technique: Technique
    usable: bool
    earns: Level
    why_not: Text = ""
    seconds: int = -1
    seconds_from: Text = ""
    detail: Text = ""


class Selection(Frozen, frozen=True):
    """What was weighed and what is taken. ``candidates`` stand in the order of preference.

    ``restores``: hidden areas to give back before anything else. ``takes_too``: further namespaces whose
    data go with it. ``downgrade``: why less than the level asked is taken, empty when it is not.
    ``read_back_seconds``: one read-back as the profile has it, −1 unknown.
    """

    level: Level
    type: MediumType
    candidates: list[Candidate]
    chosen: Technique | Refusal
    restores: list[HiddenArea] = []
    takes_too: list[NvmeNamespace] = []
    downgrade: Text = ""
    read_back_seconds: int = -1


def select(
    target: Target,
    medium: Medium,
    drive: Drive | None,
    profile: Profile | None,
    level: Level,
    allow_downgrade: bool,
    scope: Scope = ALONE,
) -> Selection:
    """Weigh every technique for one target; see `taken` for what came of it.

    `drive` is None where none answers: files, virtual devices, no pass-through. Without `profile`
    everything is allowed. A profile that aims higher than the order gets what it aims at if it can.
    """
    case = Case(target, medium, drive, settled_type(medium, drive), profile, scope)
    found = {one: obstacle(case, one) for one in preference(case.type, level, profile)}
    candidates = [_candidate(case, one, against) for one, against in found.items()]
    aims = [level] if profile is None else [_higher(level, Level(profile.level)), level]
    chosen = _first(candidates, aims)
    downgrade = ""
    if chosen is None and allow_downgrade:
        chosen = _best(candidates)
        downgrade = _said(case, level, found, chosen) if chosen is not None else ""
    return Selection(
        level=level,
        type=case.type,
        candidates=candidates,
        chosen=chosen.technique if chosen is not None else _refusal(case, level, found, candidates),
        restores=given_back(case, chosen.technique) if chosen is not None else [],
        takes_too=_takes_too(case, chosen),
        downgrade=downgrade,
        read_back_seconds=read_back_seconds(medium.size, case.type, profile),
    )


def taken(selection: Selection) -> Candidate | Refusal:
    """What the selection came to: the candidate that is carried out, or the refusal."""
    if isinstance(selection.chosen, Refusal):
        return selection.chosen
    return next(one for one in selection.candidates if one.technique is selection.chosen)


def _candidate(case: Case, technique: Technique, against: Obstacle | None) -> Candidate:
    missing = shortfall(case, technique)
    passes = len(case.profile.passes) if case.profile is not None else 1
    possible = against is None or (case.drive is not None and case.drive.ability(technique).offered)
    time = estimate(technique, case.medium.size, case.type, case.drive, passes) if possible else UNKNOWN
    return Candidate(
        technique=technique,
        usable=against is None,
        earns=Level.NONE if missing else credit(case, technique),
        why_not=against.why[:1000] if against is not None else "",
        seconds=time.seconds,
        seconds_from=time.source,
        detail="" if against is not None else _detail(case, technique, missing, passes),
    )


def _detail(case: Case, technique: Technique, missing: str, passes: int) -> str:
    """What a person should know of a technique that can be used."""
    said = []
    if missing:
        said.append(f"earns nothing for the whole medium: {missing}")
    if technique is Technique.OVERWRITE and case.profile is not None:
        said.append("1 pass" if passes == 1 else f"{passes} passes")
    said += [
        f"gives the {area.kind.upper()} of {area.size} bytes back first"
        for area in given_back(case, technique)
    ]
    if reaches_all(case, technique):
        others = other_namespaces(case) or ()
        said += [f"takes {readable(one.node, 100)} too" for one in others]
    return "; ".join(said)[:2000]


def _first(candidates: list[Candidate], aims: list[Level]) -> Candidate | None:
    """The first usable one that earns the first of `aims` that any earns."""
    for aim in aims:
        for one in candidates:
            if one.usable and one.earns.reaches(aim):
                return one
    return None


def _best(candidates: list[Candidate]) -> Candidate | None:
    """The first of those that earn most. One that earns nothing because something is left out is still
    better than nothing done: its receipt lists the exception."""
    return max(
        (one for one in candidates if one.usable), key=lambda one: _RANK.index(one.earns), default=None
    )


def _higher(one: Level, other: Level) -> Level:
    return one if one.reaches(other) else other


def _takes_too(case: Case, chosen: Candidate | None) -> list[NvmeNamespace]:
    if chosen is None or not reaches_all(case, chosen.technique):
        return []
    return list(other_namespaces(case) or ())


def _refusal(
    case: Case, level: Level, found: dict[Technique, Obstacle | None], candidates: list[Candidate]
) -> Refusal:
    name = readable(case.medium.path, 500)
    profile = case.profile
    unfit = unfit_medium(case.medium, case.type, profile) if profile is not None else ""
    if profile is not None and unfit:
        return Refusal(
            reason=Reason.PROFILE_NOT_APPLICABLE,
            detail=f"Profile {profile.id} is for {', '.join(profile.media)}; {unfit}.",
            remedy=OTHER_PROFILE,
        )
    nearly = [against for one, against in found.items() if against and credit(case, one).reaches(level)]
    others = any(one.reason is Reason.OTHER_NAMESPACES for one in nearly)
    # On a file or a virtual device nothing comes near purge; what stands below it may.
    helpful = nearly or [against for against in found.values() if against]
    remedies = list(dict.fromkeys(one.remedy for one in helpful if one.remedy))
    if uncredited(case.medium.volume):
        remedies.insert(0, "Take the array apart and order each of its members.")
    less = _best(candidates)
    if less is not None:
        remedies.append(f"Or allow a downgrade: {less.technique} earns {less.earns}.")
    return Refusal(
        reason=Reason.OTHER_NAMESPACES if others else Reason.LEVEL_NOT_ACHIEVABLE,
        detail=f"The order asks for {level}; {name} cannot have it. {_why_out(case, level, found)}"[:4000],
        remedy=" ".join([*remedies, DESTROY])[:4000],
    )


def _said(case: Case, level: Level, found: dict[Technique, Obstacle | None], chosen: Candidate | None) -> str:
    if chosen is None:
        return ""
    text = f"The order asks for {level} and allows less: {chosen.technique} earns {chosen.earns}."
    return f"{text} {_why_out(case, level, found)}"[:4000]


def _why_out(case: Case, level: Level, found: dict[Technique, Obstacle | None]) -> str:
    """Why each technique that can earn `level` on any medium does not do so here, those of one reason together."""
    groups: dict[str, list[str]] = {}
    for technique, against in found.items():
        if not any(earns(technique, kind).reaches(level) for kind in MediumType):
            continue
        if against is not None:
            why = against.why
        elif missing := shortfall(case, technique):
            why = missing
        else:
            why = f"earns {credit(case, technique)} at the most on a medium of type {case.type}"
        groups.setdefault(why, []).append(technique.value)
    return " ".join(f"{', '.join(names)}: {why}." for why, names in groups.items())
