"""Destroyed keys: what the conditions allow, what a receipt may claim, and how the certificate shows it."""

from __future__ import annotations

import itertools
from html import unescape
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.core.key_progress import KeyProgress, KeyStep
from expunge_agent.core.luks import parse
from expunge_agent.core.luks_case import HEADER_COPY, IN_KEYRING, luks_case
from expunge_agent.core.luks_result import CHECK, ERASE, destruction
from expunge_agent.core.medium import MediumType
from expunge_agent.core.technique import Technique, earns
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.key_rules import STATED, KeyCondition, lesser, most
from expunge_agent.protocol.order_keys import KeyStatement, KeyWish
from expunge_agent.protocol.receipt import MediumFacts, TargetResult
from expunge_agent.protocol.receipt_keys import Condition, KeyCopy, KeyDestruction
from expunge_controller.records.consistency import evidence_problems
from expunge_controller.records.receipt_checks import order_problems
from expunge_controller.render.certificate_key import key_section
from support.evidence import DISK, World, a_pass, a_verification, target_result
from support.luks import recorded, with_json

WORLD: Final = World()
TARGET: Final = Target(identity=DISK, hint="/dev/sdz")
AREA: Final = 16 << 20
MIB: Final = 1 << 20
ALL_YES: Final = [KeyStatement(id=one, holds="yes", said_by="custodian") for one in STATED]
ANSWERS: Final = ("yes", "no", "unknown")


def case(
    name: str = "luks2",
    medium: MediumType = MediumType.HDD,
    found: tuple[KeyCopy, ...] = (),
    statements: list[KeyStatement] | None = None,
):
    head, size = recorded(name)
    said = ALL_YES if statements is None else statements
    return luks_case(parse(head, size), medium, found, [], said, size=size)


def told(what: Any, overwritten: bool = True, trouble: str = "") -> KeyDestruction:
    steps = {ERASE: KeyStep(name=ERASE, done=True), CHECK: KeyStep(name=CHECK, done=True, trouble=trouble)}
    return destruction(what, "/dev/sdz", AREA, KeyProgress(steps), overwritten)


def result(**changes: Any) -> TargetResult:
    fields: dict[str, Any] = {
        "technique": "luks-erase",
        "level_achieved": Level.PURGE,
        "medium": MediumFacts(path="/dev/sdz", type="hdd"),
        "passes": [a_pass(one, bytes_written=U64(AREA)) for one in (0, 1)],
        "verifications": [
            a_verification(of_pass=one, bytes_expected=U64(AREA), bytes_read=U64(AREA)) for one in (0, 1)
        ],
        "key": told(case()),
    }
    return target_result(TARGET, **(fields | changes))


def problems(one: TargetResult) -> str:
    receipt = WORLD.receipt(
        WORLD.order(), targets=[one], outcome=one.outcome, level_achieved=one.level_achieved
    )
    return "; ".join(evidence_problems(receipt))


def conditions(**answers: str) -> list[Condition]:
    return [
        Condition(id=one.value, holds=answers.get(one.name, "yes"), why="because") for one in KeyCondition
    ]  # type: ignore[arg-type]


# What the conditions allow


def test_every_condition_that_holds_is_purge_and_any_unknown_blocks_it() -> None:
    assert most(conditions()) is Level.PURGE
    for one, answer in itertools.product(KeyCondition, ("no", "unknown")):
        assert most(conditions(**{one.name: answer})) is not Level.PURGE, one
    assert most([]) is Level.NONE


def test_only_what_matters_in_a_laboratory_leaves_clear() -> None:
    kept = {
        (one, answer)
        for one, answer in itertools.product(KeyCondition, ("no", "unknown"))
        if most(conditions(**{one.name: answer})) is Level.CLEAR
    }
    assert kept == {
        (KeyCondition.VALIDATED_MODULE, "unknown"),
        (KeyCondition.VALIDATED_MODULE, "no"),
        (KeyCondition.KEYS_IN_REACH, "unknown"),
        (KeyCondition.KEY_ENTROPY, "unknown"),
    }


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([one.name for one in KeyCondition]), st.sampled_from(ANSWERS)))
def test_a_better_answer_never_costs(answers: dict[str, str]) -> None:
    before = most(conditions(**answers))
    for name in answers:
        assert most(conditions(**(answers | {name: "yes"}))).reaches(before)


