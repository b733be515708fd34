"""A machine's reconciliation sheet as a PDF's data. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from expunge_controller.records.reconcile import Finding, Match, complete, tally
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Grid, Label, Section, number
from expunge_controller.render.pdf_blocks import Attachment
from expunge_controller.render.pdf_lists import NO_RECEIPT, NONE, list_look, named, places
from expunge_controller.render.pdf_words import Language

_FINDINGS = {
    Finding.SANITIZED: Label("receipt: sanitized", "有回执：已清除"),
    Finding.NOT_SANITIZED: Label("receipt: NOT sanitized", "有回执：未清除"),
    Finding.NO_RECEIPT: Label("seen, NO RECEIPT", "已见，无回执"),
    Finding.MISSING: Label("MISSING", "缺失"),
    Finding.AMBIGUOUS: Label("AMBIGUOUS: see the list", "无法唯一对应"),
    Finding.UNEXPECTED: Label("not on the list", "不在清单"),
}

_HEAD = (
    (4, Label("No.", "序")),
    (6, Label("Line", "清单行")),
    (18, Label("Expected", "应有介质")),
    (19, Label("Finding", "核对结果")),
    (21, Label("Seen", "实见介质")),
    (12, Label("Outcome", "结果")),
    (12, Label("Certificate", "证书")),
    (8, Label("Note", "备注")),
)
_COMPLETE = Label("complete", "账实相符")
_INCOMPLETE = Label(
    "INCOMPLETE: not every expected medium has a receipt that says sanitized",
    "账实不符：并非每件应有介质都有“已清除”回执",
)
_HINT = Label(
    "Seen: registered of this machine. The list was given by the operator.",
    "“实见”指已登记于该机器的介质。清单由运营方提供。",
)


def reconciliation_data(
    machine: str,
    matches: Sequence[Match],
    language: Language,
    table: bytes,
    *,
    issued_at: datetime,
    issuer: str,
) -> dict[str, bytes]:
    """The sheet; `table` is the same as CSV, attached."""
    rows = [_row(place, match) for place, match in enumerate(matches, start=1)]
    parts = [
        _counts(matches),
        pdf_blocks.section(Section(Label("Media", "介质"), [Grid(_HEAD, rows, NONE)])),
        places([Label("Counted by", "清点人"), Label("Checked by", "复核人")]),
    ]
    look = list_look(
        Label("Reconciliation of a machine's media", "机器介质核对表"),
        machine,
        _COMPLETE if complete(matches) else _INCOMPLETE,
        _HINT,
        issued_at=issued_at,
        issuer=issuer,
    )
    attached = [Attachment("reconciliation.csv", table, "the same as a table", source=True)]
    return pdf_blocks.document(look, language, parts, attached)


def _counts(matches: Sequence[Match]) -> dict[str, Any]:
    expected = sum(match.expected is not None for match in matches)
    counted = [
        (_FINDINGS[finding], number(count), count > 0 and finding is not Finding.SANITIZED)
        for finding, count in tally(matches).items()
    ]
    return pdf_blocks.cards([(Label("Expected", "应有"), number(expected), False), *counted])


def _row(place: int, match: Match) -> tuple[object, ...]:
    wish, seen = match.expected, match.medium
    return (
        place,
        *((str(wish.line), wish.words) if wish else ("–", "–")),
        _FINDINGS[match.finding],
        named(seen) if seen else "–",
        (seen.outcome or NO_RECEIPT) if seen else "–",
        (seen.certificate or NONE) if seen else "–",
        (wish.others.get("note") if wish else "") or "–",
    )
