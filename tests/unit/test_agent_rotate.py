"""A machine changes its signing key: both sign, the controller hears of it before any receipt, nothing waits behind."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from expunge_agent import signing
from expunge_agent.errors import EnrolmentError, RefusedError, SigningKeyError, UsageError
from expunge_agent.outbox import Outbox
from expunge_agent.protocol import canonical, sshsig, wire
from expunge_agent.protocol.enrolment import EnrolmentToken
from expunge_agent.protocol.rotation import KeyRotation, grant_of
from expunge_agent.rotate import rotate
from expunge_agent.serve import Conversation
from expunge_agent.signers.settings import parse_wish
from expunge_agent.wipe import run_order
from support.agents import Bench, surroundings
from support.held_keys import SmallAgent
from support.logs import fresh_signer

SECRET = "5e" * 16
AT = "2026-11-22T12:00:00Z"
FILE = parse_wish("file")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"RECORD 4711 " * 5000)
    return path


def token(name: str = "test", order_key: str = "") -> EnrolmentToken:
    line = order_key or fresh_signer().public_line
    return EnrolmentToken(controller=name, host="", port=0, host_key="", order_key=line, secret=SECRET)


def wipe(bench: Bench, image: Path) -> str:
    """Carry out an order; the line of the key that signed its receipt."""
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    return sshsig.verify(sealed.signature, sshsig.RECEIPT_NAMESPACE, sealed.body)


def delivered(bench: Bench) -> None:
    outbox = Outbox(bench.state.root)
    for number in outbox.pending():
        outbox.acknowledge(outbox.get(number).digest)


class Peer:
    """A controller that listens to a conversation and says hello."""

    def __init__(self) -> None:
        hello = wire.Hello(version=wire.PROTOCOL_VERSION, role="controller", software="x", name="test")
        self._says = [wire.encode(hello), b"", b""]
        self.heard: list[wire.Message] = []
        self._decoder = wire.FrameDecoder()

    def receive(self, timeout: float) -> bytes | None:
        return self._says.pop(0)

    def send(self, data: bytes) -> None:
        self.heard += self._decoder.feed(data)


def talk(bench: Bench) -> list[wire.Message]:
    peer = Peer()
    Conversation(bench.state, peer).run()
    return peer.heard


def test_both_keys_sign_and_the_old_one_goes(bench: Bench, image: Path) -> None:
    old = wipe(bench, image)
    delivered(bench)
    bench.controller = fresh_signer()
    line = rotate(bench.state.root, token(order_key=bench.controller.public_line), AT, FILE)
    assert line != old == sshsig.normal_line(old)
    assert not bench.state.signing_key.exists()
    body = (bench.state.root / "rotation.json").read_bytes()
    document = canonical.loads(body, KeyRotation)
    assert (document.old_key, document.new_key, document.machine_id) == (old, line, bench.state.machine_id)
    for ending, due in ((".sig", line), (".old.sig", old)):
        signature = (bench.state.root / f"rotation.json{ending}").read_bytes()
        assert sshsig.verify(signature, sshsig.ROTATION_NAMESPACE, body) == due
    assert document.grant == grant_of(document, canonical.sha256_hex(SECRET.encode()))
    assert SECRET.encode() not in body, "whoever may read the folder does not learn the token"
    # The controller's key of the token is pinned, and the next receipt is the new key's.
    assert wipe(bench, image) == line


def test_the_controller_hears_of_it_before_the_receipts(bench: Bench, image: Path) -> None:
    line = rotate(bench.state.root, token(order_key=bench.controller.public_line), AT, FILE)
    assert wipe(bench, image) == line
    for _ in range(2):  # at every call: only the first counts
        kinds = [type(message) for message in talk(bench)]
        assert kinds[:3] == [wire.Hello, wire.RotateKey, wire.ReceiptMessage]
        assert kinds.count(wire.RotateKey) == 1


def test_nothing_may_wait_that_the_old_key_signed(bench: Bench, image: Path) -> None:
    before = signing.signer_of(bench.state.root).public_line
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    with pytest.raises(RefusedError, match="Orders were handed in"):
        rotate(bench.state.root, token(), AT, FILE)
    run_order(bench.state, digest, surroundings())
    with pytest.raises(RefusedError, match="1 receipts signed with the present key wait"):
        rotate(bench.state.root, token(), AT, FILE)
    assert signing.signer_of(bench.state.root).public_line == before
    assert not (bench.state.root / "rotation.json").exists()


def test_a_token_of_another_controller_changes_nothing(bench: Bench) -> None:
    with pytest.raises(EnrolmentError, match="not enrolled with"):
        rotate(bench.state.root, token("other"), AT, FILE)


def test_a_key_that_is_lost(bench: Bench) -> None:
    bench.state.signing_key.unlink()
    with pytest.raises(SigningKeyError) as caught:
        rotate(bench.state.root, token(), AT, FILE)
    assert "--lost" in caught.value.remedy
    assert not list(bench.state.root.glob("signing_key.????????")), "no key is left that nobody uses"
    line = rotate(bench.state.root, token(), AT, FILE, lost=True)
    assert signing.signer_of(bench.state.root).public_line == line
    assert (bench.state.root / "rotation.json.old.sig").read_bytes() == b""
    assert isinstance(talk(bench)[1], wire.RotateKey)


def test_from_a_file_into_an_ssh_agent_and_back(bench: Bench, image: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="agent") as folder:
        agent = SmallAgent(Path(folder) / "s")
        pinned = token(order_key=bench.controller.public_line)
        wish = parse_wish(f"ssh-agent:{agent.path}")
        assert rotate(bench.state.root, pinned, AT, wish) == agent.signer.public_line
        assert wipe(bench, image) == agent.signer.public_line
        delivered(bench)
        with pytest.raises(UsageError, match="present key"):
            rotate(bench.state.root, pinned, AT, wish)
        agent.signs = 0
        with pytest.raises(SigningKeyError, match="would not sign its successor"):
            rotate(bench.state.root, pinned, AT, FILE)
        assert signing.signer_of(bench.state.root).public_line == agent.signer.public_line
        agent.signs = None
        line = rotate(bench.state.root, pinned, AT, FILE)
        assert wipe(bench, image) == line
        agent.close()
