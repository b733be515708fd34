"""The part of a certificate's page about files below a directory: how many ended how, and which not as they should."""

from __future__ import annotations

from expunge_agent.protocol.receipt_files import Files, FilesPass, FileTally
from expunge_controller.render.markup import (
    Label,
    Section,
    bullets,
    fields,
    grid,
    heading,
    number,
    seconds,
    section,
    size,
)

_OUTCOMES = {
    "sanitized-with-exceptions": "sanitized with exceptions 已清除（有例外）",
    "refused": "refused, not overwritten 已拒绝，未覆写",
    "failed": "failed 失败",
}
_SHOWN = 200


def files_section(files: Files) -> Section:
    """Counts, passes, and the files that are named."""
    more = int(files.listed_of) - len(files.listed[:_SHOWN])
    named = [
        f"{one.path}: {_OUTCOMES.get(one.outcome, one.outcome)}: {one.why}" for one in files.listed[:_SHOWN]
    ]
    if more > 0:
        named.append(f"… and {number(more)} more 另有 {number(more)} 个")
    return section(
        Label("Files", "文件"),
        fields(
            [
                (Label("Found", "发现"), _tally(files.found)),
                (Label("Sanitized", "已清除"), _tally(files.sanitized)),
                (Label("Sanitized with exceptions", "已清除（有例外）"), _tally(files.exceptions)),
                (Label("Refused, not overwritten", "已拒绝，未覆写"), _tally(files.refused)),
                (Label("Failed", "失败"), _tally(files.failed)),
                (Label("Not finished", "未完成"), _tally(files.unfinished)),
                (Label("After the overwrite", "覆写之后"), _after(files)),
                (
                    Label("Exceptions allowed by the order", "指令允许例外"),
                    Label("yes", "是") if files.allow_exceptions else Label("no", "否"),
                ),
                (Label("File system", "文件系统"), files.filesystem),
                (
                    Label("Holes, left as they are (bytes)", "稀疏空洞（未写，字节）"),
                    number(int(files.holes)),
                ),
                (Label("Read-back", "读回核查"), _read_back(files)),
                (Label("List of all files (SHA-256)", "文件清单摘要"), files.manifest or "not recorded"),
            ]
        ),
        grid(
            [
                (10, Label("Pass", "遍次")),
                (40, Label("Pattern", "模式")),
                (25, Label("Bytes written", "写入字节")),
                (25, Label("Duration", "用时")),
            ],
            [_pass(run) for run in files.passes],
            Label("no pass was run", "未执行覆写"),
        ),
        heading(Label("Files with a shortfall", "有缺陷的文件")),
        bullets(named, Label("none", "无")),
    )


def _pass(run: FilesPass) -> tuple[object, ...]:
    return run.index + 1, run.pattern, number(int(run.bytes_written)), seconds(int(run.duration_ms))


def _tally(tally: FileTally) -> str:
    return f"{number(int(tally.files))} ({size(int(tally.bytes))})"


def _after(files: Files) -> object:
    if files.keep:
        return Label("kept", "保留")
    return (
        f"{number(int(files.names_removed))} names removed 已删除文件名, {number(int(files.other_removed))} links and "
        f"special files 链接与特殊文件, {number(int(files.folders_removed))} empty folders 空文件夹"
    )


def _read_back(files: Files) -> object:
    check = files.verification
    if check is None:
        return Label("nothing was read back", "未做读回")
    return (
        f"{check.kind}: {number(int(check.bytes_read))} of {number(int(check.bytes_expected))} B, "
        f"{number(int(check.mismatched_bytes))} wrong 不符, {number(int(check.unreadable_bytes))} unreadable 不可读, "
        f"{check.io_mode}, read from medium 直读介质: {'yes' if check.reads_medium else 'NO'}"
    )
