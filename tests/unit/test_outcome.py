"""What evidence earns where not every byte could be written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.core.outcome import judge
from expunge_agent.core.percent import percent
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt import Conduct, PassResult, Verification
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem

SIZE = 1 << 20
NOW = "2026-11-22T12:00:00Z"


def bad(start: int, length: int, what: str) -> RangeProblem:
    return RangeProblem(range=ByteRange(start=U64(start), length=U64(length)), what=what)


def written_but_for(errors: list[RangeProblem]) -> PassResult:
    lost = sum(one.range.length for one in errors)
    return PassResult(
        index=0,
        pattern="byte 00",
        fixed="00",
        stream=None,
        bytes_written=U64(SIZE - lost),
        started_at=NOW,
        finished_at=NOW,
        duration_ms=U64(1),
        complete=True,
        flushed=True,
        io_mode="direct",
        resumed_at=[],
        errors=errors,
        error_count=U64(len(errors)),
        error_bytes=U64(lost),
        conduct=Conduct(chunk=65536, stripes=1),
    )


def read_back(mismatches: list[RangeProblem]) -> Verification:
    wrong = sum(one.range.length for one in mismatches)
    return Verification(
        kind="full",
        of_pass=0,
        bytes_expected=U64(SIZE),
        bytes_read=U64(SIZE),
        mismatched_bytes=U64(wrong),
        unreadable_bytes=U64(0),
        unreadable=[],
        mismatches=mismatches,
        mismatch_count=U64(len(mismatches)),
        started_at=NOW,
        finished_at=NOW,
        duration_ms=U64(1),
        io_mode="direct",
        reads_medium=True,
        complete=True,
    )


def outcome(errors: list[RangeProblem], mismatches: list[RangeProblem], **changes: object) -> Outcome:
    check = msgspec.structs.replace(read_back(mismatches), **changes)
    return judge(SIZE, 1, [0], Level.CLEAR, [written_but_for(errors)], [check]).outcome


TWO = [bad(8192, 512, "flush: EIO"), bad(4096, 4096, "write: EIO"), bad(65536, 512, "write: EIO")]


@pytest.mark.parametrize(
    ("mismatches", "explained"),
    [
        ([(4096, 4608)], True),  # spans two neighbours that failed each in its way
        ([(4097, 4606)], True),
        ([(4096, 4096), (8192, 512), (65536, 512)], True),
        ([(4095, 4608)], False),
        ([(4096, 4609)], False),
        ([(4096, 4608), (70000, 1)], False),
        ([(8192, 60000)], False),  # the gap between two errors is none
    ],
)
def test_wrong_bytes_are_explained_by_what_could_not_be_written(
    mismatches: list[tuple[int, int]], explained: bool
) -> None:
    found = [bad(start, length, "old data") for start, length in mismatches]
    assert outcome(TWO, found) is (Outcome.EXCEPTIONS if explained else Outcome.FAILED)


def test_what_is_not_listed_is_not_explained() -> None:
    found = [bad(4096, 4608, "old data")]
    assert outcome(TWO, found, mismatch_count=U64(2)) is Outcome.FAILED


def test_more_errors_than_can_be_listed_explain_nothing_and_it_says_so() -> None:
    errors = [bad(4096, 512, "write: EIO")]
    result = msgspec.structs.replace(
        written_but_for(errors), error_count=U64(2), error_bytes=U64(1024), bytes_written=U64(SIZE - 1024)
    )
    check = read_back([bad(9216, 512, "old data")])
    verdict = judge(SIZE, 1, [0], Level.CLEAR, [result], [check])
    assert verdict.outcome is Outcome.FAILED
    assert "More ranges could not be written than can be listed" in verdict.failure


@pytest.mark.parametrize(
    ("lost", "outcome"), [(SIZE // 2, Outcome.EXCEPTIONS), (SIZE // 2 + 1, Outcome.FAILED)]
)
def test_what_was_mostly_not_written_is_not_called_sanitized(lost: int, outcome: Outcome) -> None:
    errors = [bad(0, lost, "write: EIO")]
    verdict = judge(SIZE, 1, [0], Level.CLEAR, [written_but_for(errors)], [read_back(errors)])
    assert (verdict.outcome, verdict.level) == (outcome, Level.NONE)
    assert ("could not write most of it" in verdict.failure) == (outcome is Outcome.FAILED)


@pytest.mark.parametrize(
    ("lost", "outcome"), [(SIZE // 2, Outcome.EXCEPTIONS), (SIZE // 2 + 1, Outcome.FAILED)]
)
def test_what_was_mostly_not_read_back_is_not_called_sanitized(lost: int, outcome: Outcome) -> None:
    check = msgspec.structs.replace(read_back([]), bytes_read=U64(SIZE - lost), unreadable_bytes=U64(lost))
    verdict = judge(SIZE, 1, [0], Level.CLEAR, [written_but_for([])], [check])
    assert (verdict.outcome, verdict.level) == (outcome, Level.NONE)
    assert ("could not read most of" in verdict.failure) == (outcome is Outcome.FAILED)


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 100, "0.0000 %"),
        (1, 64, "1.5625 %"),
        (512, 16 * 10**12, "less than 0.0001 %"),
        (10**6 - 1, 10**12, "less than 0.0001 %"),
        (10**6, 10**12, "0.0001 %"),
        (10**12 - 1, 10**12, "99.9999 %"),
        (10**12, 10**12, "100.0000 %"),
        (0, 0, "0.0000 %"),
    ],
)
def test_a_share_is_never_rounded_to_none_or_all(part: int, whole: int, text: str) -> None:
    assert percent(part, whole) == text


@given(st.integers(1, 1 << 64).flatmap(lambda whole: st.tuples(st.integers(0, whole), st.just(whole))))
def test_a_share_says_no_more_than_there_is(case: tuple[int, int]) -> None:
    part, whole = case
    text = percent(part, whole)
    assert (text == "0.0000 %") == (part == 0)
    assert (text == "100.0000 %") == (part == whole)
    if not text.startswith("less"):
        assert 0 <= part * 10**6 - int(text[:-2].replace(".", "")) * whole < whole


def test_exceptions_say_bytes_ranges_and_per_cent() -> None:
    errors = [bad(4096, 512, "write: EIO"), bad(65536, 15872, "write: EIO")]
    check = msgspec.structs.replace(read_back([]), bytes_read=U64(SIZE - 4096), unreadable_bytes=U64(4096))
    verdict = judge(SIZE, 1, [0], Level.CLEAR, [written_but_for(errors)], [check])
    assert verdict.exceptions == [
        "Pass 1: 16384 of 1048576 bytes (1.5625 %) in 2 ranges could not be written.",
        "Verification after pass 1: 4096 of 1048576 bytes (0.3906 %) could not be read.",
    ]


def test_a_verification_that_was_broken_off_does_not_count() -> None:
    assert outcome([], []) is Outcome.SANITIZED
    assert outcome([], [], complete=False) is Outcome.FAILED
