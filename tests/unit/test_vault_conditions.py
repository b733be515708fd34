"""What a shredding may claim: every condition for purge, most for clear, and never more than was seen."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.key_rules import KeyCondition, most
from expunge_agent.protocol.receipt_keys import Condition
from expunge_agent.vault.conditions import conditions, lacking
from expunge_agent.vault.findings import destruction, verdict
from expunge_agent.vault.story import STDOUT, Change, Copy, Export, Gone, Statement, Story

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
EXPORT = Export(object=OBJECT, key=KEY, where="/out", at=NOW, by="tester")


def said(name: str, holds: str = "yes") -> Statement:
    return Statement(id=name, holds=holds, why="because", at=NOW, by="tester")  # type: ignore[arg-type]


ALL = [said("validated-module"), said("no-header-backup"), said("no-escrow")]


def shredded(
    *statements: Statement,
    gone: Gone = GONE,
    exports: tuple[Export, ...] = (),
    copies: tuple[Copy, ...] = (),
    tight: bool = False,
    wanted: Level = Level.CLEAR,
) -> tuple[Outcome, Level, list[str], str]:
    story = Story(exports=list(exports), copies=list(copies), statements=list(statements))
    key = destruction(
        story, CHANGE, gone, where="w", folder="f", lets_no_copy_out=tight, is_there=lambda _: False
    )
    return verdict(gone, key, wanted)


def test_purge_takes_a_device_and_every_condition() -> None:
    assert shredded(*ALL)[:2] == (Outcome.SANITIZED, Level.PURGE)
    assert shredded(ALL[0], tight=True)[:2] == (Outcome.SANITIZED, Level.PURGE)
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
    gone = msgspec.structs.replace(said("export-destroyed"), why="/out\nwiped, receipt 12")
    assert shredded(*ALL, gone, exports=(EXPORT,))[1] is Level.PURGE
    other = msgspec.structs.replace(EXPORT, where=STDOUT)
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
        where="the token",
        folder="/vault",
        lets_no_copy_out=False,
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
    key = destruction(
        Story(), CHANGE, GONE, where="w", folder="f", lets_no_copy_out=False, is_there=lambda _: True
    )
    assert any(ROOT in one for one in key.readable)


@pytest.mark.parametrize("holds", [*itertools.product(["yes", "unknown"], repeat=3)])
def test_the_level_is_the_conditions(holds: tuple[str, str, str]) -> None:
    module, reach, escrow = holds
    words = dict.fromkeys((one.value for one in KeyCondition), "yes") | {
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
    for gone, tight in itertools.product((None, GONE), (True, False)):
        found = conditions(lets_no_copy_out=tight, beyond=True, gone=gone, plaintexts=[], said=[])
        assert [one.id for one in found] == list(KeyCondition)
