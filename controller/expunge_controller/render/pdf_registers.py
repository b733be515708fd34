"""Documents about many media: the summary of an order or a machine, the destruction register (销毁清册) and the
reconciliation sheet, as a PDF's data. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from expunge_controller.records.destruction import Item
from expunge_controller.records.media_lines import MediumLine, SignedCertificate, is_sanitized
from expunge_controller.records.reconcile import Finding, Match, complete, tally
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Grid, Hint, Label, Section, number
from expunge_controller.render.pdf_blocks import Attachment, Look
from expunge_controller.render.pdf_words import Language

NO_RECEIPT = Label("no receipt", "无回执")
_NONE = Label("none", "无")
_FOOTER = Label(
    "Made from the controller's records. What counts are the signed receipts and certificates that are named here.",
    "由控制端记录生成。以所列经签名的回执与证书为准。",
)
_SUMMARY_HINT = Label(
    "A summary: each certificate awaits validation by a person on its own. Media without a certificate are listed, too.",
    "本表为汇总；各证书须分别经人员验证。未取得证书的介质一并列出。",
)
_SIGNATURES = Label("Signatures", "签署")
_LINES = (
    (Label("Name", "姓名"), ""),
    (Label("Opinion", "意见"), ""),
    (Label("Signature or seal", "签名或盖章"), ""),
    (Label("Date", "日期"), ""),
)
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
_FINDINGS = {
    Finding.SANITIZED: Label("receipt: sanitized", "有回执：已清除"),
    Finding.NOT_SANITIZED: Label("receipt: NOT sanitized", "有回执：未清除"),
    Finding.NO_RECEIPT: Label("seen, NO RECEIPT", "已见，无回执"),
    Finding.MISSING: Label("MISSING", "缺失"),
    Finding.AMBIGUOUS: Label("AMBIGUOUS: see the list", "无法唯一对应"),
    Finding.UNEXPECTED: Label("not on the list", "不在清单"),
}


def summary_data(
    about: Label,
    lines: Sequence[MediumLine],
    language: Language,
    certificates: Sequence[SignedCertificate],
    *,
    issued_at: datetime,
    issuer: str,
) -> dict[str, bytes]:
    """One line for each medium of an order or a machine; `about` names which. `certificates` are attached."""
    certified = sum(bool(line.certificate) for line in lines)
    head = (
        (4, Label("No.", "序")),
        (20, Label("Medium", "介质")),
        (12, Label("Property number", "资产编号")),
        (12, Label("Outcome", "结果")),
        (10, Label("Level asked / achieved", "级别：要求/达到")),
        (12, Label("Technique", "技术")),
        (8, Label("Exceptions / not covered", "例外/未覆盖")),
        (11, Label("Finished", "完成时间")),
        (11, Label("Certificate", "证书")),
    )
    rows = [
        (
            place,
            _named(line),
            line.property_number,
            line.outcome or NO_RECEIPT,
            f"{line.level_requested or '–'} / {line.level_achieved or '–'}",
            line.technique or "–",
            f"{line.exceptions} / {line.not_covered}" if line.outcome else "–",
            line.finished_at or "–",
            line.certificate or _NONE,
        )
        for place, line in enumerate(lines, start=1)
    ]
    digests = (
        (4, Label("No.", "序")),
        (32, Label("Medium digest (SHA-256)", "介质摘要")),
        (32, Label("Receipt (SHA-256)", "回执摘要")),
        (32, Label("Log leaf (SHA-256)", "日志叶哈希")),
    )
    parts = [
        pdf_blocks.cards(
            [
                (Label("About", "范围"), about, False),
                (Label("Media", "介质数"), number(len(lines)), False),
                (Label("With a certificate", "已取得证书"), number(certified), certified < len(lines)),
                (Label("Not sanitized", "未清除"), number(_unsanitized(lines)), _unsanitized(lines) > 0),
            ]
        ),
        pdf_blocks.section(Section(Label("Media", "介质"), [Grid(head, rows, _NONE)])),
        pdf_blocks.section(
            Section(
                Label("Fingerprints", "指纹"),
                [
                    Grid(
                        digests,
                        [
                            (n, one.digest, one.receipt or _NONE, one.leaf or _NONE)
                            for n, one in enumerate(lines, 1)
                        ],
                        _NONE,
                    )
                ],
            )
        ),
        _sign([Label("Made by", "编制人"), Label("Checked by", "复核人")]),
    ]
    look = _look(Label("Summary of media sanitization", "介质数据清除汇总证书"), issued_at, issuer)
    look = look._replace(
        status=Label("awaiting validation", "待验证"), hint=_SUMMARY_HINT, number=about.english
    )
    attached = [
        Attachment(one.number + suffix, data, what, source=suffix == ".json")
        for one in certificates
        for suffix, data, what in (
            (".json", one.body, "a certificate, as the controller signed it"),
            (".json.sig", one.signature, "the controller's signature of it (SSHSIG)"),
        )
    ]
    return pdf_blocks.document(look, language, parts, attached)


def destruction_data(
    about: Label, items: Sequence[Item], language: Language, table: bytes, *, issued_at: datetime, issuer: str
) -> dict[str, bytes]:
    """The destruction register; `table` is the same as CSV, attached."""
    head = (
        (3, Label("No.", "序")),
        (15, Label("Archive or medium", "档案/介质名称")),
        (7, Label("Volume", "卷号")),
        (7, Label("Copies", "册数")),
        (8, Label("Years", "起止年度")),
        (10, Label("Archive number", "档案编号")),
        (8, Label("To be kept", "应保管期限")),
        (8, Label("Kept", "已保管期限")),
        (10, Label("Destroyed at", "销毁时间")),
        (13, Label("How, and result", "销毁方式与结果")),
        (11, Label("Certificate", "证书")),
    )
    rows = [
        (
            place,
            f"{one.title}, {_named(one.medium)}" if one.title else _named(one.medium),
            one.volume,
            one.copies,
            one.years,
            one.archive_number,
            one.retention,
            one.kept,
            one.destroyed_at or Label("not destroyed", "未销毁"),
            _how(one.medium),
            one.medium.certificate or _NONE,
        )
        for place, one in enumerate(items, start=1)
    ]
    parts = [
        pdf_blocks.section(
            Section(
                Label("Items", "清册内容"),
                [
                    Grid(head, rows, _NONE),
                    Hint(
                        Label(
                            f"{number(len(items))} items. Fields that nobody filled are shown as not stated.",
                            f"共 {number(len(items))} 项。无人填写的栏目显示为“未填写”。",
                        )
                    ),
                ],
            )
        ),
        _sign(_SIGNERS, Label("Opinions and signatures", "签署意见")),
        _sign(
            _SUPERVISORS,
            Label("Supervision: counted before, signed after", "监销：销毁前清点核对，销毁后签名或盖章"),
        ),
    ]
    look = _look(Label("Destruction register", "销毁清册"), issued_at, issuer)._replace(
        number=about.english,
        status=Label("not signed by anybody yet", "尚未签署"),
        hint=Label(
            "Kept permanently. It records; approval is by the signatures below.",
            "永久保管。本册仅作记录，批准以下列签名为准。",
        ),
    )
    attached = [Attachment("destruction-register.csv", table, "the same as a table", source=True)]
    return pdf_blocks.document(look, language, parts, attached)


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
    counted = tally(matches)
    head = (
        (4, Label("No.", "序")),
        (6, Label("Line", "清单行")),
        (18, Label("Expected", "应有介质")),
        (19, Label("Finding", "核对结果")),
        (21, Label("Seen", "实见介质")),
        (12, Label("Outcome", "结果")),
        (12, Label("Certificate", "证书")),
        (8, Label("Note", "备注")),
    )
    rows = [
        (
            place,
            str(one.expected.line) if one.expected else "–",
            one.expected.words if one.expected else "–",
            _FINDINGS[one.finding],
            _named(one.medium) if one.medium else "–",
            (one.medium.outcome or NO_RECEIPT) if one.medium else "–",
            (one.medium.certificate or _NONE) if one.medium else "–",
            (one.expected.others.get("note") or "–") if one.expected else "–",
        )
        for place, one in enumerate(matches, start=1)
    ]
    expected = sum(one.expected is not None for one in matches)
    parts = [
        pdf_blocks.cards(
            [
                (Label("Expected", "应有"), number(expected), False),
                *(
                    (_FINDINGS[one], number(counted[one]), counted[one] > 0 and one is not Finding.SANITIZED)
                    for one in Finding
                ),
            ]
        ),
        pdf_blocks.section(Section(Label("Media", "介质"), [Grid(head, rows, _NONE)])),
        _sign([Label("Counted by", "清点人"), Label("Checked by", "复核人")]),
    ]
    look = _look(Label("Reconciliation of a machine's media", "机器介质核对表"), issued_at, issuer)._replace(
        number=machine,
        status=Label("complete", "账实相符")
        if complete(matches)
        else Label(
            "INCOMPLETE: not every expected medium has a receipt that says sanitized",
            "账实不符：并非每件应有介质都有“已清除”回执",
        ),
        hint=Label(
            "Seen: registered of this machine. The list was given by the operator.",
            "“实见”指已登记于该机器的介质。清单由运营方提供。",
        ),
    )
    attached = [Attachment("reconciliation.csv", table, "the same as a table", source=True)]
    return pdf_blocks.document(look, language, parts, attached)


def _look(title: Label, issued_at: datetime, issuer: str) -> Look:
    none = Label("", "")
    return Look(title, "", issued_at, issuer, none, none, _FOOTER, landscape=True)


def _named(line: MediumLine) -> str:
    return ", ".join(
        dict.fromkeys(part for part in (line.label, line.model, line.serial or line.name) if part)
    )


def _unsanitized(lines: Sequence[MediumLine]) -> int:
    return sum(not is_sanitized(line) for line in lines)


def _how(line: MediumLine) -> object:
    if not line.outcome:
        return NO_RECEIPT
    return ", ".join(part for part in (line.technique, line.level_achieved, line.outcome) if part)


def _sign(titles: Sequence[Label], title: Label = _SIGNATURES) -> dict[str, Any]:
    return pdf_blocks.titled(title, pdf_blocks.blanks([(one, _LINES) for one in titles]))
