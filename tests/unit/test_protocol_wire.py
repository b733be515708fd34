"""Frames: whole or refused, however the bytes come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expunge_agent.errors import DocumentError, ProtocolError
from expunge_agent.protocol import wire
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.event import Event, EventKind
from expunge_agent.protocol.identity import BlockIdentity, FileIdentity

MESSAGES: list[wire.Message] = [
    wire.Hello(version=1, role="agent", software="test", machine_id="ab" * 16),
    wire.SubmitOrder(document=wire.Document.of(b"{}", b"signature")),
    wire.OrderState(order="ab" * 32, state="running"),
    wire.Progress(
        event=Event(
            kind=EventKind.PROGRESS,
            order="ab" * 32,
            time="2026-11-22T12:00:00Z",
            done=U64(2**63),
            total=U64(2**64 - 1),
        )
    ),
    wire.ReceiptMessage(order="ab" * 32, document=wire.Document.of(b"\x00\xff", b"signature")),
    wire.Acknowledge(receipt="cd" * 32),
    wire.InventoryRequest(paths=["/tmp/ü"]),
    wire.Inventory(
        items=[
            wire.InventoryItem(
                identity=identity,
                path="/x",
                type="file",
                firmware="",
                logical_sector=-1,
                physical_sector=-1,
                blocked=[],
                notes=[],
            )
            for identity in (
                FileIdentity(path="/x", device="8:1", inode=U64(2**63), size=U64(1)),
                BlockIdentity(bus="ata", model="m", serial="s", wwn="", size=U64(2**60)),
            )
        ],
        problems=["gone"],
    ),
    wire.Ping(),
    wire.Pong(),
    wire.Failure(code="x", message="y"),
    wire.Bye(),
    wire.Enrolled(name="web01"),
    wire.EnrolRequest(document=wire.Document.of(b"{}", b"s")),
]


@given(st.lists(st.integers(1, 4000), max_size=30))
def test_messages_arrive_whole_whatever_the_pieces(cuts: list[int]) -> None:
    stream = b"".join(wire.encode(message) for message in MESSAGES)
    decoder, received, at = wire.FrameDecoder(), [], 0
    for cut in [*cuts, len(stream)]:
        received += decoder.feed(stream[at : at + cut])
        at = min(len(stream), at + cut)
    assert received == MESSAGES


@pytest.mark.parametrize(
    "frame",
    [
        b"{}",
        b"[]",
        b"null",
        b"hello",
        b'{"type":"nobody"}',
        b'{"type":"ping","more":1}',
        b'{"type":"ack"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_message_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.FrameDecoder().feed(frame + b"\n")


def test_a_frame_without_end_is_refused_before_it_is_kept() -> None:
    decoder = wire.FrameDecoder()
    with pytest.raises(ProtocolError, match="longer"):
        for _ in range(100):
            decoder.feed(b"x" * (1 << 20))
    assert len(decoder._rest) == 0


def test_what_is_too_long_is_not_sent_either() -> None:
    with pytest.raises(ProtocolError):
        wire.encode(wire.InventoryRequest(paths=["x" * 1000] * (wire.MAX_FRAME // 1000)))


@pytest.mark.parametrize("hello", [{"version": 2}, {"role": "controller"}])
def test_a_hello_of_another_kind_is_refused(hello: dict[str, object]) -> None:
    fields: dict[str, object] = {"version": 1, "role": "agent", "software": "test", **hello}
    with pytest.raises(ProtocolError):
        wire.check_hello(wire.Hello(**fields), "agent")  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        wire.check_hello(wire.Ping(), "agent")


def test_a_damaged_document_is_noticed() -> None:
    with pytest.raises(DocumentError):
        wire.Document(body="not base64!", signature="s").bytes()
