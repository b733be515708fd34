"""Evidence about a drive command: canaries and samples before it, and what is found after it."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from expunge_agent.core.drive import Answer
from expunge_agent.core.erasure_progress import ErasureProgress, Evidence, Neighbour, Placed
from expunge_agent.core.plan import TargetPlan
from expunge_agent.engine import canaries
from expunge_agent.engine.blocks import Blocks
from expunge_agent.engine.problems import EngineError
from expunge_agent.engine.survey import Survey, survey
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.receipt_erasure import Canaries, ReadBack
from expunge_agent.techniques.erasing import MILLISECOND, PLACING, READING, Recorder, Watch, share_of
from expunge_agent.techniques.read_back import listed, places

LISTED = 100
"""Offsets of canaries and samples found that are named."""


Beside = Mapping[str, Blocks]
"""Other namespaces of the drive by the name of their device, opened for reading."""


def place(
    target: Blocks, plan: TargetPlan, recorder: Recorder, stop: threading.Event, beside: Beside
) -> None:
    """Sample old data, also that of `beside`, and put the canaries on the medium. Raises an EngineError."""
    recorder.placing()
    recorder.progress(PLACING, "placing canaries", share_of(0, plan))
    key = bytes.fromhex(plan.key)
    planted = canaries.plant(target, key, stop.is_set)
    if stop.is_set():
        return
    written = set(planted.written)
    recorder.placed(
        Placed(
            failed=[U64(one) for one in canaries.places(target.size, key) if one not in written],
            sampled=planted.sampled,
            samples=[(U64(at), digest) for at, digest in planted.samples],
            size=U64(target.size),
            lost=planted.lost,
            beside=_sampled(beside, key),
        )
    )


def check(
    target: Blocks,
    plan: TargetPlan,
    so_far: ErasureProgress,
    recorder: Recorder,
    watch: Watch,
    changes: Callable[[], tuple[list[str], list[Answer]]],
    beside: Beside,
) -> None:
    """Look for canaries and old data, read back what the profile asks for. Raises an EngineError.

    `changes` asks the drive again: how it differs from before, and what it answered.
    """
    key, placed = bytes.fromhex(plan.key), so_far.placed
    planned = canaries.places(int(placed.size) if placed is not None else target.size, key)
    failed = {int(one) for one in placed.failed} if placed is not None else set(planned)
    written = [one for one in planned if one not in failed]
    old = [(int(at), digest) for at, digest in placed.samples] if placed is not None else []
    remains = canaries.look_for(target, key, written, old)
    found = Canaries(
        key=plan.key,
        block=canaries.BLOCK,
        planned=len(planned),
        written=len(written),
        looked_for=remains.looked_for,
        found=len(remains.found),
        unreadable=remains.unreadable,
        samples=placed.sampled if placed is not None else 0,
        telling=len(old),
        kept=len(remains.kept),
        found_at=[U64(one) for one in sorted({*remains.found, *remains.kept})[:LISTED]],
        lost=placed.lost if placed is not None else 0,
        samples_unreadable=remains.unreadable_samples,
    )
    (told, answers), lost = changes(), [] if placed is None else _lost(placed.beside, beside, key)
    read_back = _read_back(target, plan, recorder, watch) if _is_done(so_far) else None
    if not watch.stop.is_set():
        evidence = Evidence(canaries=found, read_back=read_back, changes=told, beside=lost)
        recorder.checked(evidence, answers)


def _sampled(beside: Beside, key: bytes) -> list[Neighbour]:
    """What other namespaces hold; one that gives out is none of this order's business."""
    found = []
    for node, blocks in beside.items():
        with suppress(EngineError):
            samples = [(U64(at), digest) for at, digest in canaries.sample(blocks, key)[1]]
            found.append(Neighbour(node=node, samples=samples))
    return found


def _lost(before: list[Neighbour], beside: Beside, key: bytes) -> list[str]:
    """What other namespaces no longer hold. Some of it may have been changed by who uses them; not most of it."""
    told = []
    for one in before:
        if one.node not in beside:
            continue
        old = [(int(at), digest) for at, digest in one.samples]
        with suppress(EngineError):
            gone = len(old) - len(canaries.look_for(beside[one.node], key, [], old).kept)
            if gone * 2 > len(old):
                told.append(
                    f"Another namespace of the drive, {one.node}, which the command should leave alone, no longer "
                    f"holds {gone} of {len(old)} blocks that were read there before."
                )
    return told


def _is_done(so_far: ErasureProgress) -> bool:
    return so_far.ended is not None and so_far.ended.end == "done"


def _read_back(target: Blocks, plan: TargetPlan, recorder: Recorder, watch: Watch) -> ReadBack | None:
    """What the medium holds now, as much of it as the profile asks for."""
    rule = plan.verification
    if rule.kind == "none":
        return None
    seed = secrets.token_bytes(16)  # drawn only now: no drive can have known the places
    block = max(target.block, canaries.BLOCK)
    ranges = places(rule, target.size, block, seed)
    started = timestamp(watch.now())
    seen = survey(
        target,
        ranges,
        progress=lambda progress: recorder.progress(READING, "reading back", progress),
        stop=watch.stop,
    )
    return _as_read_back(
        seen, target, rule.kind, seed if rule.kind != "full" else b"", block, rule.rule, started, watch
    )


def _as_read_back(
    seen: Survey,
    target: Blocks,
    kind: str,
    seed: bytes,
    block: int,
    rule: str,
    started: str,
    watch: Watch,
) -> ReadBack:
    return ReadBack(
        kind="full" if kind == "full" else "sampled",
        bytes_expected=U64(seen.expected),
        bytes_read=U64(seen.read),
        unreadable_bytes=U64(seen.unreadable_bytes),
        unreadable=listed(seen.unreadable),
        zeros=U64(seen.zeros),
        ones=U64(seen.ones),
        constant=U64(seen.constant),
        other=U64(seen.other),
        io_mode=target.io_mode,
        reads_medium=target.reads_medium,
        started_at=started,
        finished_at=timestamp(watch.now()),
        duration_ms=U64(seen.duration_ns // MILLISECOND),
        complete=seen.read + seen.unreadable_bytes == seen.expected,
        seed=seed.hex(),
        block=block if seed else 0,
        rule=rule,
    )
