"""Which technique is taken: medium by medium, obstacle by obstacle, and what must hold for all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge_agent.core.credit import is_command
from expunge_agent.core.drive import (
    SAID_OF_THE_WHOLE,
    Ability,
    Answer,
    AtaSecurity,
    Drive,
    HiddenArea,
    NvmeNamespace,
    Opal,
)
from expunge_agent.core.medium import Medium, MediumType
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan, facts_for, plan_target
from expunge_agent.core.preference import BY_RATE, DECLARED, NOMINAL, RATES, preference
from expunge_agent.core.selection import ALONE, Candidate, Scope, Selection, select, taken
from expunge_agent.core.settled import settled_type
from expunge_agent.core.technique import Technique, earns
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity, Target
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_profiles.load import builtin
from expunge_profiles.schema import Profile

T = Technique
SIZE = 500_000_000_000
PROFILES = builtin()
PURGE, CLEAR = Level.PURGE, Level.CLEAR
FNA = 524
"""Where Identify Controller has the format attributes (NVM Express Base 2.0, figure 275)."""


def medium(kind: MediumType = MediumType.SSD, **changes: Any) -> Medium:
    bus = {MediumType.VIRTUAL: "virtio", MediumType.MEMORY: "zram"}.get(kind, "ata")
    identity: Any = BlockIdentity(bus=bus, model="M", serial="S", wwn="", size=U64(SIZE))
    if kind is MediumType.FILE:
        identity = FileIdentity(path="/tmp/x", device="8:1", inode=U64(7), size=U64(SIZE))
    return Medium(**{"path": "/dev/sdx", "identity": identity, "type": kind, **changes})


def drive(*offered: Technique, protocol: str = "ata", **changes: Any) -> Drive:
    abilities = [Ability(technique=one, offered=True) for one in offered]
    return Drive(**{"protocol": protocol, "abilities": abilities, **changes})


def security(**changes: Any) -> AtaSecurity:
    off = dict.fromkeys(("enabled", "locked", "frozen", "expired"), False)
    return AtaSecurity(**{"supported": True, "enhanced": True, **off, **changes})


def nvme(
    *offered: Technique, fna: int = 0, namespaces: int = 1, attached: bool = True, **changes: Any
) -> Drive:
    """A controller whose first namespace, nvme0n1, is the target's."""
    identify = bytearray(4096)
    identify[FNA] = fna
    listed = [NvmeNamespace(nsid=1, attached=True, size=U64(SIZE), sector=512, node="nvme0n1")]
    listed += [
        NvmeNamespace(nsid=n, attached=attached, node=f"nvme0n{n}" if attached else "")
        for n in range(2, namespaces + 1)
    ]
    return drive(
        *offered,
        **{
            "protocol": "nvme",
            "nsid": 1,
            "namespaces": listed,
            "answers": [Answer(name="Identify Controller", hex=identify.hex())],
            **changes,
        },
    )


def pick(
    found: Medium,
    what: Drive | None = None,
    profile: str | Profile | None = "nist-purge",
    level: Level = PURGE,
    allow_downgrade: bool = False,
    scope: Scope = ALONE,
    psid: str = "",
) -> Selection:
    policy = PROFILES[profile] if isinstance(profile, str) else profile
    target = Target(identity=found.identity, psid=psid)
    return select(target, found, turning(found, what), policy, level, allow_downgrade, scope)


def turning(found: Medium, what: Drive | None) -> Drive | None:
    """`what` with a rotation rate, where it gives none and is to be a hard disk."""
    if what is None or found.type is not HDD or what.rotation >= 0:
        return what
    return msgspec.structs.replace(what, rotation=7200)


def of(selection: Selection, technique: Technique) -> Candidate:
    return next(one for one in selection.candidates if one.technique is technique)


def refusal(selection: Selection) -> Refusal:
    found = taken(selection)
    assert isinstance(found, Refusal), f"{found.technique} is taken"
    return found


def nvme_medium() -> Medium:
    return medium(path="/dev/nvme0n1")


ATA = (T.ATA_SANITIZE_OVERWRITE, T.ATA_SANITIZE_BLOCK, T.ATA_SANITIZE_CRYPTO)
ATA_ERASE = (T.ATA_SECURITY_ERASE, T.ATA_SECURITY_ERASE_ENHANCED)
SCSI = (T.SCSI_SANITIZE_OVERWRITE, T.SCSI_SANITIZE_BLOCK, T.SCSI_SANITIZE_CRYPTO, T.SCSI_FORMAT_UNIT)
SANITIZE = (T.NVME_SANITIZE_CRYPTO, T.NVME_SANITIZE_BLOCK, T.NVME_SANITIZE_OVERWRITE)
FORMAT = (T.NVME_FORMAT_CRYPTO, T.NVME_FORMAT_USER_DATA)
HDD, SSD, UNKNOWN = MediumType.HDD, MediumType.SSD, MediumType.UNKNOWN

