"""What `plan` weighed for one target; targets that are no medium but a file system's free space or a folder's key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from expunge_agent.core.deactivation import Step
from expunge_agent.core.fscrypt import FscryptCase, busy
from expunge_agent.core.guard import SystemPaths, readable
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.selection import Candidate, Selection, taken
from expunge_agent.core.space import Space, reserve_of, space_refusal
from expunge_agent.core.space_plan import space_objection
from expunge_agent.core.technique import Technique, earns
from expunge_agent.devices.fscrypt import holders
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.space import PREFIX as FREE_SPACE
from expunge_agent.devices.space import look_at_space
from expunge_agent.fscrypt_run import PREFIX as FSCRYPT
from expunge_agent.fscrypt_run import case_of, identify, key_objection, stored_unwritable
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import Identity, SpaceWish
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.terminal import size_text
from expunge_profiles.schema import Profile

SPECIAL = (FREE_SPACE, FSCRYPT)
_NO_TARGET = (Reason.SYMBOLIC_LINK, Reason.WRONG_KIND, Reason.UNSUPPORTED)
"""Of a file system: there is nothing to weigh."""


@dataclass(frozen=True)
class Planned:
    """One target: what forbids it altogether, and what was weighed (None when there is no medium).

    ``identity`` and ``what`` are of targets without a medium.
    """

    path: str
    medium: Medium | None
    blocked: Sequence[Refusal]
    selection: Selection | None
    deactivation: Sequence[Step] = ()
    identity: Identity | None = None
    what: str = ""
    notes: Sequence[str] = ()
    luks: LuksCase | None = None
    """The volume whose keys would be destroyed, where that is what is taken."""

    @property
    def goes(self) -> bool:
        """Whether an order for it would be carried out now."""
        return (
            not self.blocked and self.selection is not None and not isinstance(taken(self.selection), Refusal)
        )


@dataclass(frozen=True)
class Order:
    """What the order would say: profile None is any."""

    profile: Profile | None
    level: Level
    allow_downgrade: bool
    keys: KeyWish | None
    space: SpaceWish


def planned(text: str, order: Order, system: SystemPaths) -> Planned:
    """What would become of `text`, which begins with one of `SPECIAL`."""
    if text.startswith(FREE_SPACE):
        return _space(text, order, system)
    return _folder(text, order)


def _space(text: str, order: Order, system: SystemPaths) -> Planned:
    seen = look_at_space(text.removeprefix(FREE_SPACE), system)
    if isinstance(seen, Refusal):
        return Planned(text, None, [seen], None)
    refusal = space_refusal(None, seen, order.space, system)
    if refusal is not None and refusal.reason in _NO_TARGET:
        return Planned(text, None, [refusal], None)
    most = earns(Technique.OVERWRITE, seen.type)
    against = space_objection(seen, order.profile, order.level, order.allow_downgrade)
    unfit = against is not None and against.reason is Reason.PROFILE_NOT_APPLICABLE
    row = Candidate(
        technique=Technique.OVERWRITE,
        usable=not unfit,
        earns=most,
        why_not=against.detail[:1000] if against is not None and unfit else "",
        detail=_leaving(seen, order.space),
    )
    return Planned(
        FREE_SPACE + seen.path,
        None,
        [refusal] if refusal is not None else [],
        _selection(order, seen.type, row, against),
        identity=seen.identity,
        what=f"free space on {seen.type}, {size_text(seen.free)} of {size_text(seen.size)}",
        notes=seen.notes,
    )


def _leaving(seen: Space, wish: SpaceWish) -> str:
    """What is filled, and what stays; a reserve is an exception of the receipt."""
    reserve = reserve_of(seen, wish)
    if not reserve.bytes:
        return f"fills {seen.free} bytes"
    filled = max(seen.available - reserve.bytes, 0)
    return (
        f"fills {filled} bytes; {reserve.bytes} are left ({reserve.why}), which ends as sanitized-with-exceptions: "
        "--reserve 0 leaves none"
    )


def _folder(text: str, order: Order) -> Planned:
    try:
        identity = identify(text.removeprefix(FSCRYPT))
    except TargetRefused as error:
        return Planned(text, None, [error.refusal], None)
    case = case_of(identity, order.keys)
    against = key_objection(identity, order.profile, order.level, order.allow_downgrade, case)
    unfit = against is not None and against.reason is Reason.PROFILE_NOT_APPLICABLE
    row = Candidate(
        technique=Technique.FSCRYPT_KEY_REMOVAL,
        usable=not unfit,
        earns=case.level,
        why_not=against.detail[:1000] if against is not None and unfit else "",
        detail="" if unfit else case.lacking[:2000],
        seconds=-1,
    )
    users, kept = holders(identity.path), None if order.allow_downgrade else stored_unwritable(case)
    open_files = Refusal(reason=Reason.IN_USE, detail=busy(users), remedy="End those programs first.")
    return Planned(
        FSCRYPT + identity.path,
        None,
        [*([open_files] if users else []), *([kept] if kept is not None else [])],
        _selection(order, MediumType.UNKNOWN, row, against),
        identity=identity,
        what=f"the key {identity.key} of a folder with {case.policy.cipher}",
        notes=_found(case),
    )


def _found(case: FscryptCase) -> list[str]:
    """What stores the key, and copies of it that were found."""
    stored = [f"{readable(one.where)}: {one.what}" for one in case.stored]
    return stored + [f"a copy that stays: {readable(one.where)}: {one.what}" for one in case.copies]


def _selection(order: Order, kind: MediumType, row: Candidate, against: Refusal | None) -> Selection:
    less = "" if row.earns.reaches(order.level) else f"The order asks for {order.level} and allows less."
    return Selection(
        level=order.level,
        type=kind,
        candidates=[row],
        chosen=row.technique if against is None else against,
        downgrade="" if against is not None else less,
    )
