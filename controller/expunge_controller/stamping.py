"""Has the log's head stamped by time-stamping authorities (RFC 3161), and finds the stamps that cover a receipt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from expunge_agent.errors import ExpungeError, ProtocolError, StateError
from expunge_agent.protocol.base import moment, timestamp
from expunge_controller import translog
from expunge_controller.bundle import StampParts
from expunge_controller.context import Controller
from expunge_controller.posting import Post, post
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.log_entry import EntryKind, entry_of, parse_entry
from expunge_controller.records.log_policy import Authority, LogPolicy
from expunge_controller.records.stamp import MAX_STAMP, Stamp, check_stamp, request_for
from expunge_controller.store.port import Unit
from expunge_controller.store.rows import CheckpointRow, StampRow

MEDIA_TYPE = "application/timestamp-query"
AHEAD = timedelta(hours=1)
"""How far an authority's clock may be ahead of ours."""
AGAIN = timedelta(days=300)
"""After so long a stamp is renewed although nothing was entered: certificates expire, algorithms age."""


class Stamping(NamedTuple):
    """What became of asking one authority; ``problem`` is None when it stamped ``size`` entries."""

    authority: str
    size: int
    at: str
    problem: ExpungeError | None


def stamp_head(controller: Controller, now: datetime, send: Post = post) -> list[Stamping]:
    """Have the log's head stamped by every authority that has an address; one that fails keeps no other from it."""
    row = translog.head(controller, now)
    with controller.store.read() as unit:
        policy = translog.policy_in(unit, controller.home)
    done = []
    for authority in policy.authorities:
        if not authority.url:
            continue
        try:
            kept = _stamped(authority, row, now, send)
            with controller.store.write() as unit:
                unit.log.add_stamp(kept)
            done.append(Stamping(authority.name, row.size, kept.at, None))
        except ExpungeError as error:
            done.append(Stamping(authority.name, row.size, "", error))
    return done


def is_due(unit: Unit, policy: LogPolicy, now: datetime) -> bool:
    """Whether an authority can be asked and something but stamps was entered since the last one, or that is old."""
    if not any(authority.url for authority in policy.authorities):
        return False
    newest = max(unit.log.stamps_from(0), key=lambda row: row.at, default=None)
    if newest is None or now - moment(newest.at) > AGAIN:
        return True
    entries = unit.log.entries(newest.size, unit.log.size())
    return any(parse_entry(row.body).kind is not EntryKind.STAMP for row in entries)


def stamps_of(
    unit: Unit, policy: LogPolicy, number: int, now: datetime
) -> tuple[list[StampParts], tuple[Authority, ...]]:
    """The earliest stamp over entry `number`, and while its authority's certificate has expired `now`, one made
    before that which covers the stamp before; and whose they are. Empty where none covers the entry.
    """
    parts: list[StampParts] = []
    authorities: dict[str, Authority] = {}
    found = next(_good(unit, policy, number), None)
    while found is not None:
        row, authority, stamp = found
        checkpoint = _checkpoint(unit, row.size)
        covered = translog.covered_by(unit, LogPolicy(logs=policy.logs), checkpoint)
        parts.append(StampParts(translog.proof_in(unit, number, covered), row.body))
        authorities[authority.name] = authority
        if stamp.until >= now:
            break
        number = translog.number_of(unit, entry_of(EntryKind.STAMP, row.body))
        later = [one for one in _good(unit, policy, number) if one[2].at <= stamp.until]
        found = later[-1] if later else None
    return parts, tuple(one for one in policy.authorities if one.name in authorities)


def problems_of(unit: Unit, policy: LogPolicy) -> Iterator[str]:
    """What is wrong with the stamps that are kept. One whose authority the policy no longer names is not judged."""
    named = {authority.name: authority for authority in policy.authorities}
    for row in unit.log.stamps_from(0):
        if row.authority not in named:
            continue
        try:
            _read(row, _checkpoint(unit, row.size), named[row.authority])
        except ExpungeError as error:
            yield f"the stamp of {row.authority} on {row.size} entries: {error.message}"


def _good(unit: Unit, policy: LogPolicy, number: int) -> Iterator[tuple[StampRow, Authority, Stamp]]:
    """The stamps over entry `number` by authorities of the policy, earliest first."""
    named = {authority.name: authority for authority in policy.authorities}
    for row in unit.log.stamps_from(number + 1):
        if row.authority in named:
            yield row, named[row.authority], _read(row, _checkpoint(unit, row.size), named[row.authority])


def _read(row: StampRow, checkpoint: CheckpointRow, authority: Authority) -> Stamp:
    return check_stamp(row.body, _text(checkpoint), authority.roots)


def _stamped(authority: Authority, row: CheckpointRow, now: datetime, send: Post) -> StampRow:
    text = _text(row)
    request, nonce = request_for(text)
    answer = send(authority.url, request, MEDIA_TYPE)
    if answer.status != 200:
        raise ProtocolError(
            f"The time-stamping authority {authority.name} answers with status {answer.status}.",
            "Check its address in log-policy.toml.",
        )
    if len(answer.body) >= MAX_STAMP:
        raise ProtocolError(f"The answer of {authority.name} is too large.", "Ask its operator.")
    stamp = check_stamp(answer.body, text, authority.roots, nonce)
    if stamp.at > now + AHEAD:
        raise ProtocolError(
            f"{authority.name} stamps a time that has not come yet ({timestamp(stamp.at)}).",
            "Put right its clock, or this one.",
        )
    return StampRow(
        digest=hashlib.sha256(answer.body).hexdigest(),
        size=row.size,
        authority=authority.name,
        body=answer.body,
        at=timestamp(stamp.at),
        received_at=timestamp(now),
    )


def _text(row: CheckpointRow) -> bytes:
    """What is stamped: the text that the log signed, without the signatures."""
    return parse_checkpoint(row.body)[1].text.encode()


def _checkpoint(unit: Unit, size: int) -> CheckpointRow:
    row = unit.log.checkpoint(size)
    if row is None:
        raise StateError(f"The checkpoint of {size} entries is missing.", "Run `expunge log check`.")
    return row