# What the table of the standards says of each medium: (medium, what it offers) → taken for purge, for clear.
TABLE = [
    (HDD, drive(*ATA, *ATA_ERASE, security=security()), T.ATA_SANITIZE_OVERWRITE),
    (HDD, drive(T.ATA_SANITIZE_CRYPTO), T.ATA_SANITIZE_CRYPTO),
    (HDD, drive(T.ATA_SANITIZE_BLOCK), None),
    (HDD, drive(*ATA_ERASE, security=security()), None),
    (HDD, drive(*SCSI, protocol="scsi"), T.SCSI_SANITIZE_OVERWRITE),
    (HDD, drive(T.SCSI_FORMAT_UNIT, protocol="scsi"), None),
    (SSD, drive(*ATA, *ATA_ERASE, security=security()), T.ATA_SANITIZE_BLOCK),
    (SSD, drive(T.ATA_SANITIZE_OVERWRITE, T.ATA_SANITIZE_CRYPTO), T.ATA_SANITIZE_CRYPTO),
    (SSD, drive(T.ATA_SANITIZE_OVERWRITE), None),
    (SSD, drive(*ATA_ERASE, security=security()), None),
    (SSD, drive(*SCSI, protocol="scsi"), T.SCSI_SANITIZE_BLOCK),
    (SSD, nvme(*SANITIZE, *FORMAT), T.NVME_SANITIZE_CRYPTO),
    (SSD, nvme(T.NVME_SANITIZE_BLOCK, *FORMAT), T.NVME_SANITIZE_BLOCK),
    (SSD, nvme(T.NVME_SANITIZE_OVERWRITE, *FORMAT), T.NVME_FORMAT_CRYPTO),
    (SSD, nvme(T.NVME_FORMAT_USER_DATA), T.NVME_FORMAT_USER_DATA),
    (SSD, nvme(T.NVME_SANITIZE_OVERWRITE), None),
    (SSD, drive(T.MMC_SANITIZE, protocol="mmc"), T.MMC_SANITIZE),
    (SSD, drive(T.MMC_SECURE_ERASE, protocol="mmc"), None),
    (UNKNOWN, drive(*ATA), T.ATA_SANITIZE_CRYPTO),
    (UNKNOWN, drive(T.ATA_SANITIZE_BLOCK, T.ATA_SANITIZE_OVERWRITE), None),
    (MediumType.USB_FLASH, drive(protocol="none", bridge="Example bridge"), None),
    (SSD, None, None),
]


@pytest.mark.parametrize(("kind", "what", "expected"), TABLE)
@pytest.mark.parametrize("profile", ["nist-purge", None])
def test_purge_by_the_table_of_the_standards(
    kind: MediumType, what: Drive | None, expected: Technique | None, profile: str | None
) -> None:
    found = medium(kind, path="/dev/nvme0n1")
    selection = pick(found, what, profile)
    if expected is None:
        told = refusal(selection)
        assert told.reason is Reason.LEVEL_NOT_ACHIEVABLE
        assert "physically" in told.remedy
        purges = [one for one in Technique if any(earns(one, any_kind) is PURGE for any_kind in MediumType)]
        assert [one for one in purges if one.value not in told.detail] == []
    else:
        assert selection.chosen is expected
        assert taken(selection).earns is PURGE  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "what", "_purge"), TABLE)
def test_clear_is_the_hosts_overwrite_where_no_profile_says_otherwise(
    kind: MediumType, what: Drive | None, _purge: object
) -> None:
    assert pick(medium(kind, path="/dev/nvme0n1"), what, None, CLEAR).chosen is T.OVERWRITE
    assert pick(medium(kind, path="/dev/nvme0n1"), what, "nist-clear-complement", CLEAR).chosen is T.OVERWRITE


def test_a_profile_that_aims_at_purge_takes_purge_though_the_order_asks_for_clear() -> None:
    on_flash = pick(medium(SSD), drive(*ATA), "nist-purge", CLEAR)
    assert on_flash.chosen is T.ATA_SANITIZE_BLOCK
    assert on_flash.downgrade == ""
    weak = pick(medium(SSD), drive(T.ATA_SANITIZE_OVERWRITE), "nist-purge", CLEAR)
    assert weak.chosen is T.ATA_SANITIZE_OVERWRITE
    assert weak.downgrade == "", "clear was asked for and clear is earned"


def test_the_profiles_own_order_decides() -> None:
    base = PROFILES["nist-purge"]
    turned = msgspec.structs.replace(
        base, media=("ssd",), techniques=("ata-sanitize-crypto", "ata-sanitize-block")
    )
    assert pick(medium(SSD), drive(*ATA), turned).chosen is T.ATA_SANITIZE_CRYPTO
    assert pick(medium(SSD), drive(*ATA), "nist-purge-crypto").chosen is T.ATA_SANITIZE_CRYPTO


def test_drive_erase_is_clear_by_the_drives_own_command() -> None:
    both = drive(*ATA_ERASE, security=security(minutes=90, enhanced_minutes=4))
    selection = pick(medium(HDD), both, "drive-erase-clear", CLEAR)
    assert selection.chosen is T.ATA_SECURITY_ERASE_ENHANCED
    assert of(selection, T.ATA_SECURITY_ERASE_ENHANCED).seconds == 240
    assert of(selection, T.ATA_SECURITY_ERASE).seconds == 5400
    assert pick(nvme_medium(), nvme(*FORMAT), "drive-erase-clear", CLEAR).chosen is T.NVME_FORMAT_CRYPTO


