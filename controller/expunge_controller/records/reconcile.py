"""A machine's reconciliation: the media it should have had against those seen and those with a receipt. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from expunge_controller.records.csv_text import csv_text
from expunge_controller.records.media_lines import MediumLine, is_sanitized
from expunge_controller.records.media_list import Index, ListLine, fitting, index_of


class Finding(StrEnum):
    """How an expected medium, or one nobody expected, stands."""

    SANITIZED = "sanitized"
    NOT_SANITIZED = "not sanitized"
    NO_RECEIPT = "no receipt"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    UNEXPECTED = "not expected"


OPEN = (Finding.NOT_SANITIZED, Finding.NO_RECEIPT, Finding.MISSING, Finding.AMBIGUOUS)
"""Findings of expected media that leave a question."""


class Match(NamedTuple):
    """A line of the sheet. ``expected`` is None for a medium that nobody expected, ``medium`` where none was seen."""

    finding: Finding
    expected: ListLine | None
    medium: MediumLine | None


def reconcile(expected: Sequence[ListLine], seen: Sequence[MediumLine]) -> list[Match]:
    """Every expected medium in the order of the list, then those that nobody expected.

    Two lines that mean one medium, and a line that means several, are ambiguous.
    """
    index = index_of(seen)
    matches = [_match(one, index) for one in expected]
    taken = Counter(match.medium.digest for match in matches if match.medium)
    matches = [
        match._replace(finding=Finding.AMBIGUOUS)
        if match.medium and taken[match.medium.digest] > 1
        else match
        for match in matches
    ]
    return matches + [Match(Finding.UNEXPECTED, None, one) for one in seen if one.digest not in taken]


def tally(matches: Sequence[Match]) -> dict[Finding, int]:
    """How many of each finding; all findings are named."""
    counted = Counter(match.finding for match in matches)
    return {finding: counted[finding] for finding in Finding}


def complete(matches: Sequence[Match]) -> bool:
    """Whether every expected medium was seen and has a receipt that says sanitized."""
    return not any(match.finding in OPEN for match in matches)


def reconciliation_csv(matches: Sequence[Match]) -> str:
    """The sheet as a table."""
    head = (
        "line",
        "expected",
        "finding",
        "medium",
        "name",
        "serial",
        "outcome",
        "receipt",
        "certificate",
        "note",
    )
    return csv_text(head, map(_row, matches))


def _row(match: Match) -> tuple[object, ...]:
    wish, seen = match.expected, match.medium
    return (
        *((wish.line, wish.words) if wish else ("", "")),
        match.finding,
        *(
            (seen.digest, seen.name, seen.serial, seen.outcome, seen.receipt, seen.certificate)
            if seen
            else [""] * 6
        ),
        wish.others.get("note", "") if wish else "",
    )


def _match(one: ListLine, index: Index) -> Match:
    found = fitting(one, index)
    if len(found) != 1:
        return Match(Finding.AMBIGUOUS if found else Finding.MISSING, one, None)
    if not found[0].outcome:
        return Match(Finding.NO_RECEIPT, one, found[0])
    return Match(Finding.SANITIZED if is_sanitized(found[0]) else Finding.NOT_SANITIZED, one, found[0])
