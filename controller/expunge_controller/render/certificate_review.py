"""The parts of a certificate's page about what people made of the result: the banner's words, decisions, quality checks; and
the boxes that they sign in."""

from __future__ import annotations

from collections.abc import Mapping

from expunge_controller.records.certificate import Blank, Certificate
from expunge_controller.records.review import NOT_SIGNED, Decision, Review
from expunge_controller.render.markup import Label, Section, fields, hint, section, text

STATUS: Mapping[str, Label] = {
    "awaiting validation": Label("awaiting validation", "待验证"),
    "approved": Label("approved", "已批准"),
    "rejected": Label("rejected", "已驳回"),
}
UNSIGNED = Label(NOT_SIGNED, "未经本人签名")
_DECISIONS = {
    "approved": Label("Approved by", "批准人"),
    "rejected": Label("Rejected by", "驳回人"),
    "concurred": Label("Concurrence by", "复核人"),
    "quality-passed": Label("Quality check passed, by", "质量抽检合格，检查人"),
    "quality-failed": Label("Quality check FAILED, by", "质量抽检不合格，检查人"),
}
_WAITING = Label(
    "No person has approved this result yet. The software measured; it does not validate.",
    "尚未经人员验证批准。软件只做测量，不做验证结论。",
)
_SIGNED = Label("A person decided, and signed with their own key.", "由人员决定，并以本人密钥签名。")
_NAMED = Label(
    "The decision stands under a name only: not signed by a person.", "该决定仅有姓名，未经本人签名。"
)
_FAILED = Label(
    "A second look by another person with another tool failed: the medium is to be destroyed physically.",
    "另一人员以另一工具抽检不合格：该介质须物理销毁。",
)


def status_words(certificate: Certificate) -> tuple[Label, Label]:
    """The status, and who stands behind it."""
    review = certificate.review
    words = _WAITING
    if review is not None and any(one.decision == "quality-failed" for one in review.quality):
        words = _FAILED
    elif review is not None and review.validation is not None:
        words = _SIGNED if review.validation.key else _NAMED
    return STATUS[certificate.status], words


def status_banner(certificate: Certificate) -> str:
    """The same in large letters."""
    status, words = status_words(certificate)
    return (
        f'<p class="status" role="status">{text(status.english)} '
        f'<span lang="zh">{status.chinese}</span></p>{hint(words).html}'
    )


def review_section(review: Review) -> Section:
    """Each decision, who made it, and with which key."""
    rows = [row for one in review.decisions for row in _rows(one)]
    return section(Label("Decisions of people", "人员决定"), fields(rows))


def signature_boxes(certificate: Certificate) -> list[tuple[Label, list[tuple[Label, str]]]]:
    """Who performed, decided and concurs: the title of a box, and its lines, empty where they are filled by hand."""
    return [
        (Label("Attestation: performed by", "执行人签署"), _lines(certificate.attestation)),
        (Label("Validation: approved or rejected by", "验证人（批准/驳回）"), _lines(certificate.validation)),
        (Label("Concurrence", "复核会签"), _lines(certificate.concurrence)),
    ]


def _lines(blank: Blank) -> list[tuple[Label, str]]:
    return [
        (Label("Name", "姓名"), blank.name),
        (Label("Title", "职务"), blank.title),
        (Label("Organisation", "单位"), blank.organisation),
        (Label("Location", "地点"), blank.location),
        (Label("Phone", "电话"), blank.phone),
        (Label("Signature", "签名"), blank.signature),
        (Label("Date", "日期"), blank.date),
    ]


def _rows(one: Decision) -> list[tuple[Label, str]]:
    who = ", ".join(part for part in (one.who, one.title, one.organisation) if part)
    key = one.key or UNSIGNED.plain
    if one.security_key != "none":
        key += f" (security key, {one.security_key})"
    rows = [
        (_DECISIONS[one.decision], f"{who}, {one.at}"),
        (Label("Signed with", "签名密钥"), key),
        (Label("Custody event", "监管链事件"), f"{one.seq}: {one.event}"),
    ]
    more = (
        (Label("Remedy demanded", "要求的补救措施"), one.remedy),
        (Label("Lot and tool", "抽检批次与工具"), f"{one.lot}, {one.tool}" if one.lot else ""),
        (Label("Remarks", "备注"), one.remarks),
    )
    return rows + [(label, value) for label, value in more if value]
