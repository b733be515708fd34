"""What a shredding may claim: every condition for purge, most for clear, and never more than was seen."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.key_rules import most
from expunge_agent.protocol.receipt_keys import Condition
from expunge_agent.vault.conditions import ORDER, conditions, lacking
from expunge_agent.vault.findings import destruction, doubts_before, expected, verdict
from expunge_agent.vault.keystore import Entry
from expunge_agent.vault.story import STDOUT, UNSAID, Change, Copy, Export, Gone, Statement, Story

NOW, ROOT, KEY, OBJECT = "2026-11-22T12:00:00Z", "a" * 32, "b" * 32, "c" * 32
CHANGE = Change(
    shred=KEY, subject="s1", from_root=ROOT, to_root="d" * 32, generation=U64(7), order="", at=NOW
)
GONE = Gone(
    how="gone",
    beyond=True,
    doubts=[],
    evidence=[],
    dropped=[U64(5), U64(6)],
    digest_before="00",
    digest_after="11",
    opens=[],
    kept=U64(3),
)
EXPORT = Export(id="1" * 32, object=OBJECT, key=KEY, where="/out", at=NOW, by="tester")


def said(name: str, holds: str = "yes") -> Statement:
    return Statement(id=name, holds=holds, why="because", at=NOW, by="tester", root=ROOT)  # type: ignore[arg-type]


ALL = [said("validated-module"), said("no-header-backup"), said("no-escrow")]


def shredded(
    *statements: Statement,
    gone: Gone = GONE,
    exports: tuple[Export, ...] = (),
    copies: tuple[Copy, ...] = (),
    wanted: Level = Level.CLEAR,
) -> tuple[Outcome, Level, list[str], str]:
    story = Story(exports=list(exports), copies=list(copies), statements=list(statements))
    key = destruction(story, CHANGE, gone, made_in=2, where="w", folder="f", is_there=lambda _: False)
    return verdict(gone, key, wanted)


def test_purge_takes_a_device_and_every_condition() -> None:
    assert shredded(*ALL)[:2] == (Outcome.SANITIZED, Level.PURGE)
    assert shredded(*ALL[1:])[:2] == (Outcome.SANITIZED, Level.CLEAR)
    in_a_file = msgspec.structs.replace(GONE, beyond=False)
    assert shredded(*ALL, gone=in_a_file)[:2] == (Outcome.SANITIZED, Level.CLEAR)


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("word", ["no", "unknown", None])
def test_a_copy_of_the_root_key_that_nobody_ruled_out_earns_nothing(missing: int, word: str | None) -> None:
    statements = [*ALL]
    taken = statements.pop(missing)
    if word is not None:
        statements.append(said(taken.id, word))
    outcome, level, exceptions, _ = shredded(*statements)
    assert (outcome, level) == (Outcome.EXCEPTIONS, Level.NONE)
    assert taken.id in " ".join(exceptions)


def test_the_last_word_counts() -> None:
    assert shredded(*ALL, said("no-escrow", "no"))[1] is Level.NONE
    assert shredded(said("no-escrow", "no"), *ALL)[1] is Level.PURGE


def test_nothing_else_can_be_stated() -> None:
    """What the machine sees itself is not for people to say."""
    lie = msgspec.structs.replace(GONE, beyond=False)
    assert shredded(*ALL, said("keys-in-reach"), gone=lie)[1] is Level.CLEAR
    assert shredded(*ALL, said("always-encrypted"), exports=(EXPORT,))[1] is Level.NONE


def test_plaintext_that_was_given_out_is_named_until_it_is_destroyed() -> None:
    outcome, level, exceptions, _ = shredded(*ALL, exports=(EXPORT,))
    assert (outcome, level) == (Outcome.EXCEPTIONS, Level.NONE)
    assert any("/out" in one for one in exceptions)
    gone = msgspec.structs.replace(said("export-destroyed"), exports=[EXPORT.id])
    assert shredded(*ALL, gone, exports=(EXPORT,))[1] is Level.PURGE
    other = msgspec.structs.replace(EXPORT, id="2" * 32, where=STDOUT)
    assert shredded(*ALL, gone, exports=(EXPORT, other))[1] is Level.NONE
    of_another = msgspec.structs.replace(EXPORT, key="e" * 32)
    assert shredded(*ALL, exports=(of_another,))[1] is Level.PURGE


def test_an_old_keystore_that_still_opens_refutes_it_all() -> None:
    outcome, level, _, failure = shredded(*ALL, gone=msgspec.structs.replace(GONE, opens=["generation 6"]))
    assert (outcome, level) == (Outcome.FAILED, Level.NONE)
    assert "generation 6" in failure


def test_the_holders_doubts_are_exceptions() -> None:
    doubtful = msgspec.structs.replace(GONE, doubts=["it lies elsewhere now"])
    outcome, level, exceptions, _ = shredded(*ALL, gone=doubtful)
    assert (outcome, level) == (Outcome.EXCEPTIONS, Level.NONE)
    assert "elsewhere" in exceptions[0]


def test_less_than_was_asked_is_no_plain_success() -> None:
    in_a_file = msgspec.structs.replace(GONE, beyond=False)
    outcome, level, exceptions, _ = shredded(*ALL, gone=in_a_file, wanted=Level.PURGE)
    assert (outcome, level) == (Outcome.EXCEPTIONS, Level.NONE)
    assert "keys-in-reach" in exceptions[0]
    assert shredded(*ALL, gone=in_a_file, wanted=Level.NONE)[:2] == (Outcome.SANITIZED, Level.CLEAR)


def test_every_known_copy_is_listed() -> None:
    backup = Copy(where="tape 12", generation=U64(6), root=ROOT, at=NOW, by="tester")
    later = msgspec.structs.replace(backup, where="tape 13", generation=U64(7))
    key = destruction(
        Story(copies=[backup, later], statements=ALL),
        CHANGE,
        GONE,
        made_in=2,
        where="the token",
        folder="/vault",
        is_there=lambda _: False,
    )
    assert [(one.where, one.fate) for one in key.copies] == [
        ("the token", "destroyed"),
        ("/vault, generation 7", "destroyed"),
        ("/vault, generation 5", "destroyed"),
        ("/vault, generation 6", "destroyed"),
        ("tape 12", "remains"),
        ("anywhere else", "unknown"),
    ]
    assert key.readable == []
    assert (key.key, key.generation) == (KEY, 7)


def test_where_no_level_is_earned_it_says_who_can_read() -> None:
    key = destruction(Story(), CHANGE, GONE, made_in=2, where="w", folder="f", is_there=lambda _: True)
    assert any(ROOT in one for one in key.readable)


@pytest.mark.parametrize("holds", [*itertools.product(["yes", "unknown"], repeat=3)])
def test_the_level_is_the_conditions(holds: tuple[str, str, str]) -> None:
    module, reach, escrow = holds
    words = dict.fromkeys(ORDER, "yes") | {
        "validated-module": module,
        "keys-in-reach": reach,
        "no-escrow": escrow,
    }
    found = [Condition(id=name, holds=word, why="w") for name, word in words.items()]  # type: ignore[arg-type]
    due = Level.NONE if escrow != "yes" else Level.CLEAR if "unknown" in (module, reach) else Level.PURGE
    assert most(found) is due
    assert ("no-escrow" in lacking(found, Level.CLEAR)) == (escrow != "yes")
    assert "validated-module" not in lacking(found, Level.CLEAR)


def test_all_conditions_are_always_there() -> None:
    for beyond, doubts in itertools.product((True, False), ([], ["one"])):
        found = conditions(Story(), KEY, ROOT, beyond=beyond, doubts=doubts)
        assert tuple(one.id for one in found) == ORDER


ROTATED = msgspec.structs.replace(
    CHANGE, shred="", subject="", from_root="9" * 32, to_root=ROOT, generation=U64(5)
)


def test_doubts_about_every_root_that_wrapped_the_key_count() -> None:
    doubtful = msgspec.structs.replace(GONE, doubts=["its extents are shared"])
    story = Story(statements=ALL, changes=[(ROTATED, doubtful), (CHANGE, GONE)])
    story.copies.append(Copy(where="tape", generation=U64(3), root="9" * 32, at=NOW, by="tester"))
    for made_in, due in ((2, Level.NONE), (5, Level.PURGE)):  # made under the older root, or after it
        key = destruction(
            story, CHANGE, GONE, made_in=made_in, where="w", folder="f", is_there=lambda _: False
        )
        _, level, exceptions, _ = verdict(GONE, key, Level.CLEAR, doubts_before(story, made_in, 6))
        assert level is due
        fates = {one.what: one.fate for one in key.copies}
        assert fates[f"root key {ROOT}"] == "destroyed"
        assert fates.get(f"root key {'9' * 32}") == (None if due is Level.PURGE else "unknown")
        (tape,) = [one for one in key.copies if one.where == "tape"]
        assert "opens nothing" not in tape.detail
        assert any("shared" in one for one in exceptions) == (due is Level.NONE)
    entry = Entry(subject="s", key=KEY, made_at=NOW, made_in=U64(2), generation=U64(5), wrapped="")
    early = Story(statements=ALL, changes=[(ROTATED, doubtful)])
    assert expected(early, entry, ROOT, beyond=True)[0] is Level.NONE


def test_a_word_on_root_keys_goes_with_the_root_key_unless_it_is_standing() -> None:
    old = [msgspec.structs.replace(one, root="9" * 32) for one in ALL]
    for words, due in (
        (old, "unknown"),
        ([msgspec.structs.replace(one, standing=True) for one in old], "yes"),
        (ALL, "yes"),
        ([msgspec.structs.replace(one, root="d" * 32) for one in ALL], "yes"),  # said since
    ):
        story = Story(statements=words, changes=[(ROTATED, GONE), (CHANGE, GONE)])
        found = {one.id: one.holds for one in conditions(story, KEY, ROOT, beyond=True)}
        assert (found["no-header-backup"], found["no-escrow"]) == (due, due)
        assert found["validated-module"] == "yes"


def test_what_went_out_unrecorded_or_is_lost_from_the_journal_is_unknown() -> None:
    unsaid = msgspec.structs.replace(EXPORT, where=UNSAID)
    for story in (Story(exports=[unsaid]), Story(gaps=["cut"])):
        found = {one.id: one for one in conditions(story, KEY, ROOT, beyond=True)}
        assert found["always-encrypted"].holds == "unknown"


def test_keys_that_may_lie_in_swap_are_not_called_gone_from_memory() -> None:
    risky = Story(swappable="the machine swaps")
    assert {one.id: one.holds for one in conditions(risky, KEY, ROOT, beyond=True)}[
        "no-key-in-memory"
    ] == "unknown"
    risky.statements.append(said("no-key-in-memory"))
    assert {one.id: one.holds for one in conditions(risky, KEY, ROOT, beyond=True)}[
        "no-key-in-memory"
    ] == "yes"


def in_order(name: str, holds: str, *noted: Statement) -> dict[str, str]:
    """What holds once an order states `name`, besides what the vault's journal has noted."""
    story = Story(statements=list(noted))
    story.take_word(msgspec.structs.replace(said(name, holds), why="stated in the order"))
    return {one.id: one.holds for one in conditions(story, KEY, ROOT, beyond=True)}


def test_what_an_order_states_counts_unless_the_vault_denies_it() -> None:
    assert in_order("no-escrow", "yes")["no-escrow"] == "yes"
    assert in_order("no-escrow", "no")["no-escrow"] == "no"
    assert in_order("no-escrow", "yes", said("no-escrow", "unknown"))["no-escrow"] == "yes"
    assert in_order("no-escrow", "yes", said("no-escrow", "no"))["no-escrow"] == "no"


@pytest.mark.parametrize("name", ["always-encrypted", "key-entropy"])
def test_what_the_vault_sees_can_only_be_made_worse_by_an_order(name: str) -> None:
    assert in_order(name, "no")[name] == "no"
    story = Story(exports=[EXPORT])
    story.take_word(said("always-encrypted", "yes"))
    story.take_word(said("always-encrypted", "unknown"))
    seen = {one.id: one.holds for one in conditions(story, KEY, ROOT, beyond=True)}
    assert seen["always-encrypted"] == "no"
