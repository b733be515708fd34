"""A part of a whole in per cent, as exceptions give it."""

from __future__ import annotations

_UNIT = 1_000_000  # 0.0001 %


def percent(part: int, whole: int) -> str:
    """`part` of `whole` in per cent, with four decimals: ``1.5625 %``.

    Rounded down, so that only the whole is 100 %; what is less than the last decimal says so instead of
    being nothing.
    """
    units = part * _UNIT // whole if whole > 0 else 0
    if part > 0 and not units:
        return "less than 0.0001 %"
    return f"{units // 10_000}.{units % 10_000:04d} %"
