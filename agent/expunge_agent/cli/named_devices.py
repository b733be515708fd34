"""From what a person calls a device to the path that is meant."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click

from expunge_agent.core.guard import readable
from expunge_agent.devices.aliases import TAGS, resolve
from expunge_agent.errors import UsageError
from expunge_agent.vault_run import PREFIX as VAULT


def resolved(paths: Sequence[str]) -> tuple[str, ...]:
    """The paths that are meant, each that was called otherwise said on stderr. Raises NotFoundError, RefusedError, and
    UsageError for a vault's subject."""
    if vaults := [path for path in paths if path.startswith(VAULT)]:
        raise UsageError(
            f"{vaults[0]} is a subject of a vault, which only a controller orders by that name.",
            "Shred it here with: expunge-agent vault shred VAULT SUBJECT",
        )
    for path in paths:
        _check(path)
    found = tuple(resolve(path) for path in paths)
    for given, path in zip(paths, found, strict=True):
        if given != path:
            click.echo(f"{given} is {path}", err=True)
    return found


_LIKE_A_TAG = re.compile(r"^([A-Za-z_-]+)=")
_NAMES = (
    "Name a device by its path, by UUID=, PARTUUID=, LABEL= or PARTLABEL=, or by its link in /dev/disk/by-id, which "
    "holds its serial number; `expunge-agent inventory` shows paths and serial numbers."
)


def _check(text: str) -> None:
    """Raise UsageError for what names nothing: nothing at all, or a tag that there is not."""
    if not text:
        raise UsageError("A target is named by nothing at all (an empty argument).", _NAMES)
    tag = _LIKE_A_TAG.match(text)
    if tag and tag[1] not in TAGS and not os.path.lexists(text):
        raise UsageError(f"{readable(text, 200)} names no target: there is no {tag[1]}=.", _NAMES)
