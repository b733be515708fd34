"""From a policy to what is really written: complements worked out, random bytes drawn. Pure."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from expunge_profiles.schema import Pass, Profile


class Fixed(msgspec.Struct, frozen=True, tag="fixed"):
    """A pass whose byte at offset *o* of the target is ``pattern[o % len(pattern)]``; 1 to 64 bytes."""

    pattern: bytes


class Keyed(msgspec.Struct, frozen=True, tag="keyed"):
    """A pass of a keyed stream. The key is the engine's affair."""


Step = Fixed | Keyed


def expand(profile: Profile, choose_byte: Callable[[], int]) -> list[Step]:
    """The passes of `profile` as concrete steps, one each, in order.

    `choose_byte` is called once per random-byte pass and answers 0 to 255; anything else is a
    ValueError. Whoever resumes an order must keep the steps, not draw again. A policy that does not
    allow overwriting has nothing to expand: ValueError, so that no empty plan passes for a done one.
    """
    if not profile.overwrites:
        raise ValueError(f"profile {profile.id} does not overwrite")
    steps: list[Step] = []
    for one in profile.passes:
        steps.append(_step(one, steps[-1] if steps else None, choose_byte))
    return steps


def _step(one: Pass, before: Step | None, choose_byte: Callable[[], int]) -> Step:
    match one.kind:
        case "fixed" | "pattern":
            return Fixed(bytes.fromhex(one.text))
        case "random-byte":
            return Fixed(bytes([choose_byte()]))
        case "complement":
            if not isinstance(before, Fixed):  # `Profile` refuses such a policy
                raise ValueError("a complement needs a pattern before it")
            return Fixed(bytes(byte ^ 0xFF for byte in before.pattern))
        case "keyed-stream":
            return Keyed()
