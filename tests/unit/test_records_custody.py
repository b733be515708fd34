"""Custody: events link, rules hold, and no event can be taken out, changed or slipped in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.errors import DocumentError, RefusedError, VerificationError
from expunge_agent.protocol import canonical
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.custody import (
    FIRST_PREVIOUS,
    MAX_EVENTS,
    RULES,
    Attachment,
    CustodyKind,
    Standing,
    check_chain,
    next_event,
    parse_custody_event,
)
from support.evidence import DISK, START, World, nonce

SUBJECT, MEDIUM = medium_of(DISK)
K = CustodyKind


def grow(chain: list[bytes], kind: CustodyKind, number: int = 0) -> None:
    chain.append(
        next_event(
            chain[-1] if chain else None,
            medium=MEDIUM,
            subject=SUBJECT,
            event=kind,
            actor="records officer",
            at=START + timedelta(seconds=len(chain)),
            nonce=nonce(number or len(chain) + 1),
        )
    )


def chain_of(*kinds: CustodyKind) -> list[bytes]:
    chain: list[bytes] = []
    for kind in kinds:
        grow(chain, kind)
    return chain


WHOLE = (
    K.REGISTERED, K.COLLECTED, K.HANDED_OVER, K.RECEIVED, K.SEALED, K.REQUESTED, K.WIPE_STARTED, K.WIPED,
    K.VERIFIED, K.APPROVED, K.HANDED_OVER, K.RECEIVED, K.RELEASED, K.CORRECTED,
)  # fmt: skip


def test_whole_life() -> None:
    events = check_chain(chain_of(*WHOLE))
    assert [event.seq for event in events] == list(range(1, len(WHOLE) + 1))
    assert events[0].previous == FIRST_PREVIOUS
    assert events[-1].standing is Standing.GONE
    assert events[9].standing is Standing.APPROVED is events[11].standing


def test_every_kind_has_a_rule() -> None:
    assert set(RULES) == set(CustodyKind)


def test_event_carries_what_it_was_given() -> None:
    body = next_event(
        None,
        medium=MEDIUM,
        subject=SUBJECT,
        event=K.REGISTERED,
        actor="records officer",
        counterparty="carrier",
        location="rack 4",
        seal_id="S-1",
        at=START,
        nonce=nonce(1),
        order="a" * 64,
        order_id="EX-1",
        receipt="b" * 64,
        attachments=[Attachment(name="photo.jpg", sha256="c" * 64)],
        note="shelf label torn",
    )
    event = parse_custody_event(body)
    assert canonical.dumps(event) == body
    assert (event.counterparty, event.location, event.seal_id, event.note) == (
        "carrier", "rack 4", "S-1", "shelf label torn",
    )  # fmt: skip
    assert (event.order, event.order_id, event.receipt) == ("a" * 64, "EX-1", "b" * 64)
    assert event.attachments == [Attachment(name="photo.jpg", sha256="c" * 64)]
    assert event.at == "2026-03-02T09:30:00Z"


@pytest.mark.parametrize(
    "kinds",
    [
        (K.WIPED,),
        (K.REGISTERED, K.REGISTERED),
        (K.REGISTERED, K.APPROVED),
        (K.REGISTERED, K.REQUESTED, K.WIPED, K.APPROVED),
        (K.REGISTERED, K.REQUESTED, K.WIPE_FAILED, K.VERIFIED),
        (K.REGISTERED, K.REQUESTED, K.WIPED, K.VERIFIED, K.RELEASED),
        (K.REGISTERED, K.REQUESTED, K.WIPED, K.VERIFIED, K.APPROVED, K.REQUESTED, K.RELEASED),
        (K.REGISTERED, K.DESTROYED, K.REQUESTED),
        (K.REGISTERED, K.DESTROYED, K.RECEIVED),
    ],
)
def test_what_may_not_follow(kinds: tuple[CustodyKind, ...]) -> None:
    with pytest.raises(RefusedError) as caught:
        chain_of(*kinds)
    assert caught.value.remedy


def test_an_agents_report_is_never_kept_out() -> None:
    """A receipt may come late, even after the medium is gone; it does not bring the medium back."""
    chain = chain_of(K.REGISTERED, K.DESTROYED, K.WIPED, K.REFUSED, K.INTERRUPTED, K.WIPE_FAILED)
    assert check_chain(chain)[-1].standing is Standing.GONE


@given(st.lists(st.sampled_from(CustodyKind), max_size=25))
def test_what_may_be_written_can_be_checked(kinds: list[CustodyKind]) -> None:
    chain: list[bytes] = []
    for kind in kinds:
        try:
            grow(chain, kind)
        except RefusedError:
            continue
    assert len(check_chain(chain)) == len(chain)


@given(st.data())
def test_no_event_can_be_missed_moved_or_doubled(data: st.DataObject) -> None:
    chain = chain_of(*WHOLE)
    at = data.draw(st.integers(0, len(chain) - 2))
    for broken in (
        chain[:at] + chain[at + 1 :],
        [*chain[: at + 1], chain[at], *chain[at + 1 :]],
        [*chain[:at], chain[at + 1], chain[at], *chain[at + 2 :]],
    ):
        with pytest.raises(VerificationError, match="Custody event"):
            check_chain(broken)


@given(st.data())
def test_no_bit_can_change(data: st.DataObject) -> None:
    """Also in the last event, where only its own form and standing can tell (its signature is not looked at)."""
    chain = chain_of(*WHOLE)
    number = data.draw(st.integers(0, len(chain) - 2))
    position = data.draw(st.integers(0, len(chain[number]) - 1))
    changed = bytearray(chain[number])
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationError):
        check_chain([*chain[:number], bytes(changed), *chain[number + 1 :]])


def test_the_number_of_the_broken_event_is_named() -> None:
    chain = chain_of(*WHOLE)
    event = parse_custody_event(chain[4])
    chain[4] = canonical.dumps(replace(event, note="edited"))
    with pytest.raises(VerificationError, match=r"event 6 .* digest of the event before") as caught:
        check_chain(chain)
    assert caught.value.exit_code == 9


def test_a_wrong_standing_is_found() -> None:
    chain = chain_of(K.REGISTERED, K.REQUESTED)
    chain[1] = canonical.dumps(replace(parse_custody_event(chain[1]), standing=Standing.APPROVED))
    with pytest.raises(VerificationError, match=r"event 2 .* says approved"):
        check_chain(chain)


def test_events_of_two_media_do_not_mix() -> None:
    chain = chain_of(K.REGISTERED)
    with pytest.raises(RefusedError, match="another medium"):
        next_event(
            chain[0],
            medium="0" * 64,
            subject=SUBJECT,
            event=K.COLLECTED,
            actor="x",
            at=START,
            nonce=nonce(1),
        )
    other = canonical.dumps(
        replace(
            parse_custody_event(chain_of(K.REGISTERED, K.COLLECTED)[1]),
            medium="0" * 64,
            previous=canonical.sha256_hex(chain[0]),
        )
    )
    with pytest.raises(VerificationError, match=r"event 2 .* another medium"):
        check_chain([chain[0], other])


@pytest.mark.parametrize(
    "change",
    [
        {"actor": ""},
        {"nonce": "abc"},
        {"medium": "XY"},
        {"order": "12"},
        {"note": "n" * 5000},
        {"subject": "\ud800"},
    ],
)
def test_values_that_do_not_fit(change: dict[str, str]) -> None:
    values = {"medium": MEDIUM, "subject": SUBJECT, "actor": "x", "nonce": nonce(1)} | change
    with pytest.raises((DocumentError, ValueError)):
        next_event(None, event=K.REGISTERED, at=START, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[" * 100_000, b'{"a":1,"a":2}', b"\xff"])
def test_garbage_is_named_by_its_number(data: bytes) -> None:
    with pytest.raises(VerificationError, match="Custody event 2 "):
        check_chain([chain_of(K.REGISTERED)[0], data])


def test_a_chain_cannot_outgrow_its_numbers() -> None:
    event = parse_custody_event(chain_of(K.REGISTERED)[0])
    full = canonical.dumps(replace(event, seq=MAX_EVENTS))
    with pytest.raises(DocumentError):
        grow([full], K.COLLECTED)


def test_the_world_of_the_tests_is_itself_in_order() -> None:
    world = World()
    parts = world.parts()
    assert [event.event for event in check_chain([event.body for event in parts.custody])] == [
        K.REGISTERED,
        K.REQUESTED,
        K.WIPE_STARTED,
        K.WIPED,
    ]
