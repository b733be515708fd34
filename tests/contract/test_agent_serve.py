"""``expunge-agent serve`` as sshd calls it: the protocol over pipes, with peers that behave and peers that do not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from expunge_agent.protocol import canonical, wire
from expunge_agent.protocol.base import Outcome, timestamp
from expunge_agent.protocol.receipt import parse_statement
from support.agents import Bench


class Peer:
    """The controller's end of the pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.decoder = wire.FrameDecoder()
        self.waiting: list[wire.Message] = []

    def send(self, message: wire.Message) -> None:
        self.raw(wire.encode(message))

    def raw(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def next(self, kind: type[wire.Message]) -> wire.Message:  # type: ignore[valid-type]
        """The next message of this kind; others are passed over."""
        assert self.process.stdout is not None
        while True:
            while self.waiting:
                message = self.waiting.pop(0)
                if isinstance(message, kind):
                    return message
            data = self.process.stdout.read1(65536)  # type: ignore[attr-defined]
            assert data, f"the agent closed the pipe before a {kind.__name__}"
            self.waiting += self.decoder.feed(data)


@contextmanager
def serving(bench: Bench, *options: str) -> Iterator[Peer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "expunge_agent", "--state", str(bench.state.root), "serve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Peer(process)
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"RECORD 4711 " * 400_000)
    return path


def current(bench: Bench, image: Path) -> tuple[bytes, bytes]:
    now = datetime.now(UTC)
    return bench.sign(
        bench.order(image, not_before=timestamp(now), expires=timestamp(now + timedelta(minutes=5)))
    )


HELLO = wire.Hello(version=wire.PROTOCOL_VERSION, role="controller", software="test")


def test_order_events_receipt_acknowledgement(bench: Bench, image: Path) -> None:
    body, signature = current(bench, image)
    digest = canonical.sha256_hex(body)
    with serving(bench, "--run-orders") as peer:
        hello = peer.next(wire.Hello)
        assert wire.check_hello(hello, "agent").machine_id == bench.state.machine_id
        peer.send(HELLO)
        peer.send(wire.SubmitOrder(document=wire.Document.of(body, signature)))
        assert peer.next(wire.OrderState).order == digest
        assert peer.next(wire.Progress).event.order == digest
        message = peer.next(wire.ReceiptMessage)
        received, _ = message.document.bytes()
        assert parse_statement(received).predicate.outcome is Outcome.SANITIZED
        peer.send(wire.Ping())
        peer.next(wire.Pong)
    assert list((bench.state.root / "outbox").iterdir()), "not acknowledged, so it must still wait"
    with serving(bench) as peer:
        peer.send(HELLO)
        again, _ = peer.next(wire.ReceiptMessage).document.bytes()
        assert again == received
        peer.send(wire.Acknowledge(receipt=canonical.sha256_hex(again)))
        peer.send(wire.SubmitOrder(document=wire.Document.of(body, signature)))
        assert peer.next(wire.OrderState).state == "finished"
        once_more, _ = peer.next(wire.ReceiptMessage).document.bytes()
        assert once_more == received
    assert not list((bench.state.root / "outbox").iterdir())


def test_without_run_orders_the_order_waits_in_the_spool(bench: Bench, image: Path) -> None:
    before = image.read_bytes()
    body, signature = current(bench, image)
    with serving(bench) as peer:
        peer.send(HELLO)
        peer.send(wire.SubmitOrder(document=wire.Document.of(body, signature)))
        assert peer.next(wire.OrderState).state == "spooled"
    assert bench.state.unfinished() == [canonical.sha256_hex(body)]
    assert image.read_bytes() == before


def test_inventory(bench: Bench, image: Path) -> None:
    with serving(bench) as peer:
        peer.send(HELLO)
        peer.send(wire.InventoryRequest(paths=[str(image), "/nothing/here", str(bench.state.signing_key)]))
        answer = peer.next(wire.Inventory)
    found = {item.path: item for item in answer.items}
    assert found[str(image)].blocked == []
    assert "own folder" in found[str(bench.state.signing_key)].blocked[0]
    assert len(answer.problems) == 1


@pytest.mark.parametrize(
    "frame",
    [b"hello\n", b"{}\n", b'{"type":"enrolled"}\n', b"\xff\xff\n", b'{"type":"ping","type":"ping"}\n'],
)
def test_a_broken_peer_gets_an_error_and_the_end(bench: Bench, frame: bytes) -> None:
    with serving(bench) as peer:
        peer.raw(frame)
        assert peer.next(wire.Failure).code == "protocol"
        assert peer.process.wait(10) == 16


def test_a_frame_of_100_mb_costs_the_connection_and_little_memory(bench: Bench) -> None:
    with serving(bench) as peer:
        peer.next(wire.Hello)
        with pytest.raises(BrokenPipeError):
            for _ in range(100):
                peer.raw(b"x" * 1_000_000)
        assert peer.process.wait(10) == 16


def test_a_message_only_agents_send_is_refused(bench: Bench) -> None:
    with serving(bench) as peer:
        peer.send(HELLO)
        peer.send(wire.OrderState(order="ab" * 32, state="running"))
        assert peer.next(wire.Failure).code == "protocol"


def test_a_controller_of_another_version_is_refused(bench: Bench) -> None:
    with serving(bench) as peer:
        peer.send(wire.Hello(version=99, role="controller", software="future"))
        assert "99" in peer.next(wire.Failure).message


def test_an_unsigned_order_ends_in_a_signed_refusal(bench: Bench, image: Path) -> None:
    body, _ = current(bench, image)
    with serving(bench, "--run-orders") as peer:
        peer.send(HELLO)
        peer.send(wire.SubmitOrder(document=wire.Document.of(body, b"no signature")))
        received, _ = peer.next(wire.ReceiptMessage).document.bytes()
    assert parse_statement(received).predicate.outcome is Outcome.REFUSED


def test_the_starter_finishes_orders_found_at_start(bench: Bench, image: Path) -> None:
    body, signature = current(bench, image)
    bench.hand_in(body, signature)
    with serving(bench, "--run-orders") as peer:
        peer.send(HELLO)
        received, _ = peer.next(wire.ReceiptMessage).document.bytes()
        assert parse_statement(received).predicate.outcome is Outcome.SANITIZED
