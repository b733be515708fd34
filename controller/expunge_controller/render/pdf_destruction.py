"""The destruction register (销毁清册) as a PDF's data, with places for opinions and supervisors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from expunge_controller.records.destruction import Item
from expunge_controller.records.media_lines import MediumLine
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Grid, Hint, Label, Section, number
from expunge_controller.render.pdf_blocks import Attachment
from expunge_controller.render.pdf_lists import NO_RECEIPT, NONE, deciders, list_look, named, places, status
from expunge_controller.render.pdf_words import Language

_SIGNERS = (
    Label("Head of the organisation", "单位负责人"),
    Label("Head of archives", "档案管理机构负责人"),
    Label("Head of accounting", "会计管理机构负责人"),
    Label("Archivist", "档案管理机构经办人"),
    Label("Accountant", "会计管理机构经办人"),
)
_SUPERVISORS = (
    Label("Supervisor, archives", "监销人（档案管理机构）"),
    Label("Supervisor, accounting", "监销人（会计管理机构）"),
    Label("Supervisor, information systems", "监销人（信息系统管理机构）"),
)
_HEAD = (
    (3, Label("No.", "序")),
    (13, Label("Archive or medium", "档案/介质名称")),
    (6, Label("Volume", "卷号")),
    (6, Label("Copies", "册数")),
    (8, Label("Years", "起止年度")),
    (9, Label("Archive number", "档案编号")),
    (8, Label("To be kept", "应保管期限")),
    (8, Label("Kept", "已保管期限")),
    (14, Label("Destroyed at", "销毁时间")),
    (12, Label("How, and result", "销毁方式与结果")),
    (12, Label("Certificate", "证书")),
    (9, Label("Status", "状态")),
    (14, Label("Decided by", "决定人")),
)
_HINT = Label(
    "Kept permanently. It records; approval is by the signatures below.",
    "永久保管。本册仅作记录，批准以下列签名为准。",
)


def destruction_data(
    about: str, items: Sequence[Item], language: Language, table: bytes, *, issued_at: datetime, issuer: str
) -> dict[str, bytes]:
    """The register about `about`; `table` is the same as CSV, attached."""
    rows = [_row(place, item) for place, item in enumerate(items, start=1)]
    count = number(len(items))
    counted = Label(
        f"{count} items. Fields that nobody filled are shown as not stated.",
        f"共 {count} 项。无人填写的栏目显示为“未填写”。",
    )
    parts = [
        pdf_blocks.section(Section(Label("Items", "清册内容"), [Grid(_HEAD, rows, NONE), Hint(counted)])),
        places(_SIGNERS, Label("Opinions and signatures", "签署意见")),
        places(
            _SUPERVISORS,
            Label("Supervision: counted before, signed after", "监销：销毁前清点核对，销毁后签名或盖章"),
        ),
    ]
    look = list_look(
        Label("Destruction register", "销毁清册"),
        about,
        Label("not signed by anybody yet", "尚未签署"),
        _HINT,
        issued_at=issued_at,
        issuer=issuer,
    )
    attached = [Attachment("destruction-register.csv", table, "the same as a table", source=True)]
    return pdf_blocks.document(look, language, parts, attached)


def _row(place: int, item: Item) -> tuple[object, ...]:
    name = named(item.medium)
    return (
        place,
        f"{item.title}, {name}" if item.title else name,
        item.volume,
        item.copies,
        item.years,
        item.archive_number,
        item.retention,
        item.kept,
        item.destroyed_at or Label("not destroyed", "未销毁"),
        _how(item.medium),
        item.medium.certificate or NONE,
        status(item.medium),
        deciders(item.medium),
    )


def _how(line: MediumLine) -> object:
    if not line.outcome:
        return NO_RECEIPT
    return ", ".join(part for part in (line.technique, line.level_achieved, line.outcome) if part)
