"""What a person says of keys in an order: statements, where to look for copies, a detached header."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from expunge_agent.protocol.order_keys import KeyWish
    from expunge_controller.context import Controller
    from expunge_controller.store.rows import MachineRow

_OPTIONS = (
    click.option(
        "--statement",
        "statements",
        multiple=True,
        metavar="CONDITION=ANSWER",
        help="What you vouch for where keys are destroyed: yes, no or unknown. Recorded with your name.",
    ),
    click.option(
        "--search",
        multiple=True,
        metavar="DIR",
        help="Folder on the machine to look through for copies of the header or of stored keys.",
    ),
    click.option(
        "--root",
        "roots",
        multiple=True,
        metavar="DIR",
        help="Root folder, on the machine, of another system whose etc/crypttab may name keys.",
    ),
    click.option("--header", default="", metavar="FILE", help="The detached LUKS header of the only target."),
)


def key_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options about keys to a verb."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def key_wish(
    controller: Controller,
    machine: MachineRow,
    said_by: str,
    targets: int,
    *,
    statements: tuple[str, ...],
    search: tuple[str, ...],
    roots: tuple[str, ...],
    header: str,
) -> KeyWish | None:
    """What the options say, None where they say nothing; `targets` is how many the order has. Raises UsageError, and for
    the header what `resolve` raises."""
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol.identity import FileIdentity
    from expunge_agent.protocol.key_words import statements_of
    from expunge_agent.protocol.order_keys import KeyWish
    from expunge_controller.cli.targets import resolve

    said = statements_of(statements, said_by)
    if strange := [path for path in (*search, *roots) if not path.startswith("/")]:
        raise UsageError(f"{strange[0]} is not an absolute path.", "Name the folder as it is on the machine.")
    identity: FileIdentity | None = None
    if header:
        if targets > 1:
            raise UsageError("--header goes with one target only.", "Order each volume with its header.")
        (found,), _ = resolve(controller, machine, (header,))
        if not isinstance(found.identity, FileIdentity):
            raise UsageError(f"{header} is no regular file.", "A detached header is a file.")
        identity = found.identity
    wish = KeyWish(statements=said, search=list(search), roots=list(roots), header=identity)
    return wish if wish != KeyWish() else None
