"""The part of a certificate's page about a volume: what it lies on, and what was taken down to reach it."""

from __future__ import annotations

from expunge_controller.records.certificate import CertifiedVolume
from expunge_controller.render.markup import Grid, Label, Part, Section, grid, hint, section

_STEPS = {
    "unmount": Label("unmounted", "卸载文件系统"),
    "swapoff": Label("swap switched off", "停用交换区"),
    "close-crypt": Label("encrypted mapping closed", "关闭加密映射"),
    "deactivate-lv": Label("logical volume deactivated", "停用逻辑卷"),
    "stop-md": Label("array stopped", "停止阵列"),
    "detach-loop": Label("loop device detached", "解除回环设备"),
    "remove-map": Label("mapping removed", "移除映射"),
    "flush-multipath": Label("multipath map flushed", "移除多路径映射"),
    "stop-bcache": Label("cached device stopped", "停止缓存设备"),
    "stop-bcache-set": Label("cache set stopped", "停止缓存组"),
}
_ENDS = {
    "done": Label("done", "完成"),
    "gone": Label("no longer there", "已不存在"),
    "failed": Label("FAILED", "失败"),
    "interrupted": Label("interrupted", "中断"),
    "begun": Label("end not known", "结果未知"),
}
_HINT = Label(
    "The members were written only where the volume maps them; what else lies on them is not part of this result.",
    "仅写入该卷映射到成员设备的区域；成员设备上的其他内容不属于本结果。",
)


def volume_section(volume: CertifiedVolume) -> Section:
    """Members and steps as tables."""
    return section(
        Label("Volume: what it lies on, what stood on it", "卷：底层成员与上层占用"),
        *(_members(volume) if volume.members else ()),
        *([_steps(volume)] if volume.steps else ()),
    )


def _members(volume: CertifiedVolume) -> list[Part]:
    rows = [
        (one.depth, one.path, one.kind, one.type, one.name, one.digest[:16] + "…") for one in volume.members
    ]
    table = grid(
        [
            (8, Label("Level below", "层级")),
            (18, Label("Member", "成员")),
            (14, Label("Kind", "类别")),
            (12, Label("Media type", "介质类型")),
            (30, Label("Identity", "标识")),
            (18, Label("Digest", "摘要")),
        ],
        rows,
        Label("none", "无"),
    )
    return [table, hint(_HINT)]


def _steps(volume: CertifiedVolume) -> Grid:
    return grid(
        [
            (6, Label("No.", "序")),
            (28, Label("Taken down first", "事先解除")),
            (30, Label("What", "对象")),
            (16, Label("End", "结果")),
            (20, Label("Said", "说明")),
        ],
        [
            (number, _step(one.what), one.on, _ENDS.get(one.ended) or one.ended, one.said)
            for number, one in enumerate(volume.steps, start=1)
        ],
        Label("nothing", "无"),
    )


def _step(what: str) -> object:
    return _STEPS.get(what) or what
