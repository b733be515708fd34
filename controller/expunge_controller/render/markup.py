"""Parts of a document (sections, tables, lists) and their HTML, whose every value is escaped; numbers as people
read them. Pure.

A part says what stands there, not how it is written: the page and the PDF are made from the same ones.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Label(NamedTuple):
    """A caption in English and Chinese; both are ours, never a value."""

    english: str
    chinese: str

    @property
    def plain(self) -> str:
        """Both, as a value in a table."""
        return f"{self.english} {self.chinese}"

    @property
    def markup(self) -> str:
        """Both, side by side."""
        return f'{html.escape(self.english)} <span class="zh" lang="zh">{html.escape(self.chinese)}</span>'


def text(value: object) -> str:
    """`value` safe inside an element or a quoted attribute.

    Characters that do not print (control, bidirectional, zero width) are shown by their code, so
    that a drive's model string cannot make a page read otherwise than its bytes.
    """
    shown = "".join(one if one.isprintable() else f"\\u{{{ord(one):04x}}}" for one in str(value))
    return html.escape(shown, quote=True)


def number(value: int) -> str:
    """``268435456`` → ``268,435,456``."""
    return f"{value:,}"


def size(value: int) -> str:
    """Bytes, with a decimal unit behind from 1 kB on, rounded down to two decimals."""
    amount, unit = value, ""
    for step, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= step:
            amount, unit = value * 100 // step, name
            break
    behind = f" ({amount // 100}.{amount % 100:02} {unit})" if unit else ""
    return f"{number(value)} bytes{behind}"


def seconds(milliseconds: int) -> str:
    """Milliseconds as seconds: ``1.234 s``."""
    return f"{milliseconds // 1000}.{milliseconds % 1000:03} s"


def rate(bytes_per_second: int) -> str:
    """Bytes per second as MB/s (10^6), or that it was too short to say."""
    if not bytes_per_second:
        return "not measured"
    return f"{bytes_per_second // 1_000_000}.{bytes_per_second // 100_000 % 10} MB/s"


def percent(parts_per_million: int) -> str:
    """Parts per million as a percentage, rounded down: ``99.99 %``."""
    return f"{parts_per_million // 10_000}.{parts_per_million // 100 % 100:02} %"


def _cell(value: object) -> str:
    return text(value.plain if isinstance(value, Label) else value)


@dataclass(frozen=True)
class Heading:
    """A caption above a part of a section."""

    label: Label

    @property
    def html(self) -> str:
        return f"<h3>{self.label.markup}</h3>"


@dataclass(frozen=True)
class Hint:
    """A sentence about what is above it."""

    label: Label

    @property
    def html(self) -> str:
        return f"<p class='hint'>{self.label.markup}</p>"


@dataclass(frozen=True)
class Fields:
    """A two-column table of captions and values; a value that is ours is a `Label`."""

    rows: Sequence[tuple[Label, object]]

    @property
    def html(self) -> str:
        body = "".join(
            f"<tr><th>{label.markup}</th><td>{_cell(value)}</td></tr>" for label, value in self.rows
        )
        return f'<table class="fields"><tbody>{body}</tbody></table>'


@dataclass(frozen=True)
class Grid:
    """A table whose columns have a width in percent and a caption; `empty` is said without rows."""

    head: Sequence[tuple[int, Label]]
    rows: Sequence[Sequence[object]]
    empty: Label

    @property
    def html(self) -> str:
        columns = "".join(f'<col style="width:{width}%">' for width, _ in self.head)
        top = "".join(f"<th>{label.markup}</th>" for _, label in self.head)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in self.rows
        )
        if not body:
            body = f'<tr><td colspan="{len(self.head)}">{self.empty.markup}</td></tr>'
        return f'<table class="grid"><colgroup>{columns}</colgroup><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


@dataclass(frozen=True)
class Bullets:
    """A list; `empty` is said where there is nothing, so that an absence is never a blank."""

    items: Sequence[object]
    empty: Label

    @property
    def html(self) -> str:
        body = "".join(f"<li>{_cell(item)}</li>" for item in self.items)
        return f"<ul>{body}</ul>" if body else f'<p class="none">{self.empty.markup}</p>'


Part = Heading | Hint | Fields | Grid | Bullets


@dataclass(frozen=True)
class Section:
    """A titled part of a document: what it says, whatever it is written as."""

    title: Label
    parts: Sequence[Part]

    @property
    def html(self) -> str:
        return titled(self.title, *(part.html for part in self.parts))


def titled(title: Label, *parts: str) -> str:
    """A titled part of the page from markup."""
    return f"<section><h2>{title.markup}</h2>{''.join(parts)}</section>"


def heading(label: Label) -> Heading:
    """See `Heading`."""
    return Heading(label)


def hint(label: Label) -> Hint:
    """See `Hint`."""
    return Hint(label)


def fields(rows: Iterable[tuple[Label, object]]) -> Fields:
    """See `Fields`."""
    return Fields(tuple(rows))


def grid(head: Sequence[tuple[int, Label]], rows: Iterable[Sequence[object]], empty: Label) -> Grid:
    """See `Grid`."""
    return Grid(tuple(head), tuple(map(tuple, rows)), empty)


def bullets(items: Iterable[object], empty: Label) -> Bullets:
    """See `Bullets`."""
    return Bullets(tuple(items), empty)


def section(title: Label, *parts: Part) -> Section:
    """See `Section`."""
    return Section(title, parts)
