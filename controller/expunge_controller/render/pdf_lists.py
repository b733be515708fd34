"""What documents about many media share: head, names of media, places for signatures. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from expunge_controller.records.media_lines import MediumLine
from expunge_controller.render import pdf_blocks
from expunge_controller.render.certificate_review import STATUS, UNSIGNED
from expunge_controller.render.markup import Label, number
from expunge_controller.render.pdf_blocks import Look

NO_RECEIPT = Label("no receipt", "无回执")
NONE = Label("none", "无")
WITHOUT = Label("without a certificate", "无证书")
SIGNATURES = Label("Signatures", "签署")
_FOOTER = Label(
    "Made from the controller's records. What counts are the signed receipts and certificates that are named here.",
    "由控制端记录生成。以所列经签名的回执与证书为准。",
)
_LINES = (
    (Label("Name", "姓名"), ""),
    (Label("Opinion", "意见"), ""),
    (Label("Signature or seal", "签名或盖章"), ""),
    (Label("Date", "日期"), ""),
)


def list_look(
    title: Label, about: str, standing: Label, hint: Label, *, issued_at: datetime, issuer: str
) -> Look:
    """The head of such a document, in landscape."""
    return Look(title, about, issued_at, issuer, standing, hint, _FOOTER, landscape=True)


def named(line: MediumLine) -> str:
    """What people and the medium itself call it."""
    return ", ".join(
        dict.fromkeys(part for part in (line.label, line.model, line.serial or line.name) if part)
    )


def status(line: MediumLine) -> Label:
    """What its certificate says, and whether that stands under a name only."""
    if not line.status:
        return NONE
    words = STATUS[line.status]
    return words if all(one.key for one in line.decisions) else _unsigned(words)


def _unsigned(words: Label) -> Label:
    return Label(f"{words.english}, {UNSIGNED.english}", f"{words.chinese}，{UNSIGNED.chinese}")


def deciders(line: MediumLine) -> str:
    """The people behind that, what each decided, and when."""
    return "; ".join(f"{one.who} ({one.decision}), {one.at}" for one in line.decisions) or "–"


def status_of_all(lines: Sequence[MediumLine]) -> Label:
    """The status that the certificates share, as on their lines; where they share none, how many have which.

    Media without a certificate are counted with them.
    """
    counted = Counter(status(line) for line in lines)
    kinds = [(one, one) for words in STATUS.values() for one in (words, _unsigned(words))]
    there = [(words, counted[one]) for one, words in (*kinds, (NONE, WITHOUT)) if counted[one]]
    if len(there) == 1:
        return there[0][0]
    return Label(
        "; ".join(f"{number(count)} {words.english}" for words, count in there) or WITHOUT.english,
        "；".join(f"{words.chinese} {number(count)}" for words, count in there) or WITHOUT.chinese,
    )


def places(titles: Sequence[Label], title: Label = SIGNATURES) -> dict[str, Any]:
    """Boxes to be signed, under `title`."""
    return pdf_blocks.titled(title, pdf_blocks.blanks([(one, _LINES) for one in titles]))
