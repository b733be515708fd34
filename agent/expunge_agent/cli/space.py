"""What verbs know of ``free-space:MOUNTPOINT`` targets: their options, and their plan."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import click

from expunge_agent.core.guard import SystemPaths
from expunge_agent.core.plan import NOTHING_DRAWN, TargetPlan
from expunge_agent.core.space import Space, space_refusal
from expunge_agent.core.space_plan import plan_space
from expunge_agent.devices.space import PREFIX, look_at_space
from expunge_agent.errors import RefusedError
from expunge_agent.local import Wish
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceWish, Target
from expunge_agent.protocol.receipt import Refusal

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Reserve(click.ParamType[int]):
    """``0``, ``64M``, ``1G``: bytes, binary units."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes that `value` spells."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", str(value))
        if match is None or int(match[1]) * _UNITS[match[2]] >= 1 << 63:
            self.fail(f"{value!r} is not a size such as 0, 64M or 1G (1M is 1048576 bytes).", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


_OPTIONS = (
    click.option(
        "--reserve",
        type=Reserve(),
        help="Free space: bytes that others may still write while it is full; 0 takes all.  [default: the larger "
        "of 64M and 1 % of the file system]",
    ),
    click.option(
        "--system", is_flag=True, help="Free space: it is meant though the running system stands on it."
    ),
    click.option(
        "--trim",
        is_flag=True,
        help="Free space: afterwards tell the device what is free (FITRIM); this earns nothing.",
    ),
)


def space_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of free-space targets to a verb."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def space_wish(options: Mapping[str, Any]) -> SpaceWish:
    """How free space is to be filled, from a verb's options."""
    reserve = options["reserve"]
    return SpaceWish(
        reserve=None if reserve is None else U64(reserve), system=options["system"], trim=options["trim"]
    )


def plan_space_target(
    text: str, wish: Wish, system: SystemPaths, how: SpaceWish
) -> tuple[Target, TargetPlan]:
    """The target that `text` (``free-space:MOUNTPOINT``) names, and its plan. Raises RefusedError."""
    seen = look_at_space(text.removeprefix(PREFIX), system)
    refusal = seen if isinstance(seen, Refusal) else space_refusal(None, seen, how, system)
    if refusal is None and isinstance(seen, Space):
        plan = plan_space(seen, wish.profile, wish.level, wish.allow_downgrade, NOTHING_DRAWN)
        if isinstance(plan, TargetPlan):
            return Target(identity=seen.identity, hint=seen.path, space=how), plan
        refusal = plan
    if refusal is None:
        raise AssertionError("what was not refused was planned")
    raise RefusedError(refusal.detail, refusal.remedy)
