"""The rules of custody, read from ``custody.toml`` beside this file: data, so that they can be read at a glance.

They come with the program and are the same for whoever records and whoever checks (ADR 0040).
"""

from __future__ import annotations

import functools
import tomllib
from importlib import resources
from typing import Literal

import msgspec

Need = Literal["location", "seal", "count", "photo", "destruction", "remedy", "quality", "wipe"]


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What holds for one kind of event; see the head of ``custody.toml``."""

    after: tuple[str, ...]
    to: str = ""
    signed_by: tuple[str, ...] = ()
    may_sign: tuple[str, ...] = ()
    by_name: bool = False
    verified: bool = False
    needs: tuple[Need, ...] = ()


class Apart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody has both the role ``role`` and one of ``never``, within one event or one medium's custody."""

    role: str
    never: tuple[str, ...]
    within: Literal["event", "medium"]
    why: str


class Method(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way of physical destruction: which figure it must state, and whether paper may go that way."""

    figure: Literal["particle", "temperature"]
    paper: bool = False


class CustodyRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """All of ``custody.toml``."""

    version: int
    roles: tuple[str, ...]
    final: tuple[str, ...]
    own_tools: tuple[str, ...]
    paper: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]
    steps: dict[str, Step]
    apart: tuple[Apart, ...]
    destruction: dict[str, Method]

    def after(self, kind: str) -> frozenset[str]:
        """The standings in which an event of this kind may come, groups resolved."""
        named = self.steps[kind].after
        return frozenset(
            one for name in named for one in (self.groups[name[1:]] if name.startswith("@") else (name,))
        )


@functools.cache
def custody_rules() -> CustodyRules:
    """The rules of this release."""
    text = resources.files("expunge_profiles").joinpath("custody.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), CustodyRules)
