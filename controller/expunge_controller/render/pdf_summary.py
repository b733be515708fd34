"""The summary of an order or a machine as a PDF's data: one line for each medium. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from expunge_controller.records.media_lines import MediumLine, SignedCertificate, is_sanitized
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Grid, Label, Section, number
from expunge_controller.render.pdf_blocks import Attachment
from expunge_controller.render.pdf_lists import (
    NO_RECEIPT,
    NONE,
    deciders,
    list_look,
    named,
    places,
    status,
    status_of_all,
)
from expunge_controller.render.pdf_words import Language

_HINT = Label(
    "A summary: people decide about each certificate on its own. Media without a certificate are listed, too.",
    "本表为汇总；各证书分别由人员验证决定。未取得证书的介质一并列出。",
)
_HEAD = (
    (4, Label("No.", "序")),
    (16, Label("Medium", "介质")),
    (10, Label("Property number", "资产编号")),
    (10, Label("Outcome", "结果")),
    (9, Label("Level asked / achieved", "级别：要求/达到")),
    (10, Label("Technique", "技术")),
    (7, Label("Exceptions / not covered", "例外/未覆盖")),
    (14, Label("Finished", "完成时间")),
    (13, Label("Certificate", "证书")),
    (10, Label("Status", "状态")),
    (15, Label("Decided by", "决定人")),
)
_DIGESTS = (
    (4, Label("No.", "序")),
    (32, Label("Medium digest (SHA-256)", "介质摘要")),
    (32, Label("Receipt (SHA-256)", "回执摘要")),
    (32, Label("Log leaf (SHA-256)", "日志叶哈希")),
)


def summary_data(
    about: str,
    lines: Sequence[MediumLine],
    language: Language,
    certificates: Sequence[SignedCertificate],
    *,
    issued_at: datetime,
    issuer: str,
) -> dict[str, bytes]:
    """One line for each medium of an order or a machine; `about` names which. `certificates` are attached."""
    rows = [_row(place, line) for place, line in enumerate(lines, start=1)]
    digests = [
        (place, one.digest, one.receipt or NONE, one.leaf or NONE) for place, one in enumerate(lines, 1)
    ]
    parts = [
        _counts(about, lines),
        pdf_blocks.section(Section(Label("Media", "介质"), [Grid(_HEAD, rows, NONE)])),
        pdf_blocks.section(Section(Label("Fingerprints", "指纹"), [Grid(_DIGESTS, digests, NONE)])),
        places([Label("Made by", "编制人"), Label("Checked by", "复核人")]),
    ]
    look = list_look(
        Label("Summary of media sanitization", "介质数据清除汇总证书"),
        about,
        status_of_all(lines),
        _HINT,
        issued_at=issued_at,
        issuer=issuer,
    )
    attached = [one for certificate in certificates for one in _files(certificate)]
    return pdf_blocks.document(look, language, parts, attached)


def _counts(about: str, lines: Sequence[MediumLine]) -> dict[str, Any]:
    certified = sum(bool(line.certificate) for line in lines)
    unsanitized = sum(not is_sanitized(line) for line in lines)
    return pdf_blocks.cards(
        [
            (Label("About", "范围"), about, False),
            (Label("Media", "介质数"), number(len(lines)), False),
            (Label("With a certificate", "已取得证书"), number(certified), certified < len(lines)),
            (Label("Not sanitized", "未清除"), number(unsanitized), unsanitized > 0),
        ]
    )


def _row(place: int, line: MediumLine) -> tuple[object, ...]:
    return (
        place,
        named(line),
        line.property_number,
        line.outcome or NO_RECEIPT,
        f"{line.level_requested or '–'} / {line.level_achieved or '–'}",
        line.technique or "–",
        f"{line.exceptions} / {line.not_covered}" if line.outcome else "–",
        line.finished_at or "–",
        line.certificate or NONE,
        status(line),
        deciders(line),
    )


def _files(one: SignedCertificate) -> list[Attachment]:
    return [
        Attachment(f"{one.number}.json", one.body, "a certificate, as the controller signed it", source=True),
        Attachment(f"{one.number}.json.sig", one.signature, "the controller's signature of it (SSHSIG)"),
    ]
