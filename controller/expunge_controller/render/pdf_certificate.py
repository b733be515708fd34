"""The certificate about one medium as a PDF's data: all that its page says, and what the receipt can draw. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expunge_agent.protocol.base import Level, moment
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.certificate import Certificate, LogReference, Person, parse_certificate
from expunge_controller.render import pdf_blocks
from expunge_controller.render.certificate_html import sections
from expunge_controller.render.certificate_review import signature_boxes, status_words
from expunge_controller.render.markup import Label, number
from expunge_controller.render.pdf_blocks import Attachment, Look
from expunge_controller.render.pdf_picture import picture, ranges
from expunge_controller.render.pdf_words import Language, cell, label

ATTACHED = {
    layout.RECEIPT: "the receipt, as the agent signed it",
    layout.RECEIPT + layout.SIGNATURE: "the agent's signature of the receipt (SSHSIG)",
    layout.CERTIFICATE: "the certificate, as the controller signed it: the normative document",
    layout.CERTIFICATE + layout.SIGNATURE: "the controller's signature of the certificate (SSHSIG)",
    layout.ENTRY: "the receipt's entry in the transparency log",
    layout.PROOF: "the proof that the entry is in the log (C2SP tlog-proof)",
}
UNSIGNED = Label(
    "This PDF has no signature of its own. The normative document is certificate.json, attached.",
    "本 PDF 自身未签名。以所附 certificate.json 为准。",
)
SIGNED = Label(
    "This PDF is signed (PAdES); compare the signer's certificate by its fingerprint. "
    "The normative document is certificate.json, attached.",
    "本 PDF 已签名（PAdES），请以指纹核对签名证书。以所附 certificate.json 为准。",
)
_AS_RECORDED = Label(
    "Captions are in the language chosen; what agent, drive and register recorded is shown as it was signed.",
    "标题与说明按所选语言显示；代理程序、设备与登记簿的记录按签名原文显示。",
)


def certificate_data(files: Mapping[str, bytes], language: Language, *, signed: bool) -> dict[str, bytes]:
    """What the template needs, from a bundle's `files`: certificate and receipt with their signatures, entry, proof.

    `signed`: the PDF will be signed, and says so. Raises DocumentError for a document that cannot be read.
    """
    certificate = parse_certificate(files[layout.CERTIFICATE])
    result = parse_statement(files[layout.RECEIPT]).predicate.targets[certificate.evidence.target]
    told = {part.title.english: pdf_blocks.section(part) for part in sections(certificate)}
    evidence = told.pop("Evidence")
    drawn, failed = picture(result), ranges(result)
    parts = [
        _cards(certificate),
        *told.values(),
        *([drawn] if drawn else []),
        *([pdf_blocks.section(failed)] if failed else []),
        _person(certificate.register.performed_by),
        evidence,
        *([_log(certificate.evidence.log)] if certificate.evidence.log else []),
        _signatures(certificate),
    ]
    status, words = status_words(certificate)
    look = Look(
        title=Label("Certificate of media sanitization", "介质数据清除证书"),
        number=certificate.number,
        issued_at=moment(certificate.issued_at),
        issuer=certificate.issuer,
        status=status,
        hint=words,
        footer=SIGNED if signed else UNSIGNED,
    )
    attached = [
        Attachment(name, files[name], what, source=name in (layout.CERTIFICATE, layout.RECEIPT))
        for name, what in ATTACHED.items()
        if name in files
    ]
    return pdf_blocks.document(look, language, parts, attached)


def qr_text(log: LogReference) -> str:
    """What the QR code holds: four lines, in this order.

    ``expunge log entry``; ``origin`` of the log; ``index`` of the entry, from 0; ``leaf``, its leaf hash
    (RFC 6962, hexadecimal).
    """
    origin = log.log.partition("+")[0]
    return f"expunge log entry\norigin {origin}\nindex {int(log.number)}\nleaf {log.leaf}\n"


def _cards(certificate: Certificate) -> dict[str, Any]:
    done = certificate.sanitization
    asked = done.level_requested
    short = asked in list(Level) and not done.level_achieved.reaches(Level(asked))
    return pdf_blocks.cards(
        [
            (Label("Outcome", "结果"), str(done.outcome), bool(done.exceptions)),
            (Label("Level requested", "要求级别"), asked, False),
            (Label("Level achieved", "达到级别"), str(done.level_achieved), short),
            (
                Label("Verification", "核查结果"),
                done.verification_status,
                done.verification_status != "passed",
            ),
        ]
    )


def _person(person: Person) -> dict[str, Any]:
    return pdf_blocks.titled(
        Label("Person performing sanitization", "清除执行人"),
        pdf_blocks.fields(
            (Label("Name", "姓名"), person.name),
            (Label("Title", "职务"), person.title),
            (Label("Organisation", "单位"), person.organisation),
            (Label("Location", "地点"), person.location),
            (Label("Phone", "电话"), person.phone),
        ),
    )


def _log(log: LogReference) -> dict[str, Any]:
    origin = log.log.partition("+")[0]
    nobody = Label("NOT INDEPENDENTLY WITNESSED", "未经独立见证")
    witnesses = "; ".join(f"{one.key.partition('+')[0]} ({one.at})" for one in log.witnesses)
    return pdf_blocks.titled(
        Label("Transparency log", "透明日志"),
        pdf_blocks.qr(qr_text(log)),
        pdf_blocks.fields(
            (Label("Log (origin)", "日志"), origin),
            (Label("Entry, from 0", "条目序号（自 0 起）"), number(int(log.number))),
            (Label("Fingerprint of the entry (leaf hash)", "条目指纹（叶哈希）"), log.leaf),
            (Label("Witnesses", "见证方"), witnesses or nobody),
            (Label("Witnesses asked for", "要求的见证数"), number(log.required)),
            (
                Label("QR code", "二维码"),
                Label("origin, entry and leaf hash, as text", "以文本记录日志、条目序号与叶哈希"),
            ),
        ),
    )


def _signatures(certificate: Certificate) -> dict[str, Any]:
    return pdf_blocks.titled(
        Label("Signatures", "签署"),
        {"kind": "hint", "text": cell(certificate.attestation_text)},
        pdf_blocks.blanks(signature_boxes(certificate)),
        {"kind": "hint", "text": label(_AS_RECORDED)},
    )
