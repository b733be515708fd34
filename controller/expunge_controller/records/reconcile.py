"""A machine's reconciliation: the media it should have had against those seen and those with a receipt. Pure."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from expunge_agent.errors import DocumentError
from expunge_agent.protocol.base import Outcome
from expunge_controller.records.media_lines import MediumLine

KEYS = ("serial", "wwn", "property_number", "digest", "path")
"""Columns that say which medium is meant; a line needs one of them, and all that it has must fit."""
MAX_EXPECTED = 100_000
MAX_LIST = 16 * 1024 * 1024
_REMEDY = "Write a CSV file in UTF-8 whose first line names columns: serial, wwn, property_number, digest or path; note."
_SUCCESS = (Outcome.SANITIZED, Outcome.EXCEPTIONS)


class Finding(StrEnum):
    """How an expected medium, or one nobody expected, stands."""

    SANITIZED = "sanitized"
    NOT_SANITIZED = "not sanitized"
    NO_RECEIPT = "seen, no receipt"
    MISSING = "missing"
    AMBIGUOUS = "ambiguous"
    UNEXPECTED = "not expected"


class Expected(NamedTuple):
    """A line of the list: where it stands (from 2), what it says, and a note for readers."""

    line: int
    keys: Mapping[str, str]
    note: str

    @property
    def words(self) -> str:
        """What the list calls it."""
        return ", ".join(f"{name} {value}" for name, value in self.keys.items())


class Match(NamedTuple):
    """A line of the sheet. ``expected`` is None for a medium that nobody expected, ``medium`` where none was seen."""

    finding: Finding
    expected: Expected | None
    medium: MediumLine | None


def parse_expected(data: bytes) -> list[Expected]:
    """The list in `data`. Raises DocumentError with the line that is wrong."""
    if len(data) > MAX_LIST:
        raise DocumentError(f"The list is larger than {MAX_LIST} bytes.", _REMEDY)
    try:
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        if not set(names) & set(KEYS) or len(set(names)) != len(names):
            raise DocumentError("The first line of the list names no column that tells media apart.", _REMEDY)
        rows.fieldnames = names
        return _items(rows)
    except UnicodeDecodeError as error:
        raise DocumentError("The list is not in UTF-8.", _REMEDY) from error
    except csv.Error as error:
        raise DocumentError(f"The list is not readable as CSV: {error}.", _REMEDY) from error


def _items(rows: csv.DictReader[str]) -> list[Expected]:
    found: list[Expected] = []
    seen: dict[tuple[str, str], int] = {}
    for row in rows:
        line = rows.line_num
        keys = {name: value for name in KEYS if (value := (row.get(name) or "").strip())}
        if not keys:
            raise DocumentError(f"Line {line} of the list names no medium.", _REMEDY)
        for name, value in keys.items():
            before = seen.setdefault((name, _plain(value)), line)
            if before != line:
                raise DocumentError(
                    f"Line {line} names the {name} of line {before} again.", "Leave one of them out."
                )
        found.append(Expected(line, keys, (row.get("note") or "").strip()))
        if len(found) > MAX_EXPECTED:
            raise DocumentError(f"The list has more than {MAX_EXPECTED} lines.", "Divide it.")
    return found


def reconcile(expected: Sequence[Expected], seen: Sequence[MediumLine]) -> list[Match]:
    """Every expected medium in the order of the list, then those that nobody expected."""
    index: dict[tuple[str, str], list[MediumLine]] = {}
    for medium in seen:
        for name in KEYS:
            index.setdefault((name, _plain(getattr(medium, name))), []).append(medium)
    matches = [_match(one, index) for one in expected]
    taken = Counter(match.medium.digest for match in matches if match.medium)
    twice = {digest for digest, times in taken.items() if times > 1}
    matches = [
        match._replace(finding=Finding.AMBIGUOUS) if match.medium and match.medium.digest in twice else match
        for match in matches
    ]
    return matches + [Match(Finding.UNEXPECTED, None, one) for one in seen if one.digest not in taken]


def tally(matches: Sequence[Match]) -> dict[Finding, int]:
    """How many of each finding; all findings are named."""
    counted = Counter(match.finding for match in matches)
    return {finding: counted[finding] for finding in Finding}


def _match(one: Expected, index: Mapping[tuple[str, str], list[MediumLine]]) -> Match:
    sets = [index.get((name, _plain(value)), []) for name, value in one.keys.items()]
    fitting = [medium for medium in sets[0] if all(medium in others for others in sets[1:])]
    if not fitting:
        return Match(Finding.MISSING, one, None)
    if len(fitting) > 1:
        return Match(Finding.AMBIGUOUS, one, None)
    medium = fitting[0]
    if not medium.outcome:
        return Match(Finding.NO_RECEIPT, one, medium)
    done = medium.outcome in _SUCCESS
    return Match(Finding.SANITIZED if done else Finding.NOT_SANITIZED, one, medium)


def _plain(value: str) -> str:
    """How two spellings of a serial number or WWN are compared: without case and spaces."""
    return "".join(value.split()).casefold()
