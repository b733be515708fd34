"""A certificate as one self-contained page to read and print (A4): no script, nothing loaded.

Made from ``certificate.json`` alone, so that anyone can make it again and compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import dumps
from expunge_agent.protocol.identity import BlockIdentity, TreeIdentity
from expunge_controller.records.certificate import (
    NOT_RECORDED,
    Certificate,
    Evidence,
    LogReference,
    Person,
    Sanitization,
)
from expunge_controller.records.text_forms import LINE
from expunge_controller.render.certificate_erasure import command_section, findings
from expunge_controller.render.certificate_files import files_section
from expunge_controller.render.certificate_key import key_section
from expunge_controller.render.certificate_review import review_section, signature_boxes, status_banner
from expunge_controller.render.certificate_space import space_section
from expunge_controller.render.certificate_style import PAGE
from expunge_controller.render.certificate_volume import volume_section
from expunge_controller.render.markup import (
    Grid,
    Label,
    Section,
    bullets,
    fields,
    grid,
    heading,
    number,
    percent,
    rate,
    seconds,
    section,
    size,
    text,
    titled,
)
from expunge_controller.render.technique_words import in_words

_OUTCOMES = {
    Outcome.SANITIZED: Label("sanitized", "已清除"),
    Outcome.EXCEPTIONS: Label("sanitized with exceptions", "已清除（有例外）"),
}
_LEVELS = {
    str(Level.NONE): Label("none", "无"),
    str(Level.CLEAR): Label("clear", "清除"),
    str(Level.PURGE): Label("purge", "净化"),
}
_YES_NO = {"yes": Label("yes", "是"), "no": Label("no", "否"), "unknown": Label("unknown", "未知")}
_NOTHING = Label("none reported", "未报告")


def certificate_html(certificate: Certificate) -> str:
    """The whole page. The same certificate gives the same text."""
    parts = [
        _banner(certificate),
        _levels(certificate),
        *(part.html for part in sections(certificate)),
        _signatures(certificate),
    ]
    return PAGE.substitute(form=LINE, number=text(certificate.number), body="\n".join(parts))


def sections(certificate: Certificate) -> list[Section]:
    """All that the certificate tells, for the page and for the PDF."""
    done = certificate.sanitization
    return [
        _media(certificate),
        _register(certificate),
        _sanitization(certificate),
        *([volume_section(done.volume)] if done.volume else []),
        *([key_section(done.key)] if done.key else []),
        *([command_section(done.erasure, str(done.level_achieved))] if done.erasure else []),
        *([space_section(done.space)] if done.space else []),
        *([files_section(done.files)] if done.files else []),
        *([_passes(certificate)] if done.passes or not (done.erasure or done.files) else []),
        _verification(certificate),
        _shortfalls(certificate),
        _evidence(certificate),
        *([review_section(certificate.review)] if certificate.review else []),
    ]


def _banner(certificate: Certificate) -> str:
    return (
        '<header><div class="title"><h1>Certificate of media sanitization'
        '<span class="zh" lang="zh">介质数据清除证书</span></h1>'
        f"<p>No. <b>{text(certificate.number)}</b><br>issued {text(certificate.issued_at)}"
        f"<br>by {text(certificate.issuer)}</p></div>{status_banner(certificate)}</header>"
    )


def _levels(certificate: Certificate) -> str:
    done = certificate.sanitization
    outcome = _OUTCOMES.get(done.outcome, Label(str(done.outcome), ""))
    requested = _LEVELS.get(done.level_requested, Label(done.level_requested, ""))
    achieved = _LEVELS[str(done.level_achieved)]
    short = done.level_requested in _LEVELS and not done.level_achieved.reaches(Level(done.level_requested))
    card = '<div class="card{extra}"><span class="caption">{caption}</span><b>{value}</b></div>'
    return (
        '<div class="cards">'
        + card.format(extra="", caption=Label("Outcome", "结果").markup, value=outcome.markup)
        + card.format(extra="", caption=Label("Level requested", "要求级别").markup, value=requested.markup)
        + card.format(
            extra=" short" if short else "",
            caption=Label("Level achieved", "达到级别").markup,
            value=achieved.markup,
        )
        + "</div>"
        + (
            f'<p class="warn">{Label("The level achieved is lower than the level requested.", "达到级别低于要求级别。").markup}</p>'
            if short
            else ""
        )
    )


def _media(certificate: Certificate) -> Section:
    media, register, done = certificate.media, certificate.register, certificate.sanitization
    drive = [
        (Label("Make / vendor", "厂商"), register.vendor),
        (Label("Model", "型号"), media.model),
        (Label("Serial number", "序列号"), media.serial),
        (Label("WWN / EUI-64", "全球唯一标识"), media.wwn),
        (Label("Firmware", "固件版本"), media.firmware),
    ]
    sectors = (
        Label("Sector size, logical / physical", "逻辑/物理扇区"),
        f"{_sector(media.logical_sector)} / {_sector(media.physical_sector)}",
    )
    whole_of_files = isinstance(media.identity, TreeIdentity)  # its size is told with its files
    is_drive = isinstance(media.identity, BlockIdentity)  # all else has none of this, recorded or not
    return section(
        Label("Medium", "介质"),
        fields(
            [
                *(drive if is_drive else []),
                (Label("Media type", "介质类型"), media.type),
                *(
                    []
                    if done.space or whole_of_files
                    else [(Label("Capacity", "容量"), size(int(media.size)))]
                ),
                *([sectors] if is_drive else []),
                (Label("Path when wiped", "清除时路径"), media.path),
                (Label("Full identity", "完整标识"), dumps(media.identity).decode()),
                (Label("Medium digest (SHA-256)", "介质标识摘要"), media.digest),
                *((Label("Observed", "观察记录"), note) for note in media.notes),
            ]
        ),
    )


def _register(certificate: Certificate) -> Section:
    register = certificate.register
    return section(
        Label("From the operator's register", "运营方登记信息"),
        fields(
            [
                (Label("Property number", "资产编号"), register.property_number),
                (Label("Source", "来源"), register.source),
                (Label("Classification", "数据分级"), register.classification),
                (Label("Data backed up", "数据已备份"), _YES_NO[register.data_backed_up]),
                (Label("Backup location", "备份位置"), register.backup_location),
                (Label("Classification after sanitization", "清除后分级"), register.classification_after),
                (Label("Destination / disposition", "去向/处置"), register.destination),
                (Label("Destination details", "去向说明"), register.destination_details),
                (Label("Sanitization performed by", "清除执行人"), _person(register.performed_by)),
                (Label("Notes", "备注"), register.notes),
            ]
        ),
    )


def _sanitization(certificate: Certificate) -> Section:
    done = certificate.sanitization
    profile = done.profile
    named = f"{profile.id} version {profile.version}" if profile else NOT_RECORDED
    return section(
        Label("Sanitization", "清除"),
        fields(
            [
                (Label("Method type", "方法类别"), str(done.method)),
                (Label("Method used", "所用技术"), _method(done)),
                *([(Label("Less than asked", "低于所求级别"), done.downgrade)] if done.downgrade else []),
                (Label("Profile", "清除策略"), named),
                (Label("Profile digest (SHA-256)", "策略摘要"), profile.digest if profile else NOT_RECORDED),
                (Label("Tool and version", "工具与版本"), done.tool),
                (Label("Started", "开始时间"), done.started_at),
                (Label("Finished", "结束时间"), done.finished_at),
                (Label("Clock", "时钟来源"), done.clock),
            ]
        ),
    )


def _method(done: Sanitization) -> str:
    """A drive command in the words of its standard; an overwrite as it was always called."""
    told = done.erasure is not None or done.key is not None
    return in_words(done.technique, str(done.level_achieved)) if told else done.technique


def _passes(certificate: Certificate) -> Section:
    return section(
        Label("Passes", "覆写遍次"),
        grid(
            [
                (4, Label("No.", "序")),
                (11, Label("Pattern", "模式")),
                (21, Label("Started, finished", "起止时间")),
                (12, Label("Bytes written", "写入字节")),
                (9, Label("Duration", "用时")),
                (10, Label("Throughput", "速率")),
                (10, Label("Complete, flushed", "完成、落盘")),
                (7, Label("I/O", "方式")),
                (8, Label("Resumed", "续写")),
                (8, Label("Errors", "错误")),
            ],
            [
                (
                    run.number,
                    run.pattern,
                    f"{run.started_at} {run.finished_at}",
                    number(int(run.bytes_written)),
                    seconds(int(run.duration_ms)),
                    rate(int(run.throughput)),
                    f"{_yes(run.complete)}, {_yes(run.flushed)}",
                    run.io_mode,
                    run.times_resumed,
                    f"{number(int(run.error_count))} ({number(int(run.error_bytes))} B)",
                )
                for run in certificate.sanitization.passes
            ],
            Label("no pass was run", "未执行覆写"),
        ),
    )


def _verification(certificate: Certificate) -> Section:
    done = certificate.sanitization
    by_pass = done.passes or done.verifications or not (done.erasure or done.files)
    return section(
        Label("Verification (measured by the agent; not a validation)", "核查（由代理程序测量，不等于验证）"),
        fields([(Label("Verification status", "核查结果"), done.verification_status)]),
        *(findings(done.erasure) if done.erasure else ()),
        *([_verified_passes(done)] if by_pass else ()),
    )


def _verified_passes(done: Sanitization) -> Grid:
    return grid(
        [
            (12, Label("Kind", "方式")),
            (6, Label("After pass", "遍次")),
            (10, Label("Result", "结果")),
            (15, Label("Bytes read", "读取字节")),
            (10, Label("Coverage", "覆盖率")),
            (11, Label("Mismatched", "不符")),
            (11, Label("Unreadable", "不可读")),
            (10, Label("Duration", "用时")),
            (7, Label("I/O", "方式")),
            (8, Label("Read from medium", "直读介质")),
        ],
        [
            (
                check.kind if check.rule == NOT_RECORDED else f"{check.kind} ({check.rule})",
                check.of_pass,
                check.status,
                number(int(check.bytes_read)),
                percent(check.coverage_ppm),
                f"{number(int(check.mismatched_bytes))} B",
                f"{number(int(check.unreadable_bytes))} B",
                seconds(int(check.duration_ms)),
                check.io_mode,
                _yes(check.reads_medium),
            )
            for check in done.verifications
        ],
        Label("nothing was read back", "未做读回核查"),
    )


def _shortfalls(certificate: Certificate) -> Section:
    done = certificate.sanitization
    return section(
        Label("What this result does not cover", "本结果未涵盖的内容"),
        heading(Label("Exceptions", "例外")),
        bullets(done.exceptions, _NOTHING),
        heading(Label("Not covered", "未覆盖")),
        bullets(done.not_covered, _NOTHING),
        heading(Label("Limitations", "局限")),
        bullets([*done.limitations, *certificate.assurance], _NOTHING),
    )


def _evidence(certificate: Certificate) -> Section:
    proof = certificate.evidence
    return section(
        Label("Evidence", "证据"),
        fields(
            [
                (Label("Case number", "案件编号"), proof.case_number),
                (Label("Order", "指令编号"), proof.order_id),
                (Label("Order digest (SHA-256)", "指令摘要"), proof.order),
                (Label("Requested by", "申请人"), proof.requested_by),
                (Label("Reason", "事由"), proof.reason),
                (Label("Receipt digest (SHA-256)", "回执摘要"), proof.receipt),
                (Label("Receipt signature file (SHA-256)", "回执签名文件摘要"), proof.receipt_signature),
                (
                    Label("Receipt counter / target", "回执序号/目标"),
                    f"{number(int(proof.counter))} / {proof.target + 1}",
                ),
                (Label("Agent key", "代理密钥指纹"), proof.agent_key),
                (Label("Machine", "机器"), f"{proof.hostname} ({proof.machine_id})"),
                (Label("Boot id / kernel", "启动标识/内核"), f"{proof.boot_id} / {proof.kernel}"),
                *_second(proof),
                *(_log(proof.log) if proof.log else []),
            ]
        ),
    )


def _second(proof: Evidence) -> list[tuple[Label, object]]:
    rows = [
        (Label("DSSE envelope (SHA-256)", "DSSE 信封摘要"), proof.dsse),
        (Label("ML-DSA-65 key (post-quantum)", "ML-DSA-65 密钥标识（抗量子）"), proof.mldsa65_key),
    ]
    return [row for row in rows if row[1]]


def _log(log: LogReference) -> list[tuple[Label, object]]:
    witnesses = "; ".join(f"{witness.key.partition('+')[0]} ({witness.at})" for witness in log.witnesses)
    return [
        (Label("Log entry", "透明日志条目"), f"{number(int(log.number))} / {log.log.partition('+')[0]}"),
        (Label("Log leaf (SHA-256)", "日志叶哈希"), log.leaf),
        (Label("Witnessed by", "独立见证"), witnesses or Label("nobody", "无")),
    ]


def _signatures(certificate: Certificate) -> str:
    return titled(
        Label("Signatures", "签署"),
        f'<p class="attest">{text(certificate.attestation_text)} '
        '<span class="zh" lang="zh">本人保证，就本人所知，本证书所载信息准确、完整。</span></p>',
        '<div class="signatures">',
        *(_box(title, lines) for title, lines in signature_boxes(certificate)),
        "</div>",
    )


def _box(title: Label, lines: Sequence[tuple[Label, str]]) -> str:
    body = "".join(
        f'<p class="line"><span>{label.markup}</span><span class="fill">{text(value)}</span></p>'
        for label, value in lines
    )
    return f"<div>{heading(title).html}{body}</div>"


def _person(person: Person) -> str:
    known = [
        getattr(person, field)
        for field in person.__struct_fields__
        if getattr(person, field) not in ("", NOT_RECORDED)
    ]
    return ", ".join(known) or NOT_RECORDED


def _sector(value: int) -> str:
    return f"{value} B" if value > 0 else NOT_RECORDED


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
