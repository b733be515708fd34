"""A list of media that a person gives (CSV): which media it means, and what else it says of them. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from expunge_agent.errors import DocumentError
from expunge_controller.records.media_lines import MediumLine

KEYS = ("serial", "wwn", "property_number", "digest", "path")
"""Columns that say which medium is meant; a line needs one of them, and all that it has must fit."""
MAX_LINES = 100_000
MAX_LIST = 16 * 1024 * 1024
_REMEDY = f"Write a CSV file in UTF-8 whose first line names columns: one of {', '.join(KEYS)}, and others."

Index = Mapping[tuple[str, str], list[MediumLine]]


class ListLine(NamedTuple):
    """A line of the list: where it stands (from 2), what it says of `KEYS`, and its other columns."""

    line: int
    keys: Mapping[str, str]
    others: Mapping[str, str]

    @property
    def words(self) -> str:
        """What the list calls it."""
        return ", ".join(f"{name} {value}" for name, value in self.keys.items())


def parse_list(data: bytes) -> list[ListLine]:
    """The list in `data`. Raises DocumentError with the line that is wrong."""
    if len(data) > MAX_LIST:
        raise DocumentError(f"The list is larger than {MAX_LIST} bytes.", _REMEDY)
    try:
        rows = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        head = [name.strip().lower() for name in next(rows, [])]
        if not set(head) & set(KEYS) or len(set(head)) != len(head):
            raise DocumentError("The first line of the list names no column that tells media apart.", _REMEDY)
        return _lines(head, ((rows.line_num, row) for row in rows))
    except UnicodeDecodeError as error:
        raise DocumentError("The list is not in UTF-8.", _REMEDY) from error
    except csv.Error as error:
        raise DocumentError(f"The list is not readable as CSV: {error}.", _REMEDY) from error


def index_of(media: Iterable[MediumLine]) -> Index:
    """`media` by what a list may call them."""
    index: dict[tuple[str, str], list[MediumLine]] = {}
    for medium in media:
        for name in KEYS:
            index.setdefault((name, _plain(getattr(medium, name))), []).append(medium)
    return index


def fitting(one: ListLine, index: Index) -> list[MediumLine]:
    """The media of which all is true that the line says."""
    sets = [index.get((name, _plain(value)), []) for name, value in one.keys.items()]
    return [medium for medium in sets[0] if all(medium in others for others in sets[1:])]


def _lines(head: list[str], rows: Iterable[tuple[int, list[str]]]) -> list[ListLine]:
    found: list[ListLine] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) > len(head):
            raise DocumentError(f"Line {line} of the list has more cells than the first line.", _REMEDY)
        said = {name: cell.strip() for name, cell in zip(head, row, strict=False) if cell.strip()}
        keys = {name: said.pop(name) for name in KEYS if name in said}
        if not keys:
            raise DocumentError(f"Line {line} of the list names no medium.", _REMEDY)
        for name, value in keys.items():
            before = seen.setdefault((name, _plain(value)), line)
            if before != line:
                raise DocumentError(
                    f"Line {line} of the list has the {name} of line {before} again.",
                    "Leave one of them out.",
                )
        found.append(ListLine(line, keys, said))
        if len(found) > MAX_LINES:
            raise DocumentError(f"The list has more than {MAX_LINES} lines.", "Divide it.")
    return found


def _plain(value: str) -> str:
    """How two spellings of a serial number or WWN are compared: without case and spaces."""
    return "".join(value.split()).casefold()
