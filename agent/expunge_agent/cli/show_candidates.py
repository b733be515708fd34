"""The techniques that were weighed for one target, on the screen: a row each, those out for one reason together."""

from __future__ import annotations

import textwrap

import click

from expunge_agent.cli.common import table
from expunge_agent.core.preference import NOMINAL
from expunge_agent.core.selection import Candidate, Selection
from expunge_agent.terminal import about_time

_ALIKE = 3
"""So many techniques that are out for the very same reason need no row each."""
_COLUMNS = 110


def show_candidates(selection: Selection) -> None:
    """Print the table, and below it the groups of techniques that this medium has no use for."""
    groups: dict[str, list[Candidate]] = {}
    for one in selection.candidates:
        if not one.usable:
            groups.setdefault(one.why_not, []).append(one)
    groups = {why: out for why, out in groups.items() if len(out) >= _ALIKE}
    table(
        ["", "TECHNIQUE", "USABLE", "EARNS", "TIME", "WHY"],
        [
            [
                "*" if one.technique is selection.chosen else "",
                one.technique.value,
                "yes" if one.usable else "no",
                one.earns.value,
                about_time(one.seconds) + (" nominal" if one.seconds_from == NOMINAL else ""),
                one.why_not or one.detail,
            ]
            for one in selection.candidates
            if one.usable or one.why_not not in groups
        ],
    )
    for why, out in groups.items():
        click.echo(f"Not usable, {len(out)} techniques: {why}.")
        names = ", ".join(one.technique.value for one in out)
        for line in textwrap.wrap(names, _COLUMNS, break_long_words=False, break_on_hyphens=False):
            click.echo(f"  {line}")
