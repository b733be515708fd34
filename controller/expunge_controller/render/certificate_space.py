"""The part of a certificate's page about the free space of a file system: what was filled, and what was left."""

from __future__ import annotations

from expunge_controller.records.certificate import NOT_RECORDED, CertifiedSpace
from expunge_controller.render.markup import Label, Section, fields, hint, number, section

_ENDS = {
    "full": Label("the file system gave no more", "文件系统已满"),
    "reserve": Label("the reserve was reached", "已达保留量"),
    "quota": Label("a quota was reached", "已达配额"),
}
_BY = {
    "map": "listed by the file system's own map 依文件系统映射逐段列出",
    "count": "counted only 仅计数",
}
_HONEST = Label(
    "Only what was deleted from this file system is covered, as far as its blocks were free: files that exist, "
    "the file system's journal, snapshots and what the medium does not let the host address are not.",
    "仅覆盖已从该文件系统删除且其块处于空闲状态的数据；现存文件、文件系统日志、快照以及主机无法寻址的区域不在其内。",
)


def space_section(space: CertifiedSpace) -> Section:
    """How the space was filled, what stayed free, and whether it was given back."""
    return section(
        Label("Free space of a file system", "文件系统空闲空间"),
        fields(
            [
                (Label("File system", "文件系统"), f"{space.filesystem}, {number(int(space.size))} B"),
                (Label("Free before", "清除前空闲"), f"{number(int(space.free_before))} B"),
                (
                    Label("Filled with every pass", "各遍填充"),
                    f"{number(int(space.filled))} B, and {number(int(space.rest))} B in small pieces 小块",
                ),
                (
                    Label("Stayed free, not reached", "仍空闲、未覆盖"),
                    f"{number(int(space.left))} B ({_BY.get(space.left_by, space.left_by)})",
                ),
                (
                    Label("Reserve ordered", "指定保留量"),
                    f"{number(int(space.reserve))} B: {space.reserve_why}",
                ),
                (Label("How the filling ended", "填充结束原因"), _ENDS.get(space.ended) or space.ended),
                (
                    Label("Ranges of the device taken", "占用设备区段"),
                    f"{number(int(space.pieces_on_device))}, the first of them in the receipt 见回执",
                ),
                (Label("Names made", "建立的名称"), number(int(space.names))),
                (
                    Label("Stayed in place between passes", "各遍间位置不变"),
                    Label("NO", "否") if space.moved else Label("yes", "是"),
                ),
                (
                    Label("Removed afterwards", "事后已移除"),
                    Label("yes", "是") if space.cleaned_up else Label("NO", "否"),
                ),
                *(
                    []
                    if space.trim == NOT_RECORDED
                    else [(Label("Trim (earns nothing)", "TRIM（不计级别）"), space.trim)]
                ),
            ]
        ),
        hint(_HONEST),
    )
