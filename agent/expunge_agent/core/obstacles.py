"""What keeps a technique from being used on one target: a list of rules, each with what would help.

Rules in the order in which a person would want to hear of them; the first that objects is the reason given.

 1. earns nothing, no key to destroy   2. what is written goes elsewhere    3. a file, a partition, a virtual device
 4. no pass-through              5. another command set                     6. the drive does not offer it
 7. its answers are doubtful     8. locked                                  9. security frozen, password set
10. sanitize frozen             11. a sanitize runs, or failed             12. PSID not given
13. not in the profile          14. an overwrite, and space is hidden      15. other namespaces would go too
16. the profile is for other media
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from posixpath import basename

from expunge_agent.core.case import Case
from expunge_agent.core.credit import DISCARDS, credit, is_command, restorable
from expunge_agent.core.drive import NvmeNamespace
from expunge_agent.core.guard import listing, readable
from expunge_agent.core.luks_case import LuksCase
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.reach import FORMATS, others, whole_subsystem
from expunge_agent.core.technique import BY_KEY, Technique
from expunge_agent.core.volume import BUSES
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import BlockIdentity
from expunge_agent.protocol.receipt import Reason
from expunge_profiles.schema import Profile

_STACKED = (*BUSES, "loop", "zram")
"""Buses of devices that the kernel makes up; no drive of their own answers behind them."""
_SECURITY_ERASE = (Technique.ATA_SECURITY_ERASE, Technique.ATA_SECURITY_ERASE_ENHANCED)
_SANITIZE = tuple(one for one in Technique if "-sanitize-" in one)
_COMMAND_SETS = ("nvme", "ata", "scsi", "mmc")
OTHER_PROFILE = "Choose a profile for this kind of medium: expunge-agent profiles"
"""The agent's own verb: a machine may have no controller's program."""


@dataclass(frozen=True)
class Obstacle:
    """Why a technique is out, and what would help."""

    why: str
    remedy: str = ""
    reason: Reason = Reason.LEVEL_NOT_ACHIEVABLE


Rule = Callable[[Case, Technique], Obstacle | None]


def obstacle(case: Case, technique: Technique) -> Obstacle | None:
    """The first rule that keeps `technique` from being used, or None when nothing does."""
    found = (rule(case, technique) for rule in RULES)
    return next((one for one in found if one is not None), None)


def unfit_medium(medium: Medium, kind: MediumType, profile: Profile) -> str:
    """Why `profile` is not for `medium` of the type `kind`, in words; empty when it is.

    A volume is no better than the weakest of what it lies on: each member must be of a type that the profile is for.
    """
    if kind.value not in profile.media:
        return f"{readable(medium.path)} is of type {kind}"
    members = medium.volume.members if medium.volume is not None else ()
    unfit = next((one for one in members if one.type not in profile.media), None)
    if unfit is None:
        return ""
    return f"{readable(medium.path)} lies on {readable(unfit.path)}, which is of type {readable(unfit.type)}"


def reaches_all(case: Case, technique: Technique) -> bool:
    """Whether it takes the data of every namespace: see `whole_subsystem`."""
    return case.drive is not None and whole_subsystem(technique, case.drive)


def other_namespaces(case: Case) -> Sequence[NvmeNamespace] | None:
    """The namespaces beside the target's; None when they are not known, or not which one is the target's."""
    if case.drive is None or case.drive.protocol != "nvme":
        return ()
    return others(case.drive, basename(case.medium.path))


def _earns_nothing(case: Case, technique: Technique) -> Obstacle | None:
    if technique in DISCARDS:
        return Obstacle("it earns nothing: that a block reads as zeros is no proof that it was erased")
    offered = case.drive is not None and case.drive.ability(technique).offered
    if technique is Technique.OPAL_REVERT and offered and credit(case, technique) is Level.NONE:
        return Obstacle("a revert of this drive does not change the key of all its data")
    return None


def _no_key(case: Case, technique: Technique) -> Obstacle | None:
    if technique not in BY_KEY or (
        case.profile is not None and technique.value not in case.profile.techniques
    ):
        return None
    if technique is Technique.FSCRYPT_KEY_REMOVAL:
        return Obstacle("it takes away the key of a folder, which is ordered as fscrypt:/path")
    if technique is Technique.VAULT_SHRED:
        return Obstacle("it takes away the key of a vault's subject: expunge-agent vault shred")
    if isinstance(case.scope.luks, LuksCase):
        return None
    return Obstacle(case.scope.luks or "no LUKS header was looked for")


def _astray(case: Case, _technique: Technique) -> Obstacle | None:
    if case.drive is None or not case.drive.astray:
        return None
    return Obstacle(
        f"what is written to it goes elsewhere: {readable(case.drive.astray, 500)}",
        "Cut the device's power (restart the machine), then look again.",
    )


def _no_drive(case: Case, technique: Technique) -> Obstacle | None:
    if not is_command(technique):
        return None
    identity = case.medium.identity
    if not isinstance(identity, BlockIdentity) or not isinstance(case.target.identity, BlockIdentity):
        return Obstacle("a file: commands of a drive reach all of it", "Order the drive that holds the file.")
    if case.medium.partition:
        return Obstacle(
            "a partition: commands of a drive reach all of it", "Order the whole drive by its own identity."
        )
    if identity.bus in _STACKED:
        return Obstacle(
            "a device that the kernel makes up: there is no drive in it that takes commands",
            "Take it apart and order the drives below it.",
        )
    return None


def _no_pass_through(case: Case, technique: Technique) -> Obstacle | None:
    if not is_command(technique) or (case.drive is not None and case.drive.protocol != "none"):
        return None
    bridge = case.drive.bridge if case.drive is not None else ""
    what = (
        f"the bridge {readable(bridge, 100)} passes no commands on" if bridge else "no drive answers commands"
    )
    return Obstacle(what, "Attach the drive directly (SATA, SAS, NVMe), without a bridge or RAID controller.")


def _other_command_set(case: Case, technique: Technique) -> Obstacle | None:
    family = technique.partition("-")[0]
    if case.drive is None or family not in _COMMAND_SETS or family == case.drive.protocol:
        return None
    return Obstacle(f"the drive speaks {case.drive.protocol.upper()}")


def _not_offered(case: Case, technique: Technique) -> Obstacle | None:
    if case.drive is None or not is_command(technique):
        return None
    ability = case.drive.ability(technique)
    if ability.offered:
        return None
    return Obstacle(readable(ability.why, 300) or "the drive does not offer it")


def _doubtful(case: Case, technique: Technique) -> Obstacle | None:
    if case.drive is None or not is_command(technique) or not case.drive.distrusted:
        return None
    return Obstacle(
        f"what the drive says of itself is doubtful: {listing(case.drive.distrusted)}",
        "Attach the drive directly, without a bridge, and look again.",
    )


def _locked(case: Case, technique: Technique) -> Obstacle | None:
    """A locked drive aborts reads, writes and sanitize commands (ACS-3 §4.18; TCG SIIS)."""
    drive = case.drive
    if drive is None:
        return None
    if drive.security is not None and drive.security.locked:
        return Obstacle(
            "the drive is locked with an ATA password",
            "Unlock it (hdparm --security-unlock) and disable the password.",
        )
    if drive.opal is not None and drive.opal.locked and technique is not Technique.OPAL_REVERT:
        return Obstacle(
            "the drive is locked by TCG Opal",
            "Unlock it, or order a revert with the PSID on its label (--psid).",
        )
    return None


def _security(case: Case, technique: Technique) -> Obstacle | None:
    """ACS-3 §4.18: SECURITY ERASE UNIT is aborted while frozen, and takes the password that is in force."""
    if technique not in _SECURITY_ERASE or case.drive is None:
        return None
    state = case.drive.security
    if state is None or not state.supported:
        return Obstacle("the drive does not show its security state")
    power_cycle = "Cut the drive's power (pull and plug it, or suspend the machine), then look again."
    if state.frozen:
        return Obstacle("the drive's security is frozen, usually by the firmware at start", power_cycle)
    if state.expired:
        return Obstacle("the drive takes no more passwords before a power cycle", power_cycle)
    if state.enabled:
        return Obstacle(
            "a password is set on the drive that is not this order's",
            "Disable it (hdparm --security-disable).",
        )
    return None


def _sanitize_frozen(case: Case, technique: Technique) -> Obstacle | None:
    if technique not in _SANITIZE or case.drive is None or not case.drive.sanitize_frozen:
        return None
    return Obstacle(
        "the drive's sanitize commands are frozen until it loses power",
        "Cut the drive's power (pull and plug it, or suspend the machine), then look again.",
    )


def _sanitize_state(case: Case, technique: Technique) -> Obstacle | None:
    """While a sanitize runs nothing else is taken; after one that failed only another is (NVM Express Base
    2.0 §8.21; ACS-4 and SBC-4 likewise)."""
    state = case.drive.sanitize_state if case.drive is not None else ""
    if state == "running":
        return Obstacle(
            "a sanitize operation that is not this order's is running",
            "Wait until it has ended (expunge-agent plan shows it), then order again.",
        )
    if state == "failed" and technique not in _SANITIZE:
        return Obstacle("an earlier sanitize operation failed, and the drive takes nothing but another one")
    return None


def _psid(case: Case, technique: Technique) -> Obstacle | None:
    if technique is not Technique.OPAL_REVERT or case.target.psid:
        return None
    return Obstacle(
        "the order does not give the PSID of the drive",
        "Read the PSID from the drive's label and order with --psid.",
    )


def _not_in_profile(case: Case, technique: Technique) -> Obstacle | None:
    profile = case.profile
    if profile is None or technique.value in profile.techniques:
        return None
    return Obstacle(
        f"profile {profile.id} does not allow it", "Choose a profile that allows it: expunge-agent profiles"
    )


def _hidden_from_overwrite(case: Case, technique: Technique) -> Obstacle | None:
    """Overwriting writes what the host sees; an order is for a medium of the size it names (ADR 0018)."""
    areas = restorable(case) if technique is Technique.OVERWRITE else []
    if not areas:
        return None
    told = " and ".join(f"{one.kind.upper()} of {one.size} bytes" for one in areas)
    return Obstacle(
        f"the drive hides space from the host, which no overwrite reaches: {told}",
        "Give it back (hdparm -N, hdparm --dco-restore), take the inventory again and order the whole size; or "
        "choose a profile with commands of the drive, which reach it.",
    )


def other_namespaces_objection(case: Case, technique: Technique) -> Obstacle | None:
    """Why `technique` may not take the other namespaces with it; also asked right before it is begun."""
    if not reaches_all(case, technique):
        return None
    reason = Reason.OTHER_NAMESPACES
    others = other_namespaces(case)
    if others is None:
        unlisted = case.drive.unlisted if case.drive is not None else ""
        why = readable(unlisted, 300) or "the drive does not tell which are beside the target"
        return Obstacle(f"it takes every namespace, and {why}", _alone(case) if unlisted else "", reason)
    busy = [
        f"{one.node}: {readable(case.scope.in_use[one.node], 200)}"
        for one in others
        if one.node in case.scope.in_use
    ]
    if busy:
        return Obstacle(
            f"it takes every namespace, and others are in use ({listing(busy)})",
            "Free the other namespaces of the drive, or take them out of use.",
            reason,
        )
    left = [_namespace(one) for one in others if one.node not in case.scope.ordered or not one.node]
    if left:
        return Obstacle(
            f"it takes every namespace, and the order does not name {listing(left)}",
            "Name all namespaces of the drive in one order; attach or delete those that are only allocated.",
            reason,
        )
    return None


def _alone(case: Case) -> str:
    """What reaches the target's namespace and no other, by the drive's own account."""
    drive = case.drive
    formats = drive is not None and any(
        one.offered and one.technique in FORMATS and not whole_subsystem(one.technique, drive)
        for one in drive.abilities
    )
    what = "A format" if formats else "An overwrite"
    return f"{what} of this namespace alone, where the profile allows it, reaches no other."


def _namespace(one: NvmeNamespace) -> str:
    return f"{one.node or 'a namespace that is not attached'} (NSID {one.nsid})"


def _other_media(case: Case, _technique: Technique) -> Obstacle | None:
    why = unfit_medium(case.medium, case.type, case.profile) if case.profile is not None else ""
    if case.profile is None or not why:
        return None
    return Obstacle(
        f"profile {case.profile.id} is for {', '.join(case.profile.media)}; {why}",
        OTHER_PROFILE,
        Reason.PROFILE_NOT_APPLICABLE,
    )


RULES: tuple[Rule, ...] = (
    _earns_nothing,
    _no_key,
    _astray,
    _no_drive,
    _no_pass_through,
    _other_command_set,
    _not_offered,
    _doubtful,
    _locked,
    _security,
    _sanitize_frozen,
    _sanitize_state,
    _psid,
    _not_in_profile,
    _hidden_from_overwrite,
    other_namespaces_objection,
    _other_media,
)