@pytest.mark.parametrize("kind", MediumType)
def test_purge_on_rotating_media_only(kind: MediumType) -> None:
    most_here = lesser(earns(Technique.LUKS_ERASE, kind), case(medium=kind).level)
    assert most_here is (Level.PURGE if kind is MediumType.HDD else Level.CLEAR)


def holds(what: Any) -> dict[str, str]:
    return {one.id: one.holds for one in what.conditions}


def test_what_is_seen_outweighs_what_is_said() -> None:
    backup = KeyCopy(where="/backup/h", what=HEADER_COPY, fate="remains")
    held = KeyCopy(where="logon cryptsetup:x", what=IN_KEYRING, fate="remains")
    assert holds(case(found=(backup,)))["no-header-backup"] == "no"
    assert holds(case(found=(held,)))["no-key-in-memory"] == "no"
    assert holds(case("luks2-encrypting"))["always-encrypted"] == "no"
    assert holds(case("luks2-erased"))["key-strength"] == "unknown"
    silent = case(statements=[])
    assert {one for one, how in holds(silent).items() if how == "yes"} == {"key-strength", "keys-in-reach"}
    assert silent.level is Level.NONE


def test_a_drive_that_encrypts_by_itself_earns_nothing() -> None:
    def opal(plain: dict) -> None:
        plain["segments"]["0"] = {"type": "hw-opal", "offset": "16777216", "size": "dynamic"}

    head, size = recorded("luks2")
    found = luks_case(parse(with_json(head, opal), size), MediumType.HDD, (), [], ALL_YES, size=size)
    assert holds(found)["keys-in-reach"] == "no"
    assert found.level is Level.NONE


@pytest.mark.parametrize("detached", [False, True])
def test_what_the_header_leaves_in_the_open_outweighs_what_is_said(detached: bool) -> None:
    """A segment that ends before the medium does; a detached header whose data begin further on."""
    head, size = recorded("luks2")

    def shorter(plain: dict) -> None:
        plain["segments"]["0"]["size"] = str(MIB)

    beside = FileIdentity(path="/h", device="8:1", inode=U64(2), size=U64(AREA)) if detached else None
    parsed = parse(head if detached else with_json(head, shorter), size)
    found = luks_case(parsed, MediumType.HDD, (), [], ALL_YES, beside, size=64 * MIB)
    assert holds(found)["always-encrypted"] == "unknown"
    assert found.level is Level.NONE
    assert "0 to 16777216" in found.lacking if detached else "17825792 to 67108864" in found.lacking
    assert any("without encryption" in one for one in told(found).readable)


@pytest.mark.parametrize("word", ["no", "unknown"])
def test_of_several_words_on_a_condition_the_worst_counts(word: str) -> None:
    other = KeyStatement(id="no-escrow", holds=word, said_by="somebody else")  # type: ignore[arg-type]
    for said in ([*ALL_YES, other], [other, *ALL_YES]):
        assert holds(case(statements=said))["no-escrow"] == word


def test_a_header_in_doubt_earns_nothing() -> None:
    """Of two headers one is damaged: what it said of keyslots is not known."""
    head, size = recorded("luks2")
    broken = bytearray(head)
    broken[0x4000 + 4100] ^= 1
    found = luks_case(parse(bytes(broken), size), MediumType.HDD, (), [], ALL_YES, size=size)
    assert (holds(found)["keys-in-reach"], found.level) == ("no", Level.NONE)
    assert any("keyslots may lie" in one for one in told(found).readable)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(STATED), st.sampled_from(ANSWERS)),
    st.sampled_from(["luks1", "luks2", "luks2-tokens", "luks2-erased", "luks2-encrypting"]),
    st.sampled_from(list(MediumType)),
    st.booleans(),
)
def test_a_claim_and_something_readable_never_stand_together(
    said: dict[str, str], name: str, medium: MediumType, backup: bool
) -> None:
    statements = [KeyStatement(id=one, holds=how, said_by="x") for one, how in said.items()]  # type: ignore[arg-type]
    found = (KeyCopy(where="/b", what=HEADER_COPY, fate="remains"),) if backup else ()
    what = case(name, medium, found, statements)
    assert bool(told(what).readable) is (what.level is Level.NONE)
    assert told(what, overwritten=False).readable
    assert told(what, trouble="There is still the magic.").readable


# What a receipt may claim