# --- no downgrade unless ordered


def test_less_is_taken_only_where_the_order_allows_it_and_the_reason_is_written() -> None:
    what = drive(*ATA_ERASE, security=security())
    assert (
        "Or allow a downgrade: ata-security-erase-enhanced earns clear."
        in refusal(pick(medium(SSD), what, "nist-purge-or-clear")).remedy
    )
    selection = pick(medium(SSD), what, "nist-purge-or-clear", allow_downgrade=True)
    assert selection.chosen is T.ATA_SECURITY_ERASE_ENHANCED
    assert "asks for purge and allows less" in selection.downgrade
    assert "ata-sanitize-block" in selection.downgrade
    bare = pick(medium(SSD), None, "nist-purge-or-clear", allow_downgrade=True)
    assert bare.chosen is T.OVERWRITE
    assert "no drive answers commands" in bare.downgrade


def test_a_downgrade_takes_the_best_that_earns_less() -> None:
    """The host's overwrite stands first and would miss a part of the drive."""
    what = drive(*ATA_ERASE, security=security(), apparent=U64(SIZE + 512))
    selection = pick(medium(SSD), what, None, allow_downgrade=True)
    assert of(selection, T.OVERWRITE).usable
    assert of(selection, T.OVERWRITE).earns is Level.NONE
    assert selection.chosen is T.ATA_SECURITY_ERASE_ENHANCED


def test_a_downgrade_to_what_leaves_something_out_says_what() -> None:
    hidden = [HiddenArea(kind="hpa", size=U64(4096), restorable=False)]
    selection = pick(medium(HDD), drive(*ATA, hidden=hidden), allow_downgrade=True)
    chosen = taken(selection)
    assert isinstance(chosen, Candidate)
    assert chosen.earns is Level.NONE
    assert "HPA of 4096 bytes" in chosen.detail
    assert "HPA of 4096 bytes" in selection.downgrade


def test_without_any_technique_a_downgrade_does_not_help() -> None:
    assert refusal(pick(medium(SSD), None, allow_downgrade=True)).reason is Reason.LEVEL_NOT_ACHIEVABLE


# --- each obstacle


@pytest.mark.parametrize(
    ("found", "what", "technique", "why"),
    [
        (medium(SSD, partition=True), drive(*ATA), T.ATA_SANITIZE_BLOCK, "a partition"),
        (medium(MediumType.FILE), None, T.ATA_SANITIZE_BLOCK, "a file"),
        (medium(SSD), drive(protocol="none", bridge="JM 1"), T.ATA_SANITIZE_BLOCK, "bridge JM 1 passes no"),
        (medium(SSD), drive(*ATA), T.SCSI_SANITIZE_BLOCK, "speaks ATA"),
        (medium(SSD), drive(T.SCSI_SANITIZE_BLOCK), T.SCSI_SANITIZE_BLOCK, "speaks ATA"),
        (medium(SSD), drive(), T.ATA_SANITIZE_BLOCK, "does not speak of it"),
        (
            medium(SSD),
            drive(*ATA, doubtful=["two serial numbers"]),
            T.ATA_SANITIZE_BLOCK,
            "two serial numbers",
        ),
        (medium(SSD), drive(*ATA, security=security(locked=True)), T.ATA_SANITIZE_BLOCK, "locked"),
        (medium(SSD), drive(*ATA, security=security(locked=True)), T.OVERWRITE, "locked"),
        (medium(SSD), drive(*ATA, sanitize_frozen=True), T.ATA_SANITIZE_BLOCK, "frozen"),
        (medium(SSD), drive(*ATA, sanitize_state="running"), T.ATA_SANITIZE_BLOCK, "is running"),
        (medium(SSD), drive(*ATA, sanitize_state="running"), T.OVERWRITE, "is running"),
        (medium(SSD), drive(*ATA, sanitize_state="failed"), T.OVERWRITE, "failed"),
        (medium(SSD), drive(*ATA_ERASE, security=security(frozen=True)), T.ATA_SECURITY_ERASE, "frozen"),
        (medium(SSD), drive(*ATA_ERASE, security=security(expired=True)), T.ATA_SECURITY_ERASE, "no more"),
        (medium(SSD), drive(*ATA_ERASE, security=security(enabled=True)), T.ATA_SECURITY_ERASE, "a password"),
        (medium(SSD), drive(*ATA_ERASE), T.ATA_SECURITY_ERASE, "security state"),
        (medium(SSD), drive(), T.DISCARD, "earns nothing"),
        (nvme_medium(), nvme(*SANITIZE, namespaces=2), T.NVME_SANITIZE_CRYPTO, "nvme0n2 (NSID 2)"),
        (nvme_medium(), nvme(*SANITIZE, namespaces=0, nsid=9), T.NVME_SANITIZE_CRYPTO, "does not tell"),
        (
            nvme_medium(),
            nvme(*SANITIZE, namespaces=2, attached=False),
            T.NVME_SANITIZE_CRYPTO,
            "not attached",
        ),
        (nvme_medium(), nvme(*SANITIZE, unlisted="none lists all"), T.NVME_SANITIZE_CRYPTO, "none lists all"),
        (nvme_medium(), nvme(*FORMAT, fna=1, namespaces=2), T.NVME_FORMAT_CRYPTO, "every namespace"),
        (nvme_medium(), nvme(*FORMAT, fna=2, namespaces=2), T.NVME_FORMAT_CRYPTO, "every namespace"),
        (nvme_medium(), nvme(*FORMAT, answers=[], namespaces=2), T.NVME_FORMAT_CRYPTO, "every namespace"),
    ],
)
def test_what_keeps_a_technique_out(
    found: Medium, what: Drive | None, technique: Technique, why: str
) -> None:
    candidate = of(pick(found, what, None), technique)
    assert not candidate.usable
    assert why in candidate.why_not


