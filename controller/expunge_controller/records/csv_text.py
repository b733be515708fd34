"""CSV for spreadsheets (RFC 4180), guarded: no cell can become a formula. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

BOM = "\ufeff"
"""Without it spreadsheets show Chinese as something else."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_text(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table with a line of column names, in UTF-8 once encoded, lines ended by CR LF."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([guarded(str(cell)) for cell in row] for row in rows)
    return BOM + stream.getvalue()


def guarded(text: str) -> str:
    """`text` with an apostrophe before it where a spreadsheet would take it for a formula (``= + - @``), be it
    after spaces; control characters as their code."""
    shown = "".join(one if one.isprintable() or one == "\n" else f"\\u{{{ord(one):04x}}}" for one in text)
    return "'" + shown if text.lstrip(" ").startswith(_FORMULA) else shown