def test_a_good_receipt_passes() -> None:
    assert problems(result()) == ""
    less = case(medium=MediumType.SSD)
    ssd = MediumFacts(path="/dev/sdz", type="ssd")
    assert problems(result(key=told(less), level_achieved=Level.CLEAR, medium=ssd)) == ""
    nothing = told(case(statements=[]))
    ended: dict[str, Any] = {"outcome": Outcome.EXCEPTIONS, "level_achieved": Level.NONE}
    assert problems(result(key=nothing, exceptions=["nobody said"], **ended)) == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": None}, "nothing is told of the key"),
        ({"key": told(case(statements=[]))}, "its conditions allow none, and it claims purge"),
        ({"key": told(case(medium=MediumType.SSD))}, "its conditions allow clear, and it claims purge"),
        ({"medium": MediumFacts(path="/dev/sdz", type="ssd")}, "earns clear on a medium of type ssd"),
        ({"key": told(case(), trouble="held")}, "no copy of the key is told to be destroyed"),
        ({"key": replace(told(case()), readable=["everything"])}, "says that data can still be read"),
        ({"key": replace(told(case()), conditions=[])}, "its conditions allow none"),
        (
            {"key": replace(told(case()), conditions=[*told(case()).conditions, *conditions()])},
            "names a condition twice",
        ),
        (
            {
                "key": replace(
                    told(case()),
                    conditions=[*told(case()).conditions, Condition(id="all-is-well", holds="yes", why="x")],
                )
            },
            "conditions that are not known here: all-is-well",
        ),
        ({"passes": []}, "without a single pass"),
        ({"passes": [a_pass(0, bytes_written=U64(AREA))], "verifications": []}, "was not read back"),
        ({"passes": [a_pass(one, bytes_written=U64(AREA - 512)) for one in (0, 1)]}, "accounts for"),
        ({"key": replace(told(case()), overwritten=U64(0))}, "passes were written over a header of 0 bytes"),
        ({"technique": "overwrite"}, "yet a key is told to be destroyed"),
    ],
)
def test_a_receipt_that_claims_more_is_found(changes: dict[str, Any], said: str) -> None:
    assert said in problems(result(**changes))


def against_the_order(said: list[KeyStatement] | None) -> str:
    """What is wrong with a receipt that calls all conditions met, where the order says this."""
    keys = KeyWish(statements=said) if said is not None else None
    one = result()
    body = WORLD.order(targets=[one.target], keys=keys, level=Level.PURGE)
    receipt = WORLD.receipt(body, targets=[one], level_achieved=Level.PURGE, level_requested=Level.PURGE)
    return "; ".join(order_problems(receipt, body))


def test_a_condition_that_nobody_vouched_for_is_not_met_because_the_agent_says_so() -> None:
    assert against_the_order(ALL_YES) == ""
    assert "no-escrow is called met, and nobody said so" in against_the_order(
        [one for one in ALL_YES if one.id != "no-escrow"]
    )
    denied = KeyStatement(id="no-header-backup", holds="no", said_by="archivist")
    assert "no-header-backup is called met" in against_the_order([*ALL_YES, denied])
    assert all(one in against_the_order(None) for one in STATED)


def test_a_condition_unmet_must_name_what_can_be_read() -> None:
    silent = replace(told(case(statements=[])), readable=[])
    found = problems(
        result(key=silent, outcome=Outcome.EXCEPTIONS, level_achieved=Level.NONE, exceptions=["nobody said"])
    )
    assert "does not say what can still be read" in found


# The certificate


def test_the_certificate_shows_conditions_copies_and_what_can_be_read() -> None:
    backup = KeyCopy(where="/backup/<h>", what=HEADER_COPY, fate="remains")
    page = unescape(key_section(told(case("luks2-tokens", found=(backup,), statements=[]))).html)
    for one in KeyCondition:
        assert f"({one.value})" in page
    for words in (
        "Key destruction",
        "密钥销毁",
        "UNKNOWN 未知",
        "REMAINS 仍存在",
        "destroyed 已销毁",
        "NO 否",
        "/backup/<h>",
        "systemd-tpm2",
        "16,777,216",
        "00000000-0000-4000-8000-000000000003",
    ):
        assert words in page
    assert "/backup/<h>" not in key_section(told(case(found=(backup,)))).html  # escaped
    assert "nothing that is known" in key_section(told(case())).html