def test_a_stacked_device_takes_no_commands() -> None:
    identity = BlockIdentity(bus="dm", model="vg-lv", serial="", wwn="", size=U64(SIZE), instance="b/1")
    found = medium(MediumType.VIRTUAL, identity=identity)
    assert "Take it apart" in refusal(pick(found, drive(*ATA), None)).remedy


def test_frozen_security_does_not_stop_sanitize_nor_a_failed_sanitize_another() -> None:
    frozen = drive(*ATA, *ATA_ERASE, security=security(frozen=True))
    assert pick(medium(SSD), frozen).chosen is T.ATA_SANITIZE_BLOCK
    assert pick(medium(SSD), drive(*ATA, sanitize_state="failed")).chosen is T.ATA_SANITIZE_BLOCK
    assert pick(medium(SSD), drive(*ATA, sanitize_state="done")).chosen is T.ATA_SANITIZE_BLOCK


def test_what_a_bridge_calls_itself_stops_nothing() -> None:
    other = "the bridge gives the serial number 'USB-1', the drive behind it 'S1'"
    behind = drive(*ATA, bridge="EXAMPLE", doubtful=[other], doubtful_names=[other])
    assert pick(medium(SSD), behind).chosen is pick(medium(SSD), drive(*ATA)).chosen
    both = drive(*ATA, bridge="EXAMPLE", doubtful=[other, "two sizes"], doubtful_names=[other])
    assert "two sizes" in refusal(pick(medium(SSD), both)).detail
    assert other not in refusal(pick(medium(SSD), both)).detail


def test_a_drive_that_does_not_tell_what_it_hides_earns_nothing_and_may_be_erased() -> None:
    frozen = "DCO: aborted; most likely frozen by the firmware of the machine"
    silent = drive(*ATA, doubtful=[frozen], doubtful_areas=[frozen])
    assert "frozen by the firmware" in refusal(pick(medium(SSD), silent)).detail
    lenient = pick(medium(SSD), silent, allow_downgrade=True)
    assert of(lenient, lenient.chosen).usable
    assert of(lenient, lenient.chosen).earns is Level.NONE
    assert "does not tell all that it hides" in of(lenient, lenient.chosen).detail


def test_doubt_stops_commands_and_not_the_hosts_overwrite() -> None:
    garbled = drive(*ATA, doubtful=["the serial number holds control characters"])
    assert pick(medium(SSD), garbled, "nist-clear", CLEAR).chosen is T.OVERWRITE
    assert "without a bridge" in refusal(pick(medium(SSD), garbled)).remedy


def test_a_refusal_names_what_would_help() -> None:
    told = refusal(pick(medium(SSD), drive(*ATA, sanitize_frozen=True)))
    assert "Cut the drive's power" in told.remedy
    assert "whole drive" in refusal(pick(medium(SSD, partition=True), None)).remedy
    assert "holds the file" in refusal(pick(medium(MediumType.FILE), None, None)).remedy


def test_a_profile_for_other_media_is_refused_as_such() -> None:
    told = refusal(pick(medium(MediumType.VIRTUAL), None, "nist-purge"))
    assert told.reason is Reason.PROFILE_NOT_APPLICABLE
    assert not any(one.usable for one in pick(medium(MediumType.VIRTUAL), None, "nist-purge").candidates)


def test_a_technique_the_profile_does_not_list_is_out() -> None:
    selection = pick(medium(SSD), drive(*ATA), "nist-purge-crypto")
    assert of(selection, T.ATA_SANITIZE_BLOCK).why_not == "profile nist-purge-crypto does not allow it"


# --- NVMe: what takes every namespace


PSID = "K7Q2M9X4V8B3N6Z1C5L0P2T7R4W9Y6J8"
BOTH = Scope(ordered=frozenset({"nvme0n1", "nvme0n2"}))


def test_other_namespaces_are_safe_unless_the_order_names_them_all() -> None:
    two = nvme(T.NVME_SANITIZE_CRYPTO, namespaces=2)
    told = refusal(pick(nvme_medium(), two))
    assert told.reason is Reason.OTHER_NAMESPACES
    assert "nvme0n2 (NSID 2)" in told.detail
    named = pick(nvme_medium(), two, scope=BOTH)
    assert named.chosen is T.NVME_SANITIZE_CRYPTO
    assert [one.nsid for one in named.takes_too] == [2]
    assert "takes nvme0n2 too" in of(named, T.NVME_SANITIZE_CRYPTO).detail
    three = nvme(T.NVME_SANITIZE_CRYPTO, namespaces=3)
    assert "nvme0n3" in refusal(pick(nvme_medium(), three, scope=BOTH)).detail


