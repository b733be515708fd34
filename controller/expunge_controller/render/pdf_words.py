"""What a PDF shows of a value: in one language or both, and only characters that its fonts have. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from expunge_controller.records.certificate import NOT_RECORDED
from expunge_controller.render.markup import Label
from expunge_controller.render.pdf_sentences import IN_CHINESE


class Language(StrEnum):
    """What a document is written in; ``both``: side by side."""

    EN = "en"
    ZH = "zh"
    BOTH = "both"


NOT_STATED = Label("not stated", "未填写")
"""For a field that nobody filled."""

_WORDS: Final[dict[str, Label]] = {
    "": NOT_STATED,
    NOT_RECORDED: NOT_STATED,
    "yes": Label("yes", "是"),
    "NO": Label("NO", "否"),
    "none": Label("none", "无"),
    "clear": Label("clear", "清除"),
    "purge": Label("purge", "净化"),
    "sanitized": Label("sanitized", "已清除"),
    "sanitized-with-exceptions": Label("sanitized with exceptions", "已清除（有例外）"),
    "failed": Label("failed", "失败"),
    "refused": Label("refused", "已拒绝"),
    "interrupted": Label("interrupted", "中断"),
    "unknown": Label("unknown", "未知"),
    "passed": Label("passed", "通过"),
    "passed with exceptions": Label("passed with exceptions", "通过（有例外）"),
    "incomplete": Label("incomplete", "未完成"),
    "full": Label("full", "全部读回"),
    "sampled": Label("sampled", "抽样读回"),
    "not measured": Label("not measured", "未测量"),
    "overwrite": Label("overwrite", "覆写"),
    **{english: Label(english, chinese) for english, chinese in IN_CHINESE.items()},
}
"""Values that are ours, word for word; all others are shown as they were recorded."""

_FONTS: Final = (
    (0x20, 0x7E),
    (0xA1, 0xAC),
    (0xAE, 0x17F),
    (0x391, 0x3A1),
    (0x3A3, 0x3C9),
    (0x410, 0x44F),
    (0x2013, 0x2014),
    (0x2018, 0x2019),
    (0x201C, 0x201D),
    (0x3001, 0x3002),
    (0x300A, 0x3011),
    (0x4E00, 0x9FA5),
    (0xFF01, 0xFF5E),
)
_SINGLE: Final = "•…′″€№™←↑→↓−×≈≠≤≥"
"""With `_FONTS` what the fonts of a PDF are known to have (tests/contract/test_pdf_made.py renders all of it)."""


def covered() -> str:
    """Every character that is shown as it is."""
    return "".join(chr(code) for first, last in _FONTS for code in range(first, last + 1)) + _SINGLE


def shown(value: object) -> str:
    """`value` with every character that has no glyph, or does not print, as its code: ``\\u{1f600}``.

    So a path or a serial number can neither leave a blank nor make the page read otherwise than its bytes.
    """
    return "".join(one if _has_glyph(one) else f"\\u{{{ord(one):04x}}}" for one in str(value))


def cell(value: object) -> Any:
    """`value` as the template takes it: a string, or an object with ``en`` and ``zh``."""
    known = value if isinstance(value, Label) else _WORDS.get(str(value).strip())
    return shown(value) if known is None else label(known)


def label(words: Label) -> dict[str, str]:
    """Both languages of a caption."""
    return {"en": shown(words.english), "zh": shown(words.chinese or words.english)}


def _has_glyph(one: str) -> bool:
    return one in _SINGLE or any(first <= ord(one) <= last for first, last in _FONTS)
