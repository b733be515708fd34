"""The options of an order for the free space of a file system."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Reserve(click.ParamType[int]):
    """``0``, ``64M``, ``1G``: bytes, binary units, as the agent's own option has them."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes that `value` spells."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)(?:i?B)?", str(value))
        if match is None or int(match[1]) * _UNITS[match[2]] >= 1 << 63:
            self.fail(f"{value!r} is not a size such as 0, 64M or 1G (1M is 1048576 bytes).", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


reserve_option = click.option(
    "--reserve",
    type=Reserve(),
    help="Free space: bytes that others may still write while it is full; 0 takes all. Default: the larger of 64M "
    "and 1 % of the file system.",
)
system_option = click.option(
    "--system", is_flag=True, help="Free space: it is meant though the machine's system stands on it."
)
trim_option = click.option(
    "--trim", is_flag=True, help="Free space: afterwards tell the device what is free (earns nothing)."
)
