"""What a person says of keys on the command line: statements, where to look for copies, a detached header."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from expunge_agent.core.fscrypt import busy
from expunge_agent.core.guard import guard
from expunge_agent.core.plan import TargetPlan
from expunge_agent.devices.fscrypt import holders
from expunge_agent.devices.look import look
from expunge_agent.devices.refused import TargetRefused
from expunge_agent.devices.usage import Eyes
from expunge_agent.errors import RefusedError, UsageError
from expunge_agent.fscrypt_run import PREFIX as FSCRYPT
from expunge_agent.fscrypt_run import case_of as fscrypt_case_of
from expunge_agent.fscrypt_run import identify, plan_of, stored_unwritable
from expunge_agent.local import Wish
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.key_words import statements_of
from expunge_agent.protocol.order_keys import KeyWish
from expunge_agent.protocol.receipt import Refusal

KEY_OPTIONS = (
    click.option(
        "--statement",
        "statements",
        multiple=True,
        metavar="CONDITION=ANSWER",
        help=f"What you vouch for, recorded with your name: {', '.join(STATED)}, each yes, no or unknown (docs/keys.md).",
    ),
    click.option(
        "--search",
        multiple=True,
        type=click.Path(),
        metavar="DIR",
        help="Look through this folder for copies of the LUKS header or of stored keys.",
    ),
    click.option(
        "--root",
        "roots",
        multiple=True,
        type=click.Path(),
        metavar="DIR",
        help="Root folder of another system whose etc/crypttab may name keys.",
    ),
    click.option(
        "--header", type=click.Path(), metavar="FILE", help="The detached LUKS header of the target."
    ),
)


def key_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options about keys to a verb."""
    for option in reversed(KEY_OPTIONS):
        command = option(command)
    return command


def key_wish(options: Mapping[str, Any], said_by: str, eyes: Eyes) -> KeyWish | None:
    """What the options say, None where they say nothing. Raises UsageError, and RefusedError for a header that may not
    be touched."""
    wish = KeyWish(
        statements=statements_of(options["statements"], said_by),
        search=[_folder(one, "--search") for one in options["search"]],
        roots=[_folder(one, "--root") for one in options["roots"]],
        header=_header(options["header"], eyes) if options["header"] else None,
    )
    return wish if wish != KeyWish() else None


def fscrypt_plan(text: str, wish: Wish) -> tuple[Target, TargetPlan]:
    """The target that ``fscrypt:/path`` names, and what would be done. Raises RefusedError."""
    try:
        identity = identify(text.removeprefix(FSCRYPT))
    except TargetRefused as error:
        raise RefusedError(error.refusal.detail, error.refusal.remedy) from error
    case = fscrypt_case_of(identity, wish.keys)
    plan = plan_of(identity, wish.profile, wish.level, wish.allow_downgrade, case)
    if isinstance(plan, Refusal):
        raise RefusedError(plan.detail, plan.remedy)
    if who := holders(identity.path):
        raise RefusedError(busy(who), "End those programs first.")
    if not wish.allow_downgrade and (kept := stored_unwritable(case)):
        raise RefusedError(kept.detail, kept.remedy)
    return Target(identity=identity, hint=identity.path), plan


def _folder(text: str, option: str) -> str:
    path = Path(text).absolute()
    if not path.is_dir():
        raise UsageError(f"{text} is no folder ({option}).", "Name a folder that is there.")
    return str(path)


def _header(path: str, eyes: Eyes) -> FileIdentity:
    medium, usage = look(path, eyes=eyes)
    refusal = guard(None, medium, usage, eyes.system)
    if refusal is not None:
        raise RefusedError(refusal.detail, refusal.remedy)
    if medium is None or not isinstance(medium.identity, FileIdentity):
        raise UsageError(f"{path} is no regular file.", "A detached header is a file.")
    return medium.identity
