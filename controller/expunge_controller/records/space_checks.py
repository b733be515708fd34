"""What a receipt may claim of a file system's free space: never more than its figures add up to.

Every function yields the problems it found, as sentences.
"""

from __future__ import annotations

from collections.abc import Iterator

from expunge_agent.protocol.identity import SpaceIdentity
from expunge_agent.protocol.receipt import TargetResult
from expunge_agent.protocol.receipt_parts import ByteRange
from expunge_agent.protocol.receipt_space import SPARE_INODES, FreeSpace
from expunge_controller.records.certificate import NOT_RECORDED, CertifiedSpace


def figure_problems(result: TargetResult) -> Iterator[str]:
    """Figures that cannot be, whatever the outcome."""
    space, of_space = result.space, isinstance(result.target.identity, SpaceIdentity)
    if of_space and space is None and result.passes:
        yield "its target is free space, yet nothing is told of how that was filled"
    if space is None:
        return
    if not of_space:
        yield "it tells of free space, and its target is none"
    if space.free_before > space.size:
        yield f"{space.free_before} bytes were free on a file system of {space.size}"
    if space.taken is not None:
        yield from _listed("taken", space.taken.ranges, int(space.taken.count), int(space.taken.bytes))
    if space.left is not None:
        yield from _listed("left", space.left.ranges, int(space.left.count), int(space.left.bytes))
    rest = space.rest
    if rest is not None and not rest.verified <= rest.checked <= rest.bytes:
        yield f"its small pieces have {rest.bytes} bytes, {rest.checked} read, {rest.verified} as written"
    if result.passes and space.filled is None:
        yield "it tells of passes, and of no file that they could have written"


def _listed(what: str, ranges: list[ByteRange], count: int, total: int) -> Iterator[str]:
    if len(ranges) > count:
        yield f"it lists more ranges {what} than it counts"
    if sum(int(one.length) for one in ranges) > total:
        yield f"it lists more bytes {what} than it counts"


def success_problems(result: TargetResult, clean: bool) -> Iterator[str]:
    """What success demands; `clean` is ``sanitized``, without any exception."""
    space = result.space
    if space is None:
        if isinstance(result.target.identity, SpaceIdentity):
            yield f"{result.outcome}, yet nothing is told of how the space was filled"
        return
    if not space.filled or space.taken is None or space.left is None:
        yield f"{result.outcome}, yet the space was not filled and measured"
        return
    if space.ended == "broken-off":
        yield f"{result.outcome}, yet the filling was broken off"
    if not space.moved and space.taken.bytes < space.filled:
        yield f"its files have {space.filled} bytes and lie on {space.taken.bytes}"
    if space.rest is not None and space.rest.verified != space.rest.checked:
        yield "its small pieces did not come back as written, yet it is called sanitized"
    if not space.not_reached:
        yield "it does not say what filling free space cannot reach"
    if clean:
        yield from _clean(space)


def _clean(space: FreeSpace) -> Iterator[str]:
    if space.left is not None and space.left.bytes:
        yield f"{space.left.bytes} bytes stayed free, yet it is called sanitized"
    if space.filesystem == "ext4" and not 0 <= space.inodes_left <= SPARE_INODES:
        yield f"{space.inodes_left} free inodes were not made anew, yet it is called sanitized"
    if space.ended != "full":
        yield f"the filling ended by {space.ended}, yet it is called sanitized"
    if space.moved:
        yield "its files moved between passes, yet it is called sanitized"
    if not space.cleaned_up:
        yield "what filled the space is still there, yet it is called sanitized"
    if space.filesystem == "btrfs":
        yield "small files lie among the trees of btrfs, yet it is called sanitized"
    if space.rest is not None and space.rest.checked < space.rest.bytes:
        yield "its small pieces were not read back, yet it is called sanitized"


def certified_space_problems(said: CertifiedSpace | None, result: TargetResult) -> Iterator[str]:
    """Where a certificate tells of the space otherwise than the receipt."""
    due = result.space
    if said is None or due is None:
        if (said is None) is not (due is None):
            yield f"it tells of {'no' if said is None else 'a'} filled free space, the receipt does otherwise"
        return
    same = (
        "filesystem",
        "size",
        "free_before",
        "reserve",
        "reserve_why",
        "ended",
        "names",
        "moved",
        "cleaned_up",
    )
    differing = [name for name in same if getattr(said, name) != getattr(due, name)]
    differing += [
        name
        for name, seen, true in (
            ("filled", said.filled, due.filled or 0),
            ("rest", said.rest, due.rest.bytes if due.rest else 0),
            ("left", said.left, due.left.bytes if due.left else 0),
            ("left_by", said.left_by, due.left.by if due.left else NOT_RECORDED),
            ("pieces_on_device", said.pieces_on_device, due.taken.count if due.taken else 0),
            ("trim", said.trim, due.trim or NOT_RECORDED),
        )
        if seen != true
    ]
    if differing:
        yield f"the free space differs in {', '.join(differing)}"
