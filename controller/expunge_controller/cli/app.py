"""What the verbs share: the folder, logs, tables, JSON, durations."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from expunge_controller.context import Controller
    from expunge_controller.records.findings import Step
    from expunge_controller.settings import Home

PIPED_WIDTH = 120
UNITS = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class App:
    """The options before the verb."""

    named_home: Path | None
    log: str
    verbose: bool

    @property
    def home(self) -> Home:
        """The controller's folder."""
        from expunge_controller.settings import Home, default_home

        return Home((self.named_home or default_home()).absolute())

    @contextmanager
    def controller(self, level: str = "error") -> Iterator[Controller]:
        """The opened controller, logs set up to show `level` and above."""
        from expunge_controller.cli.logs import set_up
        from expunge_controller.context import opened

        set_up(self.log, "debug" if self.verbose else level)
        with opened(self.home) as controller:
            yield controller


class Duration(click.ParamType[timedelta]):
    """``30m``, ``24h``, ``7d``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """The duration that `value` spells, at most ten years."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,5})([mhd])", str(value))
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r} is not a duration such as 30m, 24h or 7d.", param, ctx)
        length = timedelta(seconds=int(match[1]) * UNITS[match[2]])
        if length > timedelta(days=3653):
            self.fail("that is more than ten years.", param, ctx)
        return length


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
language_option = click.option(
    "--language",
    type=click.Choice(["en", "zh", "both"]),
    help="English, Chinese, or both side by side. Default: `language` in config.toml, else both.",
)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def print_line(value: Any) -> None:
    """One line of JSON Lines on standard output, at once."""
    click.echo(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    sys.stdout.flush()


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
    """A table on standard output; `empty` where there are no rows."""
    if not rows:
        click.echo(empty)
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in head:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    console().print(table)


def print_steps(steps: Sequence[Step], as_json: bool, more: dict[str, Any]) -> None:
    """Numbered findings, as a table or as JSON with `more` before them."""
    if as_json:
        shown = [
            {"number": step.number, "title": step.title, "status": step.status, "detail": step.detail}
            for step in steps
        ]
        print_json({**more, "steps": shown})
        return
    rows = [[str(step.number), step.title, step.status, step.detail] for step in steps]
    print_table(["", "step", "result", "detail"], rows, "Nothing was checked.")


def console(*, stderr: bool = False) -> Any:
    """A Rich console that does not guess at markup, and is 120 columns wide where there is no terminal."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    return (
        made
        if made.is_terminal
        else Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=PIPED_WIDTH)
    )


def plain(text: str) -> str:
    """`text` without control characters: much of it was said by other machines."""
    return "".join(char if char.isprintable() else "?" for char in text)


def size(count: int) -> str:
    """A number of bytes for people, in decimal units as drives are sold: ``268.4 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"