def test_a_namespace_in_use_is_safe_even_from_an_order_that_names_it() -> None:
    scope = Scope(ordered=BOTH.ordered, in_use={"nvme0n2": "it is mounted on /srv"})
    told = refusal(pick(nvme_medium(), nvme(T.NVME_SANITIZE_CRYPTO, namespaces=2), scope=scope))
    assert told.reason is Reason.OTHER_NAMESPACES
    assert "mounted on /srv" in told.detail


def test_an_allocated_namespace_that_is_not_attached_cannot_be_named() -> None:
    two = nvme(T.NVME_SANITIZE_CRYPTO, namespaces=2, attached=False)
    scope = Scope(ordered=frozenset({"nvme0n1", "nvme0n2", ""}))
    assert refusal(pick(nvme_medium(), two, scope=scope)).reason is Reason.OTHER_NAMESPACES


def test_a_format_of_one_namespace_alone_is_taken_where_a_sanitize_would_take_all() -> None:
    selection = pick(nvme_medium(), nvme(*SANITIZE, *FORMAT, namespaces=2))
    assert selection.chosen is T.NVME_FORMAT_CRYPTO
    assert selection.takes_too == []


def test_namespaces_that_nobody_lists_may_hold_live_data() -> None:
    alone = nvme(*SANITIZE, *FORMAT, unlisted="the subsystem may have further controllers")
    told = pick(nvme_medium(), alone, scope=BOTH)
    assert told.chosen is T.NVME_FORMAT_CRYPTO, "which takes this namespace and no other"
    none = pick(
        nvme_medium(), nvme(*SANITIZE, unlisted="the subsystem may have further controllers"), scope=BOTH
    )
    assert refusal(none).reason is Reason.OTHER_NAMESPACES
    assert "further controllers" in refusal(none).detail
    assert "An overwrite of this namespace alone" in refusal(none).remedy


@pytest.mark.parametrize(
    ("fna", "offered", "instead"),
    [
        (0, FORMAT, "A format"),
        (1, FORMAT, "An overwrite"),
        (2, FORMAT, "An overwrite"),
        (0, (), "An overwrite"),
    ],
)
def test_what_reaches_this_namespace_alone_is_told_by_the_drives_own_account(
    fna: int, offered: tuple[Technique, ...], instead: str
) -> None:
    found = nvme(*SANITIZE, *offered, fna=fna, unlisted="the subsystem may have further controllers")
    only = msgspec.structs.replace(PROFILES["nist-purge"], techniques=("nvme-sanitize-crypto",))
    told = refusal(pick(nvme_medium(), found, only, scope=BOTH))
    assert told.reason is Reason.OTHER_NAMESPACES
    assert f"{instead} of this namespace alone, where the profile allows it, reaches no other." in told.remedy


def test_the_targets_namespace_is_found_by_its_node_where_no_nsid_is_told() -> None:
    assert pick(nvme_medium(), nvme(*SANITIZE, nsid=0)).chosen is T.NVME_SANITIZE_CRYPTO
    strange = pick(medium(path="/dev/nvme7n1"), nvme(*SANITIZE, nsid=0))
    assert refusal(strange).reason is Reason.OTHER_NAMESPACES


# --- hidden areas, capacity, type


def hpa(restorable: bool) -> Drive:
    return drive(
        *ATA,
        apparent=U64(SIZE),
        native=U64(SIZE + 8192),
        hidden=[HiddenArea(kind="hpa", size=U64(8192), restorable=restorable)],
    )


def test_a_hidden_area_is_given_back_first_or_nothing_counts() -> None:
    good = pick(medium(HDD), hpa(True))
    assert [area.size for area in good.restores] == [8192]
    assert "gives the HPA of 8192 bytes back first" in of(good, T.ATA_SANITIZE_OVERWRITE).detail
    for profile, level in (("nist-purge", PURGE), ("nist-clear", CLEAR)):
        bad = pick(medium(HDD), hpa(False), profile, level)
        assert "HPA of 8192 bytes" in refusal(bad).detail
        assert all(one.earns is Level.NONE for one in bad.candidates)
    doubted = msgspec.structs.replace(hpa(True), doubtful=["the size differs"])
    assert "cannot be given back" in refusal(pick(medium(HDD), doubted, "nist-clear", CLEAR)).detail


def planned(found: Medium, what: Drive, profile: Profile, *, downgrade: bool = False) -> TargetPlan | Refusal:
    wish = Target(identity=found.identity)
    return plan_target(wish, found, turning(found, what), profile, CLEAR, downgrade, ALONE, NOTHING_DRAWN)


