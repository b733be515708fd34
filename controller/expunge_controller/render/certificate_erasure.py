"""The part of a certificate's page about the drive's own command: what it said, and what was found afterwards."""

from __future__ import annotations

from expunge_agent.protocol.receipt_erasure import LaidOpen
from expunge_controller.records.certificate import (
    NOT_RECORDED,
    CertifiedCanaries,
    CertifiedErasure,
    CertifiedInterruption,
    CertifiedReadBack,
)
from expunge_controller.render.markup import (
    Label,
    Part,
    Section,
    fields,
    hint,
    number,
    percent,
    seconds,
    section,
)
from expunge_controller.render.technique_words import in_words

_ENDS = {
    "not-begun": "not begun 未开始",
    "done": "done 完成",
    "failed": "failed 失败",
    "running": "still running 进行中",
    "unknown": "unknown 未知",
}
_HONEST = Label(
    "What the drive says of itself proves nothing. Canaries are keyed blocks, written before the command at places "
    "nobody could foresee; afterwards not one may be readable. Blocks that read as zeros, or as another byte "
    "throughout, are what deallocated blocks read as, too: they do not prove that cells were erased.",
    "设备自述不构成证明。金丝雀块是在命令执行前以密钥写入、位置不可预知的数据块，执行后不得再读出任何一块。"
    "读出为全零或单一字节的块，与已解除分配的块读出结果相同，不能证明存储单元已被擦除。",
)


def command_section(erasure: CertifiedErasure, level: str) -> Section:
    """What was sent and what the drive answered; `level` is the one achieved."""
    lost = "; ".join(_interruption(one) for one in erasure.interruptions)
    said = (
        f"{'accepted' if erasure.accepted else 'not seen accepted'}, "
        f"{'seen at work' if erasure.progress_seen else 'not seen at work'}, "
        f"ended: {_ENDS.get(erasure.ended, erasure.ended)}"
    )
    return section(
        Label("The drive's own command", "设备自身命令"),
        fields(
            [
                (Label("Command", "命令"), in_words(erasure.technique, level)),
                (Label("What the drive said", "设备答复"), f"{said}. {erasure.detail}".strip()),
                (Label("Started", "开始时间"), erasure.started_at),
                (Label("Finished", "结束时间"), erasure.finished_at),
                (Label("Duration", "用时"), seconds(int(erasure.duration_ms))),
                (Label("Times begun", "下达次数"), erasure.attempts),
                (Label("Interruptions of the order", "指令中断"), lost or Label("none", "无")),
                (Label("Hidden capacity given back", "释放的隐藏容量"), _laid_open(erasure.laid_open)),
                (
                    Label("Left usable", "恢复可用"),
                    f"{'yes' if erasure.settled else 'NO'}. {erasure.settling}".strip(),
                ),
                (
                    Label("Differs from before", "前后差异"),
                    "; ".join(erasure.changes) or Label("nothing found", "未发现"),
                ),
                (
                    Label("Raw answers of the drive", "设备原始应答"),
                    f"{number(erasure.answers)}, all in the receipt 全部见回执",
                ),
            ]
        ),
    )


def _laid_open(seen: LaidOpen | None) -> object:
    if seen is None:
        return Label("none", "无")
    before, after = number(int(seen.before)), number(int(seen.after))
    return f"{before} B before, {after} B after: {'; '.join(seen.done)}"


def findings(erasure: CertifiedErasure) -> list[Part]:
    """Canaries and read-back as a table, and what they can prove."""
    rows: list[tuple[Label, object]] = []
    rows += (
        _canaries(erasure.canaries) if erasure.canaries else [(_CANARIES, Label("none was placed", "未写入"))]
    )
    rows += (
        _read_back(erasure.read_back)
        if erasure.read_back
        else [(_READ_BACK, Label("nothing was read back", "未做读回"))]
    )
    return [fields(rows), hint(_HONEST)]


_CANARIES = Label("Canaries", "金丝雀块")
_READ_BACK = Label("Read-back after the command", "命令后读回")


def _canaries(seen: CertifiedCanaries) -> list[tuple[Label, object]]:
    return [
        (_CANARIES, f"{number(seen.written)} written of {number(seen.planned)} planned, {seen.block} B each"),
        (
            Label("Canaries found afterwards", "事后仍可读出"),
            f"{number(seen.found)} of {number(seen.looked_for)} looked for; {number(seen.unreadable)} unreadable",
        ),
        (
            Label("Old data still there", "旧数据残留"),
            f"{number(seen.kept)} of {number(seen.telling)} samples that could tell ({number(seen.samples)} read before); "
            f"{number(seen.samples_unreadable)} unreadable",
        ),
    ]


def _read_back(read: CertifiedReadBack) -> list[tuple[Label, object]]:
    kind = read.kind if read.rule == NOT_RECORDED else f"{read.kind} ({read.rule})"
    how = f"{seconds(int(read.duration_ms))}, {read.io_mode}, read from medium: {'yes' if read.reads_medium else 'NO'}"
    return [
        (_READ_BACK, f"{kind}: {read.status}; {how}"),
        (
            Label("Bytes read", "读取字节"),
            f"{number(int(read.bytes_read))} ({percent(read.coverage_ppm)} of the medium), "
            f"{number(int(read.unreadable_bytes))} unreadable",
        ),
        (
            Label("What was found, in bytes", "读出内容（字节）"),
            f"zeros {number(int(read.zeros))}, FFh {number(int(read.ones))}, "
            f"another byte throughout {number(int(read.constant))}, other data {number(int(read.other))}",
        ),
    ]


def _interruption(one: CertifiedInterruption) -> str:
    why = one.what or ("the machine was started anew" if one.restarted else "the agent ended unexpectedly")
    again = ", machine started anew" if one.what and one.restarted else ""
    return f"{one.noticed_at} {why}{again}: {one.decision}"
