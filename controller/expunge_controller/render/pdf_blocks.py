"""Parts of a document as the data that the template ``document.typ`` sets. Pure.

All text travels as JSON strings, which the template shows and never reads as markup.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from expunge_agent.protocol import canonical
from expunge_controller.render.markup import Bullets, Fields, Grid, Heading, Label, Part, Section
from expunge_controller.render.pdf_words import Language, cell, label

ATTACHED = "attached/"
DATA = "data.json"
TYPES = {"json": "application/json", "csv": "text/csv"}


class Attachment(NamedTuple):
    """A file inside the PDF. ``source``: the PDF was made from it (PDF/A-3, AFRelationship Source)."""

    name: str
    data: bytes
    description: str
    source: bool = False


class Look(NamedTuple):
    """What stands on every page and at the head of the first."""

    title: Label
    number: str
    issued_at: datetime
    issuer: str
    status: Label
    hint: Label
    footer: Label
    landscape: bool = False


def document(
    look: Look,
    language: Language,
    parts: Sequence[Mapping[str, Any]],
    attachments: Sequence[Attachment],
    keywords: Sequence[str] = (),
) -> dict[str, bytes]:
    """The files that the template reads, by name."""
    at = look.issued_at
    data = {
        "language": str(language),
        "title": label(look.title),
        "number": cell(look.number),
        "issued_at": f"{at:%Y-%m-%d %H:%M:%S} UTC",
        "date": [at.year, at.month, at.day, at.hour, at.minute, at.second],
        "issuer": cell(look.issuer),
        "status": label(look.status),
        "hint": label(look.hint),
        "footer": label(look.footer),
        "landscape": look.landscape,
        "parts": list(parts),
        "keywords": ["expunge", f"language={language}", *keywords],
        "attachments": [
            {
                "name": one.name,
                "type": TYPES.get(one.name.rpartition(".")[2], "text/plain"),
                "description": one.description,
                "relationship": "source" if one.source else "supplement",
            }
            for one in attachments
        ],
    }
    return {DATA: canonical.dumps(data)} | {ATTACHED + one.name: one.data for one in attachments}


def section(part: Section) -> dict[str, Any]:
    """A titled part."""
    return titled(part.title, *(_part(one) for one in part.parts))


def titled(title: Label, *parts: Mapping[str, Any]) -> dict[str, Any]:
    """A titled part from data."""
    return {"kind": "section", "title": label(title), "parts": list(parts)}


def cards(rows: Sequence[tuple[Label, object, bool]]) -> dict[str, Any]:
    """Large values side by side; True marks one that a reader must not overlook."""
    return {
        "kind": "cards",
        "rows": [{"label": label(name), "value": cell(value), "warn": warn} for name, value, warn in rows],
    }


def blanks(boxes: Sequence[tuple[Label, Sequence[tuple[Label, str]]]]) -> dict[str, Any]:
    """Boxes beside each other, with lines to be filled by hand: caption, and what stands there already."""
    return {
        "kind": "blanks",
        "boxes": [
            {
                "title": label(title),
                "lines": [[label(name), cell(value) if value else ""] for name, value in lines],
            }
            for title, lines in boxes
        ],
    }


def qr(text: str) -> dict[str, Any]:
    """A QR code of `text`, as rows of modules from the top (ISO/IEC 18004, error correction M)."""
    import segno

    code = segno.make_qr(text, error="m")
    stream = io.StringIO()
    code.save(stream, kind="txt", border=4)
    return {"kind": "qr", "rows": stream.getvalue().split()}


def fields(*rows: tuple[Label, object]) -> dict[str, Any]:
    """A table of captions and values."""
    return _part(Fields(rows))


def part(one: Part) -> dict[str, Any]:
    """Any part below a section's title."""
    return _part(one)


def _part(one: Part) -> dict[str, Any]:
    if isinstance(one, Fields):
        return {"kind": "fields", "rows": [[label(name), cell(value)] for name, value in one.rows]}
    if isinstance(one, Grid):
        return {
            "kind": "grid",
            "widths": [width for width, _ in one.head],
            "head": [label(name) for _, name in one.head],
            "rows": [[cell(value) for value in row] for row in one.rows],
            "empty": label(one.empty),
        }
    if isinstance(one, Bullets):
        return {"kind": "bullets", "items": [cell(item) for item in one.items], "empty": label(one.empty)}
    return {"kind": "heading" if isinstance(one, Heading) else "hint", "text": label(one.label)}