@pytest.mark.parametrize("downgrade", [False, True])
def test_an_overwrite_of_a_drive_that_hides_space_is_refused_by_plan_and_wipe_alike(downgrade: bool) -> None:
    """It was shown as giving the area back first, and the order was refused."""
    weighed = pick(medium(HDD), hpa(True), "nist-clear", CLEAR, allow_downgrade=downgrade)
    shown, refused = refusal(weighed), planned(medium(HDD), hpa(True), PROFILES["nist-clear"])
    assert shown == refused
    assert weighed.restores == []
    assert not of(weighed, T.OVERWRITE).usable
    assert "no overwrite reaches: HPA of 8192 bytes" in of(weighed, T.OVERWRITE).why_not
    assert "hdparm -N" in shown.remedy


def test_where_a_profile_allows_a_command_as_well_it_is_taken_instead_of_the_overwrite() -> None:
    words = ("overwrite", "ata-sanitize-overwrite")
    both = msgspec.structs.replace(PROFILES["nist-clear"], media=("hdd",), techniques=words)
    found = planned(medium(HDD), hpa(True), both)
    assert isinstance(found, TargetPlan)
    assert found.technique is T.ATA_SANITIZE_OVERWRITE
    assert planned(medium(HDD), drive(*ATA), both).technique is T.OVERWRITE  # type: ignore[union-attr]
    weighed = pick(medium(HDD), hpa(True), both, CLEAR)
    assert [area.size for area in weighed.restores] == [8192]


def test_a_partition_claims_nothing_of_hidden_areas() -> None:
    part = medium(HDD, partition=True)
    assert pick(part, hpa(False), "nist-clear", CLEAR).chosen is T.OVERWRITE
    assert pick(part, hpa(True), "nist-clear", CLEAR).chosen is T.OVERWRITE


@pytest.mark.parametrize(
    ("apparent", "native", "says"),
    [
        (SIZE, SIZE + 512, "does not say how"),
        (SIZE - 512, 0, "the host sees"),
        (SIZE + 512, 0, "the host reaches"),
    ],
)
def test_capacities_that_do_not_agree(apparent: int, native: int, says: str) -> None:
    what = drive(*ATA, apparent=U64(apparent), native=U64(native))
    assert says in refusal(pick(medium(HDD), what, "nist-clear", CLEAR)).detail
    inside_a_bridge = says == "the host reaches"  # the drive's own command reaches all of it
    assert isinstance(pick(medium(HDD), what).chosen, Technique) == inside_a_bridge


@pytest.mark.parametrize(
    ("kernel", "rotation", "settled"),
    [
        (UNKNOWN, 1, SSD),
        (UNKNOWN, 7200, HDD),
        (UNKNOWN, 0, UNKNOWN),
        (UNKNOWN, -1, UNKNOWN),
        (UNKNOWN, 0x400, UNKNOWN),
        (HDD, 1, UNKNOWN),
        (SSD, 5400, UNKNOWN),
        (HDD, 7200, HDD),
        (HDD, 0, UNKNOWN),
        (HDD, -1, HDD),
        (SSD, -1, SSD),
        (HDD, 0x400, UNKNOWN),
        (HDD, 0xFFFF, UNKNOWN),
        (UNKNOWN, 0xFFFF, UNKNOWN),
        (SSD, 0, SSD),
        (MediumType.USB_FLASH, 1, MediumType.USB_FLASH),
        (MediumType.USB_FLASH, 7200, UNKNOWN),
        (MediumType.VIRTUAL, 7200, MediumType.VIRTUAL),
    ],
)
def test_the_type_needs_evidence_that_does_not_contradict(
    kernel: MediumType, rotation: int, settled: MediumType
) -> None:
    assert settled_type(medium(kernel), drive(rotation=rotation)) is settled
    assert settled_type(medium(kernel), drive(rotation=rotation, doubtful=["garbled"])) is kernel


def test_the_whole_drive_settles_the_type_of_a_partition() -> None:
    part = medium(UNKNOWN, partition=True)
    said = SAID_OF_THE_WHOLE
    assert settled_type(part, drive(rotation=7200)) is HDD, "as the inventory asks, without the note"
    assert settled_type(part, drive(rotation=7200, doubtful=[said])) is HDD
    assert settled_type(part, drive(rotation=7200, doubtful=[said, "garbled"])) is UNKNOWN
    assert settled_type(part, drive(rotation=7200, doubtful=["garbled"])) is UNKNOWN
    assert settled_type(medium(UNKNOWN), drive(rotation=7200, doubtful=[said])) is UNKNOWN


def test_a_plan_is_for_the_type_that_the_drive_itself_settles() -> None:
    """The receipt gives that type, and whoever checks it holds the level against it."""
    found, what = medium(UNKNOWN), drive(T.ATA_SANITIZE_OVERWRITE, rotation=7200)
    target = Target(identity=found.identity)
    plan = plan_target(target, found, what, PROFILES["nist-purge"], PURGE, False, ALONE, NOTHING_DRAWN)
    assert not isinstance(plan, Refusal)
    assert (plan.technique, plan.type, plan.earns) == (T.ATA_SANITIZE_OVERWRITE, HDD, PURGE)
    bridged = msgspec.structs.replace(plan, drive=msgspec.structs.replace(what, doubtful_names=["two names"]))
    facts = facts_for(bridged, replace(found, notes=("over USB",)))
    assert (facts.type, facts.notes) == ("hdd", ["over USB", "two names"])
    rotating = PROFILES["dod-5220.22-m"]
    passes = plan_target(target, found, what, rotating, CLEAR, False, ALONE, NOTHING_DRAWN)
    assert not isinstance(passes, Refusal)
    assert passes.type is HDD
    nothing = plan_target(
        target, medium(HDD), drive(rotation=0), rotating, CLEAR, False, ALONE, NOTHING_DRAWN
    )
    assert isinstance(nothing, Refusal)
    assert "is of type unknown" in nothing.detail


