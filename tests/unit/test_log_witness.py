"""The witness: cosigns what only grew, refuses everything else with the status of the specification, and remembers."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from expunge_agent.errors import (
    DocumentError,
    NotFoundError,
    PeerIdentityError,
    ProtocolError,
    StateError,
    TransportError,
    UsageError,
)
from expunge_controller import bundling, cosigner, key_history, log_audit, translog, witness, witness_client
from expunge_controller.bundle import bundle_files
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.posting import HttpAnswer, post
from expunge_controller.records import log_check, merkle
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.checkpoint import Checkpoint, parse_checkpoint
from expunge_controller.records.findings import Status, failures
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.records.log_policy import LogPolicy, Witness
from expunge_controller.records.note import (
    COSIGNATURE,
    ED25519,
    Note,
    format_note,
    key_of,
    parse_key,
    parse_note,
    parse_signatures,
    sign,
    verified,
)
from expunge_controller.records.witnessing import MAX_REQUEST, format_request
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.witness import Reply, WitnessState
from expunge_controller.witness_http import WitnessServer
from support.controllers import FakeAgent, enrolled, eventually, make_controller, now, ordered, quiet_log
from support.logs import LogWorld, fresh_signer

TIME = 1_750_000_000


class Asked:
    """A log in memory beside a witness in a folder."""

    def __init__(self, folder: Path) -> None:
        self.log = LogWorld()
        self.tree = grown(20)
        self.fork = grown(20, b" forked")
        self.folder = folder
        self.key = witness.make(folder, "audit.example/w1", [self.log.key.text])
        self.clock = TIME

    @property
    def state(self) -> WitnessState:
        """Opened anew each time: only what is on the disk counts."""
        return WitnessState(self.folder, lambda: self.clock)

    def ask(
        self, old: int, size: int, tree: merkle.MemoryTree | None = None, proof: int | None = None
    ) -> Reply:
        """Put the checkpoint of `size` entries before it, with the proof from `proof` (or `old`)."""
        tree = tree or self.tree
        hashes = (
            merkle.consistency_proof(tree.node, old if proof is None else proof, size) if old <= size else []
        )
        return self.state.add_checkpoint(
            format_request(old, hashes, self.log.checkpoint(tree, size, witnessed=False))
        )


def grown(size: int, other: bytes = b"") -> merkle.MemoryTree:
    tree = merkle.MemoryTree()
    for number in range(size):
        tree.append(merkle.leaf_hash(b"%d" % number + (other if number >= 8 else b"")))
    return tree


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path / "witness")


def test_it_cosigns_what_only_grew(asked: Asked) -> None:
    for old, size in ((0, 5), (5, 8), (8, 8), (8, 20)):
        reply = asked.ask(old, size)
        assert reply.status == 200
        text = parse_note(asked.log.checkpoint(asked.tree, size)).text
        (signed,) = verified(Note(text, parse_signatures(reply.body.decode())), [asked.key])
        assert (signed.key, signed.time) == (asked.key, TIME)
    kept = asked.state.newest(hashlib.sha256(asked.log.key.name.encode()).hexdigest())
    assert kept is not None
    checkpoint, note = parse_checkpoint(kept)
    assert checkpoint.size == 20
    assert {one.key for one in verified(note, [asked.key, asked.log.key])} == {asked.key, asked.log.key}
    assert asked.state.sizes() == {asked.log.key.name: 20}


def test_it_refuses_a_history_that_shrank_or_was_rewritten(asked: Asked) -> None:
    assert asked.ask(0, 12).status == 200
    shrunk = asked.ask(0, 7)
    assert (shrunk.status, shrunk.body, shrunk.kind) == (409, b"12\n", "text/x.tlog.size")
    assert asked.ask(7, 12).status == 409
    assert asked.ask(12, 7).status == 400
    assert asked.ask(12, 12, asked.fork).status == 422
    assert asked.ask(12, 20, asked.fork).status == 422
    assert asked.ask(12, 20, proof=11).status == 422
    assert asked.state.sizes() == {asked.log.key.name: 12}, "none of it changed what was seen"
    assert len(list((asked.folder / "refused").iterdir())) == 3, "what the log signed is kept"
    assert asked.ask(12, 20).status == 200


def test_a_proof_from_nothing_is_empty(asked: Asked) -> None:
    """size1 = 0: the slip that lets a log begin anew."""
    checkpoint = asked.log.checkpoint(asked.tree, 5, witnessed=False)
    assert asked.state.add_checkpoint(format_request(0, [merkle.EMPTY_ROOT], checkpoint)).status == 422
    assert asked.ask(0, 0).status == 200
    assert asked.ask(0, 5).status == 200
    assert asked.ask(0, 6, asked.fork).status == 409


def test_an_empty_tree_has_one_root(asked: Asked) -> None:
    text = Checkpoint(asked.log.key.name, 0, b"\1" * 32).text
    note = format_note(Note(text, (sign(asked.log.signer, asked.log.key, text),)))
    assert asked.state.add_checkpoint(format_request(0, [], note)).status == 422


def test_it_knows_its_logs_by_their_keys(asked: Asked) -> None:
    stranger = LogWorld()
    checkpoint = stranger.checkpoint(asked.tree, 5, witnessed=False)
    assert (
        asked.state.add_checkpoint(format_request(0, [], checkpoint)).status == 403
    )  # the name, another key
    other = key_of(stranger.signer, "example.com/other", ED25519)
    text = Checkpoint(other.name, 1, b"\1" * 32).text
    note = format_note(Note(text, (sign(stranger.signer, other, text),)))
    assert asked.state.add_checkpoint(format_request(0, [], note)).status == 404
    note = asked.log.checkpoint(asked.tree, 5, witnessed=False)
    damaged = note.replace(b"\n5\n", b"\n6\n")
    assert asked.state.add_checkpoint(format_request(0, [], damaged)).status == 403
    witness.add_log(asked.folder, other.text)
    assert other.name in asked.state.logs


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"new 0\n\n",
        b"old 00\n\nx",
        b"old 0\nAAAA\n\nx",
        b"\xff\xfe",
        b"old 99999999999999999999\n\n",
    ],
)
def test_what_is_no_request(asked: Asked, body: bytes) -> None:
    assert asked.state.add_checkpoint(body).status == 400
    note = asked.log.checkpoint(asked.tree, 5, witnessed=False)
    assert asked.state.add_checkpoint(body.rstrip(b"\n") + b"\n" + note).status == 400
    many = format_request(0, [merkle.EMPTY_ROOT] * 64, note)
    assert asked.state.add_checkpoint(many).status == 400


def test_its_times_never_run_back(asked: Asked) -> None:
    asked.ask(0, 5)
    asked.clock = TIME - 1000
    reply = asked.ask(5, 6)
    text = parse_note(asked.log.checkpoint(asked.tree, 6)).text
    assert verified(Note(text, parse_signatures(reply.body.decode())), [asked.key])[0].time == TIME


def test_a_damaged_memory_stops_it(asked: Asked) -> None:
    asked.ask(0, 12)
    (path,) = (asked.folder / "logs").glob("*/checkpoint")
    good = path.read_bytes()
    for damage in (b"", good.replace(b"12", b"11"), good[:-20]):
        path.write_bytes(damage)
        with pytest.raises(StateError, match="damaged"):
            asked.ask(12, 20)
    path.write_bytes(good)
    assert asked.ask(12, 20).status == 200


def test_making_a_witness(tmp_path: Path, asked: Asked) -> None:
    with pytest.raises(UsageError, match="already"):
        witness.make(asked.folder, "again", [])
    with pytest.raises(DocumentError, match="cannot name a key"):
        witness.make(tmp_path / "two", "two words", [])
    with pytest.raises(DocumentError, match="not the key of a log"):
        witness.make(tmp_path / "three", "w3", [asked.key.text])
    with pytest.raises(NotFoundError, match="no witness"):
        WitnessState(tmp_path / "none", lambda: 0)
    (asked.folder / "witness.toml").write_text("name = 3")
    with pytest.raises(StateError, match="not right"):
        assert asked.state


@pytest.fixture
def server(asked: Asked) -> Iterator[WitnessServer]:
    made = WitnessServer(asked.state, "127.0.0.1", 0, quiet_log())
    made.start()
    yield made
    made.stop()


def request(
    server: WitnessServer, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes]:
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=5)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    read = answer.read()
    connection.close()
    return answer.status, read


def test_over_http(asked: Asked, server: WitnessServer) -> None:
    note = asked.log.checkpoint(asked.tree, 5, witnessed=False)
    status, line = request(server, "POST", "/add-checkpoint", format_request(0, [], note))
    assert (status, line[:4]) == (200, "— ".encode())
    place = "/" + hashlib.sha256(asked.log.key.name.encode()).hexdigest() + "/checkpoint"
    status, kept = request(server, "GET", place)
    assert status == 200
    assert kept.endswith(line)
    assert request(server, "GET", "/" + "0" * 64 + "/checkpoint")[0] == 404
    assert request(server, "GET", "/../../etc/passwd")[0] == 404
    assert request(server, "POST", "/elsewhere", b"x")[0] == 404
    assert request(server, "POST", "/add-checkpoint", b"x" * (MAX_REQUEST + 1))[0] == 413
    assert request(server, "POST", "/add-checkpoint", **{"Transfer-Encoding": "chunked"})[0] == 411
    assert request(server, "PUT", "/add-checkpoint", b"x")[0] == 501
    assert request(server, "GET", place) == (200, kept)


def test_two_witnesses_cannot_share_a_port(asked: Asked, server: WitnessServer) -> None:
    port = urlsplit(server.address).port or 0
    with pytest.raises(TransportError, match="cannot listen"):
        WitnessServer(asked.state, "127.0.0.1", port, quiet_log())


class Watched:
    """A controller whose log is witnessed."""

    def __init__(self, folder: Path) -> None:
        self.controller: Controller = make_controller(folder / "home")
        with self.controller.store.read() as unit:
            self.log_key = translog.key_in(unit)
        self.witness_folder = folder / "witness"
        self.key = witness.make(self.witness_folder, "audit.example/w1", [self.log_key.text])
        state = WitnessState(self.witness_folder, lambda: TIME)
        self.server = WitnessServer(state, "127.0.0.1", 0, quiet_log())
        self.server.start()
        self.set_policy(1, (self.key.text, self.server.address))
        self.agent = FakeAgent()
        self.machine = enrolled(self.controller, self.agent)

    def set_policy(self, quorum: int, *witnesses: tuple[str, str]) -> None:
        text = f"quorum = {quorum}\n"
        for vkey, url in witnesses:
            text += f'[[witness]]\nvkey = "{vkey}"\nurl = "{url}"\n'
        self.controller.home.log_policy.write_text(text)

    def wiped(self) -> str:
        """An order whose receipt was stored; its digest."""
        order = ordered(self.controller, self.machine)
        stored = store_receipt(
            self.controller, self.machine.machine_id, *self.agent.receipt(order.body), now=now()
        )
        assert not stored.reasons
        return order.digest

    def cosign(self) -> tuple[list[witness_client.Cosigning], list[str]]:
        return witness_client.cosign(self.controller, now())

    def certificates(self, order: str) -> list[bytes]:
        with self.controller.store.read() as unit:
            return [row.body for row in unit.evidence.certificates_of_order(order)]


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.server.stop()
    made.controller.store.close()


def test_a_certificate_waits_for_the_witnesses_and_names_them(watched: Watched) -> None:
    order = watched.wiped()
    assert watched.certificates(order) == []
    with watched.controller.store.read() as unit:
        row = unit.orders.get(order)
        assert row is not None
        assert "waits for the log's witnesses" in row.note
    answers, issued = watched.cosign()
    assert [one.problem for one in answers] == [None]
    assert len(issued) == 1
    (body,) = watched.certificates(order)
    certificate = parse_certificate(body)
    assert certificate.number == issued[0]
    assert "audit.example/w1 (2025-06-15T15:06:40Z)" in certificate.assurance[0]
    assert "not independently" not in certificate.assurance[0]
    assert watched.cosign()[1] == [], "issued once"
    assert not failures(log_audit.check_own(watched.controller, []))


def test_the_bundle_of_a_witnessed_certificate(watched: Watched) -> None:
    order = watched.wiped()
    watched.cosign()
    for _ in range(3):  # the log goes on, and is cosigned again
        with watched.controller.store.write() as unit:
            unit.log.append(entry_of(EntryKind.RECEIPT, b"%d" % unit.log.size()))
        watched.cosign()
    files = bundle_files(bundling.collect(watched.controller, order, 0, now()))
    policy = LogPolicy(logs=(watched.log_key,), witnesses=(Witness(key=watched.key),), quorum=1)
    newest = WitnessState(watched.witness_folder, lambda: TIME).newest(
        hashlib.sha256(watched.log_key.name.encode()).hexdigest()
    )
    assert newest is not None
    with watched.controller.store.read() as unit:
        signers = key_history.signers(unit)
    steps = verify_bundle(
        files,
        signers,
        page=certificate_html,
        readme=readme,
        profiles={},
        log=LogOutside(policy, (newest,)),
    )
    assert [step for step in failures(steps) if "log" in step.title or "witness" in step.title] == []
    assert {step.title: step.status for step in steps}[log_check.WITNESSED] is Status.PASSED


def test_a_witness_that_is_down_holds_certificates_back(watched: Watched) -> None:
    order = watched.wiped()
    watched.server.stop()
    answers, issued = watched.cosign()
    assert isinstance(answers[0].problem, TransportError)
    assert issued == []
    assert watched.certificates(order) == []
    # One of two is enough if the policy says so; nobody is, if it says none.
    watched.set_policy(0, (watched.key.text, watched.server.address))
    _, issued = watched.cosign()
    assert len(issued) == 1
    (body,) = watched.certificates(order)
    assert "not independently witnessed" in parse_certificate(body).assurance[0]


def test_a_policy_that_cannot_be_read_loses_no_certificate(watched: Watched) -> None:
    good = watched.controller.home.log_policy.read_text()
    watched.controller.home.log_policy.write_text("quorum = 'a few'")
    order = watched.wiped()
    with watched.controller.store.read() as unit:
        row = unit.orders.get(order)
        assert row is not None
        assert "log-policy.toml" in row.note
        assert unit.evidence.receipt_of_order(order) is not None
    watched.controller.home.log_policy.write_text(good)
    assert len(watched.cosign()[1]) == 1
    assert len(watched.certificates(order)) == 1


def test_two_of_three_witnesses(watched: Watched, tmp_path: Path) -> None:
    """One is down, one is enough with the first: both are named, in the order of the policy."""
    second = witness.make(tmp_path / "second", "customer.example/w", [watched.log_key.text])
    down = key_of(fresh_signer(), "down.example/w", COSIGNATURE)
    state = WitnessState(tmp_path / "second", lambda: TIME + 60)
    servers = {"http://one": WitnessState(watched.witness_folder, lambda: TIME), "http://two": state}

    def send(url: str, body: bytes, kind: str) -> HttpAnswer:
        server = servers.get(url.removesuffix("/add-checkpoint"))
        if server is None:
            raise TransportError("it is down")
        reply = server.add_checkpoint(body)
        return HttpAnswer(reply.status, reply.body)

    watched.set_policy(
        2, (second.text, "http://two"), (down.text, "http://three"), (watched.key.text, "http://one")
    )
    order = watched.wiped()
    gone = servers.pop("http://two")
    answers, issued = witness_client.cosign_by(send, watched.controller, now())
    assert ([one.problem is None for one in answers], issued) == ([False, False, True], [])
    servers["http://two"] = gone
    answers, issued = witness_client.cosign_by(send, watched.controller, now())
    assert ([one.problem is None for one in answers], len(issued)) == ([True, False, True], 1)
    (body,) = watched.certificates(order)
    log = parse_certificate(body).evidence.log
    assert log is not None
    assert [one.key for one in log.witnesses] == [second.text, watched.key.text]
    files = bundle_files(bundling.collect(watched.controller, order, 0, now()))
    assert files["checkpoint.txt"].decode().count("— ") == 3


def test_serve_has_the_log_cosigned_by_itself(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosigner, "LOOK_SECONDS", 0.02)
    at_work = cosigner.Cosigner(watched.controller, quiet_log())
    at_work.start()
    try:
        order = watched.wiped()
        assert eventually(lambda: watched.certificates(order), 30)
    finally:
        at_work.stop()


def test_a_witness_that_saw_more_is_an_alarm(watched: Watched) -> None:
    watched.wiped()
    watched.cosign()
    size = WitnessState(watched.witness_folder, lambda: TIME).sizes()[watched.log_key.name]

    def ahead(url: str, body: bytes, kind: str) -> HttpAnswer:
        return HttpAnswer(409, f"{size + 50}\n".encode())

    with watched.controller.store.write() as unit:
        unit.log.append(entry_of(EntryKind.RECEIPT, b"one more"))
    answers, _ = witness_client.cosign_by(ahead, watched.controller, now())
    assert isinstance(answers[0].problem, PeerIdentityError)
    assert f"has seen {size + 50} entries" in answers[0].problem.message


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (404, b"unknown", ProtocolError),
        (422, b"", PeerIdentityError),
        (409, b"many\n", ProtocolError),
        (200, b"nonsense", ProtocolError),
        (200, b"", ProtocolError),
        (200, "— stranger AAAAAAAA\n".encode(), PeerIdentityError),
        (500, b"\xff", ProtocolError),
    ],
)
def test_answers_that_are_of_no_use(watched: Watched, status: int, body: bytes, kind: type) -> None:
    answers, issued = witness_client.cosign_by(
        lambda _url, _body, _kind: HttpAnswer(status, body), watched.controller, now()
    )
    assert isinstance(answers[0].problem, kind)
    assert issued == []


def test_a_cosignature_by_another_key_does_not_count(watched: Watched) -> None:
    other = fresh_signer()
    posing = watched.key._replace(public=key_of(other, "x", 4).public)

    def pose(_url: str, body: bytes, _kind: str) -> HttpAnswer:
        text = parse_note(body.partition(b"\n\n")[2]).text
        line = sign(other, posing, text, TIME)
        faked = line._replace(key_id=watched.key.key_id)
        return HttpAnswer(200, f"{faked.line}\n".encode())

    answers, _ = witness_client.cosign_by(pose, watched.controller, now())
    assert isinstance(answers[0].problem, ProtocolError)


@pytest.mark.parametrize("time", [2**62, 4_000_000_000])
def test_a_witness_ahead_of_its_time(watched: Watched, tmp_path: Path, time: int) -> None:
    order = watched.wiped()
    state = WitnessState(watched.witness_folder, lambda: time)

    def send(_url: str, body: bytes, _kind: str) -> HttpAnswer:
        reply = state.add_checkpoint(body)
        return HttpAnswer(reply.status, reply.body)

    answers, issued = witness_client.cosign_by(send, watched.controller, now())
    assert isinstance(answers[0].problem, ProtocolError)
    assert issued == watched.certificates(order) == []


def test_two_controllers_with_one_key_are_told_apart_by_the_witness(watched: Watched) -> None:
    """A log forked for one auditor: the witness signs one of the two and never the other."""
    watched.wiped()
    watched.cosign()
    watched.set_policy(1, (watched.key.text, watched.server.address))
    with watched.controller.store.read() as unit:
        size = unit.log.size()
    fork = merkle.MemoryTree()
    for number in range(size + 3):
        fork.append(merkle.leaf_hash(b"%d" % number))
    from expunge_controller.keys import load_key

    signer = load_key(watched.controller.home.log_key)
    text = Checkpoint(watched.log_key.name, size + 3, merkle.root(fork.node, size + 3)).text
    note = format_note(Note(text, (sign(signer, watched.log_key, text),)))
    seen = WitnessState(watched.witness_folder, lambda: TIME).sizes()[watched.log_key.name]
    proof = merkle.consistency_proof(fork.node, seen, size + 3)
    answer = post(f"{watched.server.address}/add-checkpoint", format_request(seen, proof, note), "text/plain")
    assert answer.status == 422


def test_keys_are_read_in_one_spelling_only(watched: Watched) -> None:
    text = watched.key.text
    assert parse_key(text) == watched.key
    for wrong in (text + "=", text.replace("+", " ", 1), text[:-4], text.swapcase(), "", "a+b+c"):
        with pytest.raises(DocumentError):
            parse_key(wrong)
