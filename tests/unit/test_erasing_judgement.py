"""judge_erasure rule by rule: from an erasure without any shortfall, one thing at a time is otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.core.drive import AtaSecurity, Drive, HiddenArea, NvmeNamespace
from expunge_agent.core.erasure import changes
from expunge_agent.core.erasure_progress import ErasureProgress
from expunge_agent.core.outcome import NOT_READ_BACK, Verdict, judge_erasure
from expunge_agent.core.progress import RunProgress, apply
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import Canaries, Erasure, ReadBack
from lab.bench import Entry

SIZE = 1 << 30
CANARIES = Canaries(
    key="00" * 32,
    block=4096,
    planned=1000,
    written=1000,
    looked_for=1000,
    found=0,
    unreadable=0,
    samples=256,
    telling=200,
    kept=0,
)
READ = ReadBack(
    kind="full",
    bytes_expected=U64(SIZE),
    bytes_read=U64(SIZE),
    unreadable_bytes=U64(0),
    unreadable=[],
    zeros=U64(SIZE),
    ones=U64(0),
    constant=U64(0),
    other=U64(0),
    io_mode="direct",
    reads_medium=True,
    started_at="2026-03-02T12:00:00.000Z",
    finished_at="2026-03-02T12:00:00.000Z",
    duration_ms=U64(1),
    complete=True,
    seed="",
    block=4096,
    rule="",
)
WHOLE = Erasure(
    technique="nvme-sanitize-block",
    accepted=True,
    progress_seen=True,
    ended="done",
    attempts=1,
    detail="",
    started_at="2026-03-02T12:00:00.000Z",
    finished_at="2026-03-02T12:00:00.000Z",
    duration_ms=U64(1),
    settled=True,
    settling="",
    canaries=CANARIES,
    read_back=READ,
    changes=[],
    answers=[],
)


def judged(how: dict[str, Any] | None = None, **changed: Any) -> Verdict:
    around: dict[str, Any] = {"size": SIZE, "earns": Level.PURGE, "verify": True, **(how or {})}
    return judge_erasure(replace(WHOLE, **changed), **around)


def canaries(**changed: Any) -> dict[str, Any]:
    return {"canaries": replace(CANARIES, **changed)}


def read(**changed: Any) -> dict[str, Any]:
    return {"read_back": replace(READ, **changed)}


def test_without_a_shortfall_it_earns_its_level() -> None:
    verdict = judged()
    assert (verdict.outcome, verdict.level, verdict.exceptions, verdict.failure) == (
        Outcome.SANITIZED,
        Level.PURGE,
        [],
        "",
    )


@pytest.mark.parametrize("one", [{"accepted": False}, {"progress_seen": False}], ids=str)
def test_either_its_acceptance_or_its_progress_is_enough(one: dict[str, bool]) -> None:
    assert judged(**one).outcome is Outcome.SANITIZED


NOT_SANITIZED: list[tuple[str, dict[str, Any], dict[str, Any], Outcome, str]] = [
    ("canary", canaries(found=1), {}, Outcome.FAILED, "1 of 1000 canaries"),
    ("old data", canaries(kept=2), {}, Outcome.FAILED, "2 of 200 blocks of old data"),
    ("canary, end unknown", {"ended": "unknown", **canaries(found=1)}, {}, Outcome.FAILED, "gave no word"),
    ("canary, stopped", canaries(found=1), {"stopped": True}, Outcome.FAILED, "1 of 1000"),
    ("failed", {"ended": "failed", "detail": "at 40 %"}, {}, Outcome.FAILED, "failed at it: at 40 %"),
    ("failed, all there", {"ended": "failed", **canaries(found=9)}, {}, Outcome.FAILED, "failed at it"),
    ("not begun", {"ended": "not-begun", "detail": "frozen"}, {}, Outcome.FAILED, "did not take"),
    ("no reason", {"ended": "not-begun"}, {}, Outcome.FAILED, "no reason"),
    ("running", {"ended": "running", "canaries": None}, {}, Outcome.UNKNOWN, "came to no end"),
    ("unknown", {"ended": "unknown"}, {}, Outcome.UNKNOWN, "not known"),
    ("gone", {}, {"trouble": "It is gone."}, Outcome.UNKNOWN, "It is gone."),
    ("never seen", {"accepted": False, "progress_seen": False}, {}, Outcome.UNKNOWN, "not seen to begin"),
    ("changed", {"changes": ["serial: before A, after B"]}, {}, Outcome.FAILED, "before A, after B"),
    ("no canaries", {"canaries": None}, {}, Outcome.FAILED, "could not be looked at"),
    ("no read-back", {"read_back": None}, {}, Outcome.FAILED, "could not be looked at"),
    (
        "mostly unreadable",
        read(bytes_read=U64(SIZE // 2 - 1), unreadable_bytes=U64(SIZE // 2 + 1)),
        {},
        Outcome.FAILED,
        "Most could not be read back",
    ),
    ("broken read-back", read(complete=False), {}, Outcome.FAILED, "could not be looked at"),
    ("stopped", {"canaries": None}, {"stopped": True}, Outcome.INTERRUPTED, "cannot be stopped"),
    ("stopped before", {"canaries": None, "attempts": 0}, {"stopped": True}, Outcome.INTERRUPTED, "stopped"),
]


@pytest.mark.parametrize(
    ("changed", "how", "outcome", "words"),
    [row[1:] for row in NOT_SANITIZED],
    ids=[row[0] for row in NOT_SANITIZED],
)
def test_what_fails(changed: dict[str, Any], how: dict[str, Any], outcome: Outcome, words: str) -> None:
    verdict = judged(how, **changed)
    assert (verdict.outcome, verdict.level) == (outcome, Level.NONE)
    assert words in verdict.failure


EXCEPTIONS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("none written", canaries(written=0, looked_for=0), {}, "No canary could be written"),
    ("some not written", canaries(written=990, looked_for=990), {}, "10 of 1000 places could not be written"),
    ("some lost", canaries(written=700, looked_for=700, lost=300), {}, "300 of 1000 places did not hold"),
    ("old data unreadable", canaries(samples_unreadable=2), {}, "2 of "),
    ("some unreadable", canaries(unreadable=3), {}, "3 of 1000 canaries could not be read"),
    ("bad sectors", read(unreadable_bytes=U64(SIZE // 64)), {}, "1.5625 %"),
    ("cached", read(reads_medium=False, io_mode="buffered"), {}, "cache (buffered)"),
    ("left locked", {"settled": False, "settling": "still locked"}, {}, "still locked"),
    ("nothing read", {"read_back": None}, {"verify": False}, NOT_READ_BACK),
    ("doubt", {}, {"doubts": ["It earns less here."]}, "It earns less here."),
]


@pytest.mark.parametrize(
    ("changed", "how", "words"), [row[1:] for row in EXCEPTIONS], ids=[row[0] for row in EXCEPTIONS]
)
def test_what_is_an_exception(changed: dict[str, Any], how: dict[str, Any], words: str) -> None:
    verdict = judged(how, **changed)
    assert (verdict.outcome, verdict.level) == (Outcome.EXCEPTIONS, Level.NONE)
    assert len(verdict.exceptions) == 1
    assert words in verdict.exceptions[0]


def test_lost_and_unwritten_places_are_told_apart() -> None:
    verdict = judged(**canaries(written=600, looked_for=600, lost=300))
    assert any("300 of 1000 places did not hold" in one for one in verdict.exceptions)
    assert any("100 of 1000 places could not be written" in one for one in verdict.exceptions)


ENDS = st.sampled_from(["not-begun", "done", "failed", "running", "unknown"])
SMALL = st.integers(0, 3)


@given(ENDS, st.booleans(), st.booleans(), SMALL, SMALL, SMALL, st.booleans(), st.booleans(), st.booleans())
def test_only_what_has_no_flaw_is_sanitized(
    ended: Any,
    accepted: bool,
    seen: bool,
    found: int,
    kept: int,
    unreadable: int,
    settled: bool,
    changed: bool,
    complete: bool,
) -> None:
    verdict = judged(
        ended=ended,
        accepted=accepted,
        progress_seen=seen,
        settled=settled,
        changes=["size"] if changed else [],
        **canaries(found=found, kept=kept, unreadable=unreadable),
        **read(complete=complete),
    )
    flaws = ended != "done" or not (accepted or seen) or found or kept or unreadable
    flaws = flaws or not settled or changed or not complete
    assert (verdict.outcome is Outcome.SANITIZED) == (not flaws)
    assert (verdict.level is Level.NONE) == bool(flaws)


def test_an_erasure_that_was_never_begun_says_so() -> None:
    result = ErasureProgress().result("nvme-sanitize-block", None)
    assert (result.ended, result.attempts, result.canaries) == ("not-begun", 0, None)
    result = ErasureProgress(attempts=1).result("nvme-sanitize-block", None)
    assert result.ended == "running"


def test_what_was_seen_of_an_attempt_counts_only_for_that_one() -> None:
    run = RunProgress()
    told: list[tuple[str, bool, int]] = []
    for kind in ("erase-starting", "erase-accepted", "erase-seen", "erase-starting"):
        apply(run, Entry(kind, "2026-03-02T12:00:00.000Z", {"target": 0, "answers": []}))
        erasure = run.target(0).erasure
        told.append((kind, erasure.accepted or erasure.seen, erasure.attempts))
    assert [one[1:] for one in told] == [(False, 1), (True, 1), (True, 1), (False, 2)]


# What an erase leaves as it is

DRIVE = Drive(protocol="ata", model="M", serial="S", apparent=U64(SIZE), logical_sector=512)
OFF = dict.fromkeys(("enabled", "locked", "frozen", "expired"), False)


def test_the_same_drive_has_not_changed() -> None:
    assert changes(DRIVE, DRIVE) == []
    assert changes(DRIVE, replace(DRIVE, sanitize_state="done")) == []


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ({"serial": "T"}, "serial: before S, after T"),
        ({"model": "N"}, "model: before M"),
        ({"firmware": "2"}, "firmware"),
        ({"apparent": U64(SIZE // 2)}, "apparent"),
        ({"logical_sector": 4096}, "logical_sector"),
        ({"names": ["naa.5"]}, "names"),
        ({"namespaces": [NvmeNamespace(nsid=1, attached=True)]}, "namespaces: before 0, after 1"),
        (
            {"hidden": [HiddenArea(kind="hpa", size=U64(512), restorable=True)]},
            "hides space: HPA of 512 bytes",
        ),
        ({"security": AtaSecurity(supported=True, enhanced=True, **{**OFF, "enabled": True})}, "password"),
    ],
    ids=str,
)
def test_what_has_changed_is_told(after: dict[str, Any], words: str) -> None:
    (told,) = changes(DRIVE, replace(DRIVE, **after))
    assert words in told