def test_a_block_erase_behind_a_bridge_counts_once_the_drive_says_that_it_is_flash() -> None:
    assert isinstance(pick(medium(UNKNOWN), drive(T.ATA_SANITIZE_BLOCK)).chosen, Refusal)
    assert pick(medium(UNKNOWN), drive(T.ATA_SANITIZE_BLOCK, rotation=1)).chosen is T.ATA_SANITIZE_BLOCK


# --- TCG


def opal(**changes: Any) -> Opal:
    plain = {"locking_enabled": True, "locked": False, "mbr_enabled": False, "media_encryption": True}
    return Opal(**{"ssc": "Opal 2", **plain, **changes})


def test_a_revert_needs_the_psid_and_a_drive_that_encrypts() -> None:
    good = drive(T.OPAL_REVERT, opal=opal())
    assert "--psid" in refusal(pick(medium(SSD), good)).remedy
    assert pick(medium(SSD), good, psid=PSID).chosen is T.OPAL_REVERT
    locked = drive(*ATA, T.OPAL_REVERT, opal=opal(locked=True))
    assert pick(medium(SSD), locked, psid=PSID).chosen is T.OPAL_REVERT, "nothing else reaches it"
    for bad in (opal(media_encryption=False), opal(ssc="Pyrite 2"), None):
        selection = pick(medium(SSD), drive(T.OPAL_REVERT, opal=bad), psid=PSID)
        assert isinstance(selection.chosen, Refusal)
        assert of(selection, T.OPAL_REVERT).earns is Level.NONE
    two = nvme(T.OPAL_REVERT, namespaces=2, opal=opal())
    assert refusal(pick(nvme_medium(), two, psid=PSID)).reason is Reason.OTHER_NAMESPACES


# --- estimates


