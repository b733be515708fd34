"""From findings to the receipt's bytes."""

from __future__ import annotations

import platform
import secrets
from dataclasses import dataclass, replace

import msgspec

from expunge_agent import __version__
from expunge_agent.core import limitations
from expunge_agent.core.erasure_progress import fewer
from expunge_agent.core.outcome import overall
from expunge_agent.core.progress import RunProgress
from expunge_agent.devices import host
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Digest, Level, Outcome, Timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, SpaceIdentity, TreeIdentity
from expunge_agent.protocol.order import Order, ProfileRef
from expunge_agent.protocol.receipt import (
    MAX_LISTED_RANGES,
    MAX_RECEIPT,
    AgentInfo,
    OrderRef,
    Receipt,
    Refusal,
    TargetResult,
    freeze,
)
from expunge_agent.protocol.receipt_space import FreeSpace
from expunge_profiles.schema import Profile


@dataclass(frozen=True)
class Findings:
    """All that is known at the end: `order` is None when the order could not be believed or read."""

    order: Order | None
    profile: Profile | None
    refusal: Refusal | None
    results: list[TargetResult]
    progress: RunProgress


@dataclass(frozen=True)
class Place:
    """Where the receipt stands: which order it answers, whose it is, and its place in the agent's chain.

    ``mldsa65_key`` is the `dsse.keyid` of the agent's second key.
    """

    order_digest: Digest
    machine_id: str
    public_line: str
    mldsa65_key: Digest
    counter: int
    previous: Digest


def compose(findings: Findings, place: Place, now: Timestamp) -> bytes:
    """The frozen bytes of the receipt (see `protocol.receipt`), at most `MAX_RECEIPT` of them.

    Where bad ranges would make it longer, fewer are listed; counts and totals stay what they are.
    """
    for listed in (MAX_LISTED_RANGES, 200, 50, 10, 1, 0):
        body = _frozen(
            replace(findings, results=[_shortened(one, listed) for one in findings.results]), place, now
        )
        if len(body) <= MAX_RECEIPT:
            return body
    raise AssertionError("an order within its limits has a receipt within its own")


def _shortened(result: TargetResult, listed: int) -> TargetResult:
    return msgspec.structs.replace(
        result,
        passes=[msgspec.structs.replace(one, errors=one.errors[:listed]) for one in result.passes],
        verifications=[
            msgspec.structs.replace(
                one, mismatches=one.mismatches[:listed], unreadable=one.unreadable[:listed]
            )
            for one in result.verifications
        ],
        space=_shortened_space(result.space, listed),
        erasure=None
        if result.erasure is None
        else msgspec.structs.replace(result.erasure, answers=fewer(result.erasure.answers, listed)),
        files=None
        if result.files is None
        else msgspec.structs.replace(result.files, listed=result.files.listed[:listed]),
    )


def _shortened_space(space: FreeSpace | None, listed: int) -> FreeSpace | None:
    if space is None:
        return None
    cut = msgspec.structs.replace
    return cut(
        space,
        taken=None if space.taken is None else cut(space.taken, ranges=space.taken.ranges[:listed]),
        left=None if space.left is None else cut(space.left, ranges=space.left.ranges[:listed]),
    )


def _frozen(findings: Findings, place: Place, now: Timestamp) -> bytes:
    order = findings.order
    refused = findings.refusal is not None
    verdict, level = (Outcome.REFUSED, Level.NONE) if refused else overall(findings.results)
    return freeze(
        Receipt(
            format="expunge/receipt/v1",
            counter=U64(place.counter),
            previous=place.previous,
            nonce=secrets.token_hex(16),
            outcome=verdict,
            refusal=findings.refusal,
            order=_order_ref(order, place.order_digest),
            agent=_agent(place),
            profile=_profile_ref(findings.profile),
            level_requested=order.level if order else None,
            level_achieved=level,
            targets=findings.results,
            interruptions=findings.progress.interruptions,
            started_at=findings.progress.started_at or now,
            finished_at=now,
            clock=f"system clock, {host.clock()}",
            limitations=_limitations(findings.results),
        )
    )


def _order_ref(order: Order | None, digest: Digest) -> OrderRef:
    if order is None:
        return OrderRef(digest=digest)
    return OrderRef(
        digest=digest,
        order_id=order.order_id,
        nonce=order.nonce,
        issuer=order.issuer,
        requested_by=order.requested_by,
        case_number=order.case_number,
    )


def _agent(place: Place) -> AgentInfo:
    return AgentInfo(
        machine_id=place.machine_id,
        hostname=host.hostname(),
        software=f"expunge-agent {__version__}",
        python=platform.python_version(),
        kernel=host.kernel(),
        boot_id=host.boot_id(),
        key=sshsig.fingerprint(place.public_line),
        mldsa65_key=place.mldsa65_key,
    )


def _profile_ref(profile: Profile | None) -> ProfileRef | None:
    if profile is None:
        return None
    return ProfileRef(id=profile.id, version=profile.version, digest=profile.digest)


def _limitations(results: list[TargetResult]) -> list[str]:
    said = list(limitations.ALWAYS)
    if any(result.passes or result.files is not None for result in results):
        said += limitations.OVERWRITE
    if any(result.erasure is not None for result in results):
        said += limitations.DRIVE_COMMAND
    if any(result.key is not None for result in results):
        said += limitations.KEY
    if any(isinstance(result.target.identity, FileIdentity | TreeIdentity) for result in results):
        said += limitations.FILE
    if any(isinstance(result.target.identity, SpaceIdentity) for result in results):
        said += limitations.FREE_SPACE
    if any(result.medium is not None and result.medium.type == "virtual" for result in results):
        said += limitations.VIRTUAL
    return said
