"""The destruction register (会计档案销毁清册, 会计档案管理办法): its items, and as a table. Pure.

The columns are those that the measures for accounting archives ask for: name, volume, copies, years, archive number,
how long to be kept, how long kept, time of destruction. What only the organisation knows comes from its own list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from expunge_agent.errors import DocumentError
from expunge_controller.records.csv_text import csv_text
from expunge_controller.records.media_lines import MediumLine, decided, is_sanitized
from expunge_controller.records.media_list import ListLine, fitting, index_of

DETAILS = ("title", "volume", "copies", "years", "archive_number", "retention", "kept")
"""Columns of the organisation's list, beside those that say which medium is meant."""


class Item(NamedTuple):
    """A medium, and what the organisation says of the archives on it; empty strings where it says nothing."""

    medium: MediumLine
    title: str = ""
    volume: str = ""
    copies: str = ""
    years: str = ""
    archive_number: str = ""
    retention: str = ""
    kept: str = ""

    @property
    def destroyed_at(self) -> str:
        """When the receipt says it was done; empty where it was not."""
        return self.medium.finished_at if is_sanitized(self.medium) else ""


def items_of(media: Sequence[MediumLine], details: Sequence[ListLine]) -> list[Item]:
    """An item for each of `media`, in order.

    Raises DocumentError where a line of `details` means no medium or several of them, or has an unknown column.
    """
    index = index_of(media)
    said: dict[str, dict[str, str]] = {}
    for line in details:
        unknown = set(line.others) - set(DETAILS)
        if unknown:
            raise DocumentError(
                f"The list has a column {min(unknown)!r}.", f"Columns are: {', '.join(DETAILS)}."
            )
        found = fitting(line, index)
        if len(found) != 1:
            raise DocumentError(
                f"Line {line.line} of the list ({line.words}) means {len(found) or 'none'} of the media here.",
                "Give a column that tells them apart, or leave the line out.",
            )
        said.setdefault(found[0].digest, {}).update(line.others)
    return [Item(medium, **said.get(medium.digest, {})) for medium in media]


def destruction_csv(items: Sequence[Item]) -> str:
    """The register as a table."""
    head = (
        *("number", *DETAILS, "destroyed_at", "name", "serial", "property_number", "technique", "level"),
        *("outcome", "order", "receipt", "certificate", "status", "decided"),
    )
    return csv_text(head, (_row(number, item) for number, item in enumerate(items, start=1)))


def _row(number: int, item: Item) -> tuple[object, ...]:
    one = item.medium
    details = (getattr(item, name) for name in DETAILS)
    made = (one.technique, one.level_achieved, one.outcome, one.order_id, one.receipt)
    told = (one.certificate, one.status, decided(one))
    return (number, *details, item.destroyed_at, one.name, one.serial, one.property_number, *made, *told)
