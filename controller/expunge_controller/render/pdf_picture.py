"""A small picture of a wipe over its medium, drawn from the receipt: what was written, read and found where. Pure.

Only what the receipt has is drawn: it holds ranges that went wrong and the slowest and fastest second of a pass,
not the speed at each place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Final

from expunge_agent.protocol.receipt import PassResult, TargetResult, Verification
from expunge_agent.protocol.receipt_erasure import Erasure, ReadBack
from expunge_agent.protocol.receipt_parts import RangeProblem
from expunge_controller.records.canaries import BLOCK, canary_places
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Grid, Hint, Label, Section, number, rate
from expunge_controller.render.pdf_words import cell, label

CELLS: Final = 400
"""How finely a medium is drawn, from its first byte to its last."""
MAX_SHOWN_RANGES: Final = 300
DONE, PART, CANARY, BAD = "done", "part", "canary", "bad"
Mark = tuple[tuple[int, int], str]
"""Cells from the first to before the last, and what is drawn there."""

_LEGEND = Label(
    "From the first byte (left) to the last (right). Dark: all of it; hatched: a part, whose places the receipt "
    "tells; low: places with canaries; red: ranges that failed, drawn wider than they are. Speed: the mark is the "
    "average, the band reaches from the slowest second to the fastest, in brackets.",
    "左端为首字节，右端为末字节。深色：全部；斜纹：部分（位置见回执）；矮条：金丝雀块所在处；红色：出错区段（已放大显示）。"
    "速率：竖标为平均值，浅色带为最慢一秒至最快一秒（括号内）。",
)
_TITLE = Label("Coverage and speed", "覆盖范围与速率")
_HEAD = (
    (22, Label("Where it showed", "发现于")),
    (18, Label("From byte", "起始字节")),
    (14, Label("Bytes", "字节数")),
    (46, Label("What", "情况")),
)


def picture(result: TargetResult) -> dict[str, Any] | None:
    """Bars over the medium and speeds; None where the receipt has neither (no places, nothing measured)."""
    size = result.erasure.reach(int(result.target.identity.size)) if result.erasure else 0
    size = size or int(result.target.identity.size)
    bars = (
        _bars(result, size) if size and result.key is None else []
    )  # of keys only their places were written
    speeds = [speed for run in result.passes if (speed := _pass_speed(run))]
    speeds += [speed for check in result.verifications if (speed := _read_speed(check))]
    if not bars and not speeds:
        return None
    drawn = {"kind": "picture", "cells": CELLS, "bars": bars, "speeds": _scaled(speeds)}
    return pdf_blocks.titled(_TITLE, drawn, pdf_blocks.part(Hint(_LEGEND)))


def ranges(result: TargetResult) -> Section | None:
    """The ranges that failed, one a line, as far as they fit; None where there are none."""
    rows = [
        (where, number(int(one.range.start)), number(int(one.range.length)), one.what)
        for where, problems in _problems(result)
        for one in problems
    ]
    if not rows:
        return None
    more = len(rows) - MAX_SHOWN_RANGES
    said = Label(f"and {number(more)} more, in the receipt", f"另有 {number(more)} 段，见回执")
    shown: list[Sequence[object]] = list(rows[:MAX_SHOWN_RANGES])
    if more > 0:
        shown.append((said, "…", "…", "…"))
    return Section(Label("Ranges that failed", "出错区段"), [Grid(_HEAD, shown, Label("none", "无"))])


def _problems(result: TargetResult) -> Iterable[tuple[Label, list[RangeProblem]]]:
    for run in result.passes:
        yield Label(f"pass {run.index + 1}", f"第 {run.index + 1} 遍"), run.errors
    for check in result.verifications:
        after = f"第 {check.of_pass + 1} 遍后"
        yield Label(f"read after pass {check.of_pass + 1}", f"{after}读取"), check.unreadable
        yield Label(f"content after pass {check.of_pass + 1}", f"{after}内容"), check.mismatches
    if result.erasure is not None and result.erasure.read_back is not None:
        yield _READ_BACK, result.erasure.read_back.unreadable


def _bars(result: TargetResult, size: int) -> list[dict[str, Any]]:
    bars = _together([(run.index + 1, *_pass_cells(run, size)) for run in result.passes])
    bars += [_verified_bar(check, size) for check in result.verifications if check.kind != "none"]
    return bars + (_erasure_bars(result.erasure, size) if result.erasure is not None else [])


def _pass_cells(run: PassResult, size: int) -> tuple[str, list[Mark]]:
    whole = run.complete and int(run.bytes_written) + int(run.error_bytes) >= size
    return DONE if whole else PART, _drawn(run.errors, size)


def _together(passes: Sequence[tuple[int, str, list[Mark]]]) -> list[dict[str, Any]]:
    """A bar for each pass; passes that look the same, one after the other, share one."""
    bars = []
    for (ground, marks), group in itertools.groupby(passes, key=lambda one: one[1:]):
        numbers = [one[0] for one in group]
        named = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"
        bars.append(_bar(Label(f"Pass {named}, written", f"第 {named} 遍，写入"), ground, marks))
    return bars


def _verified_bar(check: Verification, size: int) -> dict[str, Any]:
    whole = check.kind == "full" and check.complete
    name = Label(f"After pass {check.of_pass + 1}, read", f"第 {check.of_pass + 1} 遍后，读回")
    return _bar(name, DONE if whole else PART, _drawn([*check.unreadable, *check.mismatches], size))


_READ_BACK = Label("After the command, read", "命令后，读回")


def _erasure_bars(erasure: Erasure, size: int) -> list[dict[str, Any]]:
    bars = []
    if erasure.canaries is not None and erasure.canaries.written:
        places = canary_places(size, bytes.fromhex(erasure.canaries.key))
        found = [(_at(int(place), size), BAD) for place in erasure.canaries.found_at]
        bars.append(
            _bar(Label("Canaries", "金丝雀块"), "", [*((_at(one, size), CANARY) for one in places), *found])
        )
    if erasure.read_back is not None:
        bars.append(_read_back_bar(erasure.read_back, size))
    return bars


def _read_back_bar(read: ReadBack, size: int) -> dict[str, Any]:
    whole = read.kind == "full" and read.complete
    return _bar(_READ_BACK, DONE if whole else PART, _drawn(read.unreadable, size))


def _drawn(problems: Sequence[RangeProblem], size: int) -> list[Mark]:
    return [(_cells(int(one.range.start), int(one.range.length), size), BAD) for one in problems]


def _at(place: int, size: int) -> tuple[int, int]:
    return _cells(place, BLOCK, size)


def _cells(start: int, length: int, size: int) -> tuple[int, int]:
    """The cells that a range touches, at least one."""
    first = min(start * CELLS // size, CELLS - 1)
    return first, max(first + 1, min(-(-(start + length) * CELLS // size), CELLS))


def _bar(name: Label, ground: str, marks: Iterable[Mark]) -> dict[str, Any]:
    """A bar as runs of equal cells: [kind, first cell, cells]."""
    cells = [ground] * CELLS
    for (first, end), kind in sorted(marks, key=lambda mark: mark[1] == BAD):
        cells[first:end] = [kind] * (end - first)
    runs: list[list[Any]] = []
    for place, kind in enumerate(cells):
        if runs and runs[-1][0] == kind:
            runs[-1][2] += 1
        else:
            runs.append([kind, place, 1])
    return {"label": label(name), "runs": [run for run in runs if run[0]]}


def _pass_speed(run: PassResult) -> tuple[Label, int, int, int] | None:
    average = _average(int(run.bytes_written), int(run.duration_ms))
    name = Label(f"Pass {run.index + 1}", f"第 {run.index + 1} 遍")
    return (name, int(run.conduct.slowest), average, int(run.conduct.fastest)) if average else None


def _read_speed(check: Verification) -> tuple[Label, int, int, int] | None:
    average = _average(int(check.bytes_read), int(check.duration_ms))
    name = Label(f"Read after pass {check.of_pass + 1}", f"第 {check.of_pass + 1} 遍后读回")
    return (name, 0, average, 0) if average else None


def _average(count: int, milliseconds: int) -> int:
    return count * 1000 // milliseconds if milliseconds else 0


def _scaled(speeds: Sequence[tuple[Label, int, int, int]]) -> list[dict[str, Any]]:
    """Speeds in thousandths of the fastest, and in words. Slowest and fastest second: 0 where not measured."""
    most = max((max(speed[1:]) for speed in speeds), default=1)
    return [
        {
            "label": label(name),
            "slowest": slowest * 1000 // most,
            "average": average * 1000 // most,
            "fastest": fastest * 1000 // most,
            "said": cell(_speed_words(slowest, average, fastest)),
        }
        for name, slowest, average, fastest in speeds
    ]


def _speed_words(slowest: int, average: int, fastest: int) -> str:
    if not slowest or not fastest:
        return rate(average)
    return f"{rate(average)} ({rate(slowest)} – {rate(fastest)})"