def test_what_the_drive_declares_comes_before_what_its_size_suggests() -> None:
    abilities = [Ability(technique=T.ATA_SANITIZE_OVERWRITE, offered=True, seconds=77)]
    declared = pick(medium(HDD), drive(abilities=abilities))
    assert of(declared, T.ATA_SANITIZE_OVERWRITE).seconds == 77
    assert of(declared, T.ATA_SANITIZE_OVERWRITE).seconds_from == DECLARED
    silent = pick(medium(HDD), drive(*ATA), None)
    assert of(silent, T.ATA_SANITIZE_OVERWRITE).seconds == -(-SIZE // RATES[HDD])
    assert of(silent, T.ATA_SANITIZE_OVERWRITE).seconds_from == BY_RATE
    assert (of(silent, T.ATA_SANITIZE_CRYPTO).seconds, of(silent, T.ATA_SANITIZE_CRYPTO).seconds_from) == (
        -1,
        "",
    )
    assert of(silent, T.SCSI_SANITIZE_OVERWRITE).seconds == -1, "this drive has none"


def test_a_nominal_timeout_is_called_so_and_is_no_duration() -> None:
    """A drive that says 30 s of an overwrite means that it takes the command by then."""
    short, long = 30, 90_000
    for told, technique, seconds, source in (
        (short, T.SCSI_SANITIZE_CRYPTO, short, NOMINAL),
        (short, T.SCSI_SANITIZE_BLOCK, short, NOMINAL),
        (short, T.SCSI_SANITIZE_OVERWRITE, -(-SIZE // RATES[HDD]), BY_RATE),
        (short, T.SCSI_FORMAT_UNIT, -(-SIZE // RATES[HDD]), BY_RATE),
        (long, T.SCSI_SANITIZE_OVERWRITE, long, NOMINAL),
        (-1, T.SCSI_SANITIZE_BLOCK, -1, ""),
    ):
        abilities = [Ability(technique=technique, offered=True, seconds=told)]
        one = of(pick(medium(HDD), drive(protocol="scsi", abilities=abilities)), technique)
        assert (one.seconds, one.seconds_from) == (seconds, source), technique


def test_passes_and_reading_back_take_their_time() -> None:
    once = pick(medium(HDD), None, "nist-clear", CLEAR)
    twice = pick(medium(HDD), None, "nist-clear-complement", CLEAR)
    assert of(twice, T.OVERWRITE).seconds == -(-2 * SIZE // RATES[HDD])
    assert once.read_back_seconds == -(-SIZE // RATES[HDD])
    assert pick(medium(HDD), None, "zero", CLEAR).read_back_seconds == 0
    assert pick(medium(HDD), drive(*ATA)).read_back_seconds == -(-(SIZE // 10) // RATES[HDD])


# --- for every medium, drive, profile and order


subsets = st.sets(st.sampled_from(list(Technique)))
bytes_ = st.sampled_from([0, 4096, SIZE - 512, SIZE, SIZE + 512]).map(U64)


@st.composite
def drives(draw: st.DrawFn) -> Drive:
    abilities = [
        Ability(technique=one, offered=draw(st.booleans()), seconds=draw(st.sampled_from([-1, 0, 60])))
        for one in draw(subsets)
    ]
    flags = {
        name: draw(st.booleans())
        for name in ("supported", "enabled", "locked", "frozen", "expired", "enhanced")
    }
    return nvme(
        fna=draw(st.integers(0, 7)),
        namespaces=draw(st.integers(0, 3)),
        attached=draw(st.booleans()),
        abilities=abilities,
        protocol=draw(st.sampled_from(["nvme", "ata", "scsi", "mmc", "none"])),
        nsid=draw(st.integers(0, 3)),
        rotation=draw(st.sampled_from([-1, 0, 1, 7200])),
        apparent=draw(bytes_),
        native=draw(bytes_),
        hidden=draw(
            st.lists(
                st.builds(HiddenArea, kind=st.just("dco"), size=bytes_, restorable=st.booleans()), max_size=2
            )
        ),
        security=draw(st.sampled_from([None, AtaSecurity(**flags)])),
        sanitize_frozen=draw(st.booleans()),
        sanitize_state=draw(st.sampled_from(["", "idle", "running", "failed", "done"])),
        opal=draw(st.sampled_from([None, opal(), opal(locked=True), opal(media_encryption=False)])),
        doubtful=draw(st.sampled_from([[], [], ["two serial numbers"]])),
    )


media = st.builds(
    medium,
    st.sampled_from(list(MediumType)),
    partition=st.booleans(),
    path=st.sampled_from(["/dev/nvme0n1", "/dev/sdx"]),
)
scopes = st.builds(
    Scope,
    ordered=st.sampled_from([frozenset(), BOTH.ordered]),
    in_use=st.sampled_from([{}, {"nvme0n2": "mounted"}]),
)
orders = st.tuples(
    media,
    st.one_of(st.none(), drives()),
    st.sampled_from([None, *PROFILES]),
    st.sampled_from([CLEAR, PURGE]),
    st.booleans(),
    scopes,
    st.sampled_from(["", PSID]),
)


@settings(deadline=None)
@given(orders)
def test_for_every_order(order: Any) -> None:
    found, what, name, level, allow_downgrade, scope, psid = order
    profile = PROFILES[name] if name else None
    selection = pick(found, what, profile, level, allow_downgrade, scope, psid)
    assert selection == pick(found, what, profile, level, allow_downgrade, scope, psid)
    assert sorted(one.technique for one in selection.candidates) == sorted(Technique)
    for one in selection.candidates:
        assert one.usable == (one.why_not == "")
        assert earns(one.technique, selection.type).reaches(one.earns)
        assert one.seconds >= -1
        if one.usable and is_command(one.technique):
            assert what is not None
            assert what.ability(one.technique).offered
            assert not found.partition
            assert not what.distrusted
        if one.usable and profile is not None:
            assert one.technique in profile.techniques
            assert selection.type in profile.media
    came_to = taken(selection)
    if isinstance(came_to, Refusal):
        assert came_to.detail
        assert came_to.remedy
        assert not any(one.usable and one.earns.reaches(level) for one in selection.candidates)
        assert not (allow_downgrade and any(one.usable for one in selection.candidates))
    else:
        assert came_to.usable
        assert allow_downgrade or came_to.earns.reaches(level)
        if selection.downgrade:
            assert all(came_to.earns.reaches(one.earns) for one in selection.candidates if one.usable)
        assert bool(selection.downgrade) == (not came_to.earns.reaches(level))
        assert earns(came_to.technique, selection.type) is not Level.NONE
    again = canonical.loads(canonical.dumps(selection), Selection, "selection")
    assert again == selection


@given(orders)
def test_a_permission_to_earn_less_never_changes_what_can_be_had(order: Any) -> None:
    found, what, profile, level, _, scope, psid = order
    strict = pick(found, what, profile, level, False, scope, psid)
    lenient = pick(found, what, profile, level, True, scope, psid)
    if not isinstance(strict.chosen, Refusal):
        assert lenient == strict
    else:
        assert lenient.candidates == strict.candidates


@given(orders)
def test_nothing_that_takes_every_namespace_is_used_while_one_is_not_named(order: Any) -> None:
    found, what, profile, level, allow_downgrade, scope, psid = order
    selection = pick(found, what, profile, level, allow_downgrade, scope, psid)
    if what is None or what.protocol != "nvme":
        return
    names = {one.node for one in what.namespaces if one.nsid != (what.nsid or 1)}
    if names - scope.ordered or names & set(scope.in_use):
        assert not any(of(selection, one).usable for one in (*SANITIZE, T.OPAL_REVERT))


def test_every_technique_has_its_place_on_every_medium() -> None:
    for kind, level, profile in itertools.product(MediumType, Level, [None, *PROFILES.values()]):
        listed = preference(kind, level, profile)
        assert len(set(listed)) == len(listed) == len(Technique)
        if profile is not None:
            assert [str(one) for one in listed[: len(profile.techniques)]] == list(profile.techniques)
