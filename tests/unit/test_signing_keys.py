"""Keys that others hold: chosen once, tried before a wipe begins, and never the end of a receipt."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from expunge_agent import signing
from expunge_agent.errors import DocumentError, SigningKeyError, UsageError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.receipt import parse_statement
from expunge_agent.signers.settings import FileKey, SshAgentKey, parse_wish
from expunge_agent.wipe import run_order
from support.agents import Bench, surroundings
from support.held_keys import SmallAgent


@pytest.fixture
def agent() -> Iterator[SmallAgent]:
    with tempfile.TemporaryDirectory(prefix="agent") as folder:  # a socket's path is short (unix(7))
        made = SmallAgent(Path(folder) / "s")
        yield made
        if made.path.exists():
            made.close()


@pytest.fixture
def bench(tmp_path: Path, agent: SmallAgent) -> Bench:
    made = Bench.make(tmp_path / "state")
    made.state.signing_key.unlink()
    signing.first_key(made.state.root, parse_wish(f"ssh-agent:{agent.path}"))
    return made


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"RECORD 4711 " * 50_000)
    return path


def test_the_key_is_pinned_at_first_use(bench: Bench, agent: SmallAgent) -> None:
    held = signing.held_settings(bench.state.root)
    assert held == SshAgentKey(socket=str(agent.path), public=agent.signer.public_line)
    assert (bench.state.root / "signing_key.pub").read_text().strip() == agent.signer.public_line
    assert not bench.state.signing_key.exists(), "no key of its own beside it"
    signature = sshsig.sign(signing.signer_of(bench.state.root), sshsig.RECEIPT_NAMESPACE, b"x")
    assert sshsig.verify(signature, sshsig.RECEIPT_NAMESPACE, b"x") == agent.signer.public_line


def test_asking_for_the_same_again_changes_nothing_and_for_another_is_refused(
    bench: Bench, agent: SmallAgent
) -> None:
    before = (bench.state.root / "signing_key.json").read_bytes()
    signing.first_key(bench.state.root, parse_wish(f"ssh-agent:{agent.path}"))
    signing.first_key(bench.state.root, None)
    with pytest.raises(UsageError, match="another signing key"):
        signing.first_key(bench.state.root, parse_wish("file"))
    assert (bench.state.root / "signing_key.json").read_bytes() == before


def test_a_whole_wipe_is_signed_by_the_agent(bench: Bench, image: Path, agent: SmallAgent) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    assert sshsig.verify(sealed.signature, sshsig.RECEIPT_NAMESPACE, sealed.body) == agent.signer.public_line
    receipt = parse_statement(sealed.body).predicate
    assert (receipt.outcome, receipt.agent.key) == (
        Outcome.SANITIZED,
        sshsig.fingerprint(agent.signer.public_line),
    )


def test_nothing_is_begun_while_the_key_does_not_sign(bench: Bench, image: Path, agent: SmallAgent) -> None:
    before = image.read_bytes()
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    agent.signs = 0
    with pytest.raises(SigningKeyError, match="did not sign"):
        run_order(bench.state, digest, surroundings())
    assert image.read_bytes() == before
    agent.close()
    with pytest.raises(SigningKeyError, match="cannot be asked"):
        run_order(bench.state, digest, surroundings())
    assert image.read_bytes() == before
    assert bench.state.unfinished() == [digest], "the order waits"


def test_a_key_that_goes_away_during_the_wipe_does_not_lose_the_receipt(
    bench: Bench, image: Path, agent: SmallAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image.read_bytes()
    monkeypatch.setattr(signing, "PAUSES", (0.01, 0.01))
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    agent.signs = 1  # the probe
    with pytest.raises(SigningKeyError):
        run_order(bench.state, digest, surroundings())
    assert image.read_bytes() != before
    wiped, journal = (
        image.read_bytes(),
        (bench.state.order_folder(digest) / "journal.jsonl").read_bytes(),
    )
    with pytest.raises(SigningKeyError):  # and again before anything is done
        run_order(bench.state, digest, surroundings())
    assert (bench.state.order_folder(digest) / "journal.jsonl").read_bytes() == journal
    agent.signs = None
    sealed = run_order(bench.state, digest, surroundings())
    assert sealed is not None
    receipt = parse_statement(sealed.body).predicate
    assert (receipt.outcome, int(receipt.counter)) == (Outcome.SANITIZED, 1)
    assert image.read_bytes() == wiped, "it was not wiped twice"


def test_a_key_that_is_away_for_a_moment_is_waited_for(
    bench: Bench, image: Path, agent: SmallAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = bench.hand_in(*bench.sign(bench.order(image)))
    monkeypatch.setattr(signing, "PAUSES", (0.01, 0.01))
    around = surroundings()
    agent.signs = 1

    def come_back(_seconds: float) -> bool:
        agent.signs = None
        return False

    monkeypatch.setattr(around.pause, "wait", come_back)
    assert run_order(bench.state, digest, around) is not None


def test_a_signature_that_is_not_of_these_bytes_is_never_used(bench: Bench, agent: SmallAgent) -> None:
    agent.lies = True
    with pytest.raises(SigningKeyError, match="does not sign: The signature is not valid"):
        signing.probe(signing.signer_of(bench.state.root))


def test_an_agent_with_another_key_is_not_taken(bench: Bench, tmp_path: Path, agent: SmallAgent) -> None:
    path = agent.path
    agent.close()
    other = SmallAgent(path)
    with pytest.raises(SigningKeyError, match="did not sign with SHA256"):
        signing.probe(signing.signer_of(bench.state.root))
    with pytest.raises(SigningKeyError, match="0 keys that fit; it offers SHA256"):
        signing.new_key(bench.state.root, parse_wish(f"ssh-agent:{path}#SHA256:{'A' * 43}"))
    other.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-agent",
        "ssh-agent:relative",
        "tpm2:",
        "usb:1",
        "pkcs11:token=x",
        "pkcs11:token=x?module-path=relative&pin-source=/p",
        "pkcs11:token=x;slot-id=3?module-path=/m&pin-source=/p",
    ],
)
def test_what_names_no_key_is_explained(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_wish(text)
    assert caught.value.remedy


def test_a_pkcs11_name_is_read_as_rfc_7512_writes_it() -> None:
    wish = parse_wish("pkcs11:token=my%20token;object=k?module-path=/m.so&pin-source=file:/etc/pin")
    assert (wish.token, wish.label, wish.place, wish.pin) == ("my token", "k", "/m.so", "/etc/pin")


@pytest.mark.parametrize(
    "text",
    [
        '{"kind":"usb"}',
        '{"kind":"file","name":"../dial_key"}',
        '{"kind":"tpm2","tcti":"x","public":"ssh-ed25519 AAAA","area":"00","wrapped":"zz"}',
        "{",
    ],
)
def test_settings_that_were_edited_are_explained(bench: Bench, text: str) -> None:
    (bench.state.root / "signing_key.json").write_text(text)
    with pytest.raises(DocumentError, match=r"signing_key\.json"):
        signing.signer_of(bench.state.root)


def test_a_file_key_may_have_another_name(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path / "other")
    fresh = signing.new_key(bench.state.root, parse_wish("file"))
    assert isinstance(fresh, FileKey)
    before = signing.signer_of(bench.state.root).public_line
    signing.keep(bench.state.root, fresh)
    after = signing.signer_of(bench.state.root).public_line
    assert after != before
    assert (bench.state.root / "signing_key.pub").read_text().strip() == after
