"""What documents about many media share: head, names of media, places for signatures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from expunge_controller.records.media_lines import MediumLine
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Label
from expunge_controller.render.pdf_blocks import Look

NO_RECEIPT = Label("no receipt", "无回执")
NONE = Label("none", "无")
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
    title: Label, number: str, status: Label, hint: Label, *, issued_at: datetime, issuer: str
) -> Look:
    """The head of such a document, in landscape."""
    return Look(title, number, issued_at, issuer, status, hint, _FOOTER, landscape=True)


def named(line: MediumLine) -> str:
    """What people and the medium itself call it."""
    return ", ".join(
        dict.fromkeys(part for part in (line.label, line.model, line.serial or line.name) if part)
    )


def places(titles: Sequence[Label], title: Label = SIGNATURES) -> dict[str, Any]:
    """Boxes to be signed, under `title`."""
    return pdf_blocks.titled(title, pdf_blocks.blanks([(one, _LINES) for one in titles]))
