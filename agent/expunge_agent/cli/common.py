"""What several verbs share: outcomes as exit codes, profiles, printing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import click

from expunge_agent import account, errors
from expunge_agent.files import exists
from expunge_agent.protocol import canonical, psid
from expunge_agent.protocol.base import Outcome
from expunge_profiles.load import builtin, load_folder, load_usable
from expunge_profiles.schema import Profile, ProfileError

EXIT_CODES = {
    Outcome.SANITIZED: errors.EXIT_OK,
    Outcome.EXCEPTIONS: errors.ExceptionsError.exit_code,
    Outcome.FAILED: errors.WipeFailedError.exit_code,
    Outcome.REFUSED: errors.RefusedError.exit_code,
    Outcome.INTERRUPTED: errors.InterruptedWipeError.exit_code,
    Outcome.UNKNOWN: errors.UnknownOutcomeError.exit_code,
}


def usable_profiles(state: Path) -> dict[str, Profile]:
    """As `known_profiles`, but a wrong file only costs its own profile, and is complained of.

    For orders that wait: each has its profile in its journal, or names one by digest.
    """
    own = state / "profiles"
    try:
        found, problems = load_usable(own) if exists(own) else ({}, [])
    except ProfileError as error:
        found, problems = {}, [error]
    for problem in problems:
        click.echo(f"expunge-agent: a profile in {own} is left out: {problem}", err=True)
    return {**builtin(), **found}


def known_profiles(state: Path) -> dict[str, Profile]:
    """Built-in profiles and those in the state folder. Raises ProfileProblemError."""
    own = state / "profiles"
    try:
        return {**builtin(), **(load_folder(own) if exists(own) else {})}
    except ProfileError as error:
        raise errors.ProfileProblemError(
            f"A profile in {own} is wrong: {error}", "Correct the file."
        ) from error


psid_option = click.option(
    "--psid",
    type=click.File("rb"),
    help="File (- for standard input) with the PSID on a self-encrypting drive's label, which lets it be reverted: "
    "the PSID alone for one target, else a line `TARGET PSID` for each.",
)
"""For verbs that may order a revert; see `psids`."""


def psids(file: IO[bytes] | None, paths: Sequence[str]) -> dict[str, str]:
    """The PSIDs of `psid_option` by path as named on the command line. Raises UsageError."""
    return psid.read(file.read(psid.MOST + 1), paths) if file is not None else {}


_BADNESS = (
    Outcome.UNKNOWN,
    Outcome.FAILED,
    Outcome.INTERRUPTED,
    Outcome.REFUSED,
    Outcome.EXCEPTIONS,
    Outcome.SANITIZED,
)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The worst of several outcomes; sanitized when there are none."""
    return min(outcomes, key=_BADNESS.index, default=Outcome.SANITIZED)


login_name = account.login_name


def print_json(value: Any) -> None:
    """One JSON document on standard output, keys as in the contract."""
    plain = json.loads(canonical.dumps(value))
    click.echo(json.dumps(plain, ensure_ascii=False, indent=2))


def print_line(value: Any) -> None:
    """One line of JSON Lines on standard output, at once."""
    click.echo(canonical.dumps(value).decode())


def table(head: list[str], rows: list[list[str]]) -> None:
    """Columns as wide as their longest cell."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


key_option = click.option(
    "--key",
    metavar="WHERE",
    help="Where the signing key is: file, ssh-agent:SOCKET[#SHA256:…], "
    "pkcs11:token=LABEL?module-path=FILE&pin-source=FILE, tpm2:TCTI.  [default: file]",
)
