"""Asks witnesses to cosign the log (C2SP tlog-witness, add-checkpoint), one after the other."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from expunge_agent.errors import DocumentError, ExpungeError, PeerIdentityError, ProtocolError
from expunge_agent.protocol.base import timestamp
from expunge_controller import certifying, translog
from expunge_controller.context import Controller
from expunge_controller.posting import Post, post
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import parse_checkpoint, parse_number
from expunge_controller.records.log_policy import Witness
from expunge_controller.records.note import Note, parse_signatures, verified
from expunge_controller.records.witnessing import format_request
from expunge_controller.store.rows import CheckpointRow, CosignatureRow

MEDIA_TYPE = "text/plain"
AHEAD = 3600.0
"""Seconds that a witness's clock may be ahead of ours (tlog-cosignature: times in the future may be refused)."""
TRIES = 3
"""The witness may have been asked by another process meanwhile; then its size is another one."""


class Cosigning(NamedTuple):
    """What became of asking one witness; ``problem`` is None when it signed (now or before)."""

    witness: str
    size: int
    problem: ExpungeError | None


def cosign(controller: Controller, now: datetime) -> tuple[list[Cosigning], list[str]]:
    """Put the log's head before every witness; then the numbers of the certificates that could be issued.

    One witness that fails does not keep the others from being asked.
    """
    return cosign_by(post, controller, now)


def cosign_by(send: Post, controller: Controller, now: datetime) -> tuple[list[Cosigning], list[str]]:
    """`cosign` over another way of sending."""
    row = translog.head(controller, now)
    with controller.store.read() as unit:
        policy = translog.policy_in(unit, controller.home)
    answers = []
    for witness in policy.witnesses:
        if not witness.url:
            continue
        problem = None
        try:
            _ask(send, controller, witness, row, now)
        except ExpungeError as error:
            problem = error
        answers.append(Cosigning(witness.key.name, row.size, problem))
    return answers, certifying.issue_awaiting(controller, now)


def _ask(send: Post, controller: Controller, witness: Witness, row: CheckpointRow, now: datetime) -> None:
    with controller.store.read() as unit:
        old = unit.log.cosigned_size(witness.key.text)
    if old == row.size:
        return
    for _ in range(TRIES):
        with controller.store.read() as unit:
            proof = merkle.consistency_proof(unit.log.node, old, row.size)
        answer = send(f"{witness.url}/add-checkpoint", format_request(old, proof, row.body), MEDIA_TYPE)
        if answer.status != 409:
            break
        old = _size(witness, answer.body)
        if old > row.size:
            raise PeerIdentityError(
                f"The witness {witness.key.name} has seen {old} entries of this log, which has {row.size}.",
                "Another copy of this controller signs with its key, or the database is an older one. Find "
                "out which; do not go on with this one.",
            )
    if answer.status == 422:
        raise PeerIdentityError(
            f"The witness {witness.key.name} says that this log does not continue what it has seen.",
            "The log was rewritten, or two copies of this controller run: `expunge log check`.",
        )
    if answer.status != 200:
        said = answer.body[:200].decode("utf-8", "replace").strip()
        raise ProtocolError(
            f"The witness {witness.key.name} refused with status {answer.status}: {said}",
            "404: it does not know this log, 403: not this log's key (`expunge log head` prints it).",
        )
    _keep(controller, witness, row, answer.body, now)


def _size(witness: Witness, body: bytes) -> int:
    try:
        return parse_number(body[:32].decode("ascii", "replace").removesuffix("\n"))
    except DocumentError as error:
        raise ProtocolError(
            f"The witness {witness.key.name} does not say how many entries it has seen.", "Ask its operator."
        ) from error


def _keep(controller: Controller, witness: Witness, row: CheckpointRow, body: bytes, now: datetime) -> None:
    try:
        text = parse_checkpoint(row.body)[1].text
        lines = parse_signatures(body.decode("utf-8", "replace"))
        good = verified(Note(text, lines), [witness.key])
    except ExpungeError as error:
        raise ProtocolError(
            f"The answer of the witness {witness.key.name} cannot be used: {error.message}",
            "Ask its operator.",
        ) from error
    if not good:
        raise PeerIdentityError(
            f"The answer at {witness.url} is not signed by {witness.key.name}.",
            "Compare the key in log-policy.toml with the witness's own.",
        )
    if good[0].time > now.timestamp() + AHEAD:
        raise ProtocolError(
            f"The witness {witness.key.name} signs with a time that has not come yet.",
            "Put right its clock, or this one.",
        )
    line = next(one for one in lines if (one.name, one.key_id) == (witness.key.name, witness.key.key_id))
    with controller.store.write() as unit:
        unit.log.add_cosignature(
            CosignatureRow(
                size=row.size,
                witness=witness.key.text,
                body=f"{line.line}\n".encode(),
                received_at=timestamp(now),
            )
        )
