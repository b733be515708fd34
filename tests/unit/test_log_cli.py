"""``expunge log``, ``expunge witness`` and what ``expunge verify`` takes about the log: what they print and how they exit."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_controller import translog
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.records import stamp_check
from expunge_controller.records.checkpoint import parse_checkpoint, parse_proof
from expunge_controller.records.log_policy import LogPolicy, Witness, format_policy
from expunge_controller.records.note import COSIGNATURE, key_of, parse_key
from expunge_controller.witness import WitnessState
from expunge_controller.witness_http import WitnessServer
from support.controllers import FakeAgent, enrolled, now, ordered, quiet_log
from support.fixtures import Run
from support.logs import fresh_signer


@pytest.fixture
def order(controller: Controller) -> str:
    """The id of an order whose receipt was stored."""
    agent = FakeAgent()
    row = ordered(controller, enrolled(controller, agent))
    store_receipt(controller, agent.machine_id, *agent.receipt(row.body), now=now())
    return row.order_id


def test_head_and_entries(controller: Controller, run: Run, order: str) -> None:
    head = run("log", "head", "--json").json
    assert head["size"] == 12
    assert parse_checkpoint(head["checkpoint"].encode())[0].origin == head["vkey"].partition("+")[0]
    assert "nobody but you vouches" in run("log", "head").out
    shown = run("log", "show", "--json").json
    assert [one["kind"] for one in shown["entries"]][-2:] == ["custody", "certificate"]
    assert [
        one["number"] for one in run("log", "show", "--from", 7, "--limit", 1, "--json").json["entries"]
    ] == [7]
    assert "12 entries." in run("log", "show").out
    assert "no such entry" in run("log", "show", "--from", 99).out


def test_proofs(controller: Controller, run: Run, order: str, tmp_path: Path) -> None:
    with controller.store.read() as unit:
        (receipt,) = unit.evidence.receipts(5)
        (certificate,) = unit.evidence.certificates_of_order(receipt.order_digest)
    for what, number in ((receipt.digest, 7), (certificate.number, 11), (0, 0)):
        assert parse_proof(run("log", "proof", what).out.encode()).number == number
        assert run("log", "proof", what, "--json").json["number"] == number
    path = tmp_path / "one.tlog-proof"
    assert "entry 7 of 12" in run("log", "proof", receipt.digest, "-o", path).out
    assert parse_proof(path.read_bytes()).number == 7
    for what in ("12", "f" * 64, "nothing"):
        ran = run("log", "proof", what)
        assert ran.code == 18
        assert "expunge" in ran.err


def test_tiles_and_check(controller: Controller, run: Run, order: str, tmp_path: Path) -> None:
    folder, policy, head = tmp_path / "tiles", tmp_path / "policy.toml", tmp_path / "head"
    assert run("log", "tiles", folder, "--json").json["size"] == 12
    assert run("log", "tiles", folder).out.endswith("1 files written\n")
    with controller.store.read() as unit:
        policy.write_text(format_policy(LogPolicy(logs=(translog.key_in(unit),))))
    head.write_bytes((folder / "checkpoint").read_bytes())
    assert run("log", "check", "--against", head).code == 0
    found = run("log", "check", "--tiles", folder, "--policy", policy, "--against", head, "--json")
    assert (found.code, {step["status"] for step in found.json["steps"]}) == (0, {"passed"})
    (folder / "tile" / "entries" / "000.p" / "12").write_bytes(b"x")
    ran = run("log", "check", "--tiles", folder, home=tmp_path / "nowhere")
    assert ran.code == 9
    assert "NOT what it should be" in ran.out
    assert run("log", "check", "--tiles", tmp_path).code == 18
    assert run("log", "check", "--policy", policy).code == 2
    assert run("log", "check", "--against", tmp_path / "none").code == 18
    head.write_bytes(b"x")
    assert run("log", "check", "--against", head).code == 9


def test_a_witness_and_a_bundle(controller: Controller, run: Run, order: str, tmp_path: Path) -> None:
    vkey = run("log", "head", "--json").json["vkey"]
    folder = tmp_path / "witness"
    made = run("witness", "init", folder, "--name", "audit.example/w1", "--log", vkey, "--json").json
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run("witness", "init", folder, "--name", "x").code == 2
    assert run("witness", "watch", folder, "nonsense").code == 20
    assert run("witness", "watch", folder, vkey).code == 0
    assert run("witness", "show", tmp_path / "none").code == 18
    assert "No witness with an address" in run("log", "cosign").out
    state = WitnessState(folder, lambda: 1_750_000_000)
    server = WitnessServer(state, "127.0.0.1", 0, quiet_log())
    server.start()
    policy = f'quorum = 1\n[[witness]]\nvkey = "{made["vkey"]}"\nurl = "{server.address}"\n'
    controller.home.log_policy.write_text(policy)
    bundle = tmp_path / "bundle.zip"
    waits = run("export", order, "-o", bundle)
    assert (waits.code, bundle.exists()) == (3, False)
    assert "expunge log cosign" in waits.err
    assert run("log", "cosign", "--json").json["witnesses"][0]["size"] == 12
    server.stop()
    assert run("export", order, "-o", bundle).code == 0
    assert "12 of 12 entries" in run("log", "head").out
    assert run("witness", "show", folder, "--json").json["logs"] == {vkey.partition("+")[0]: 12}
    seen = tmp_path / "seen"
    seen.write_bytes(next((folder / "logs").glob("*/checkpoint")).read_bytes())
    mine = tmp_path / "mine.toml"
    mine.write_text(format_policy(LogPolicy((parse_key(vkey),), (Witness(key=state.key),), 1)))
    steps = run("verify", bundle, "--log-policy", mine, "--seen", seen, "--json").json["steps"]
    about = {
        step["title"]: step["status"]
        for step in steps
        if ("log" in step["title"] or "witness" in step["title"]) and step["title"] != stamp_check.STAMPED
    }
    assert len(about) >= 6
    assert set(about.values()) == {"passed"}, about
    assert run("log", "tiles", tmp_path / "tiles").code == 0
    assert run("verify", bundle, "--log", tmp_path / "tiles", "--json").code == run("verify", bundle).code
    (tmp_path / "bad.toml").write_text("quorum = 'many'")
    assert run("verify", bundle, "--log-policy", tmp_path / "bad.toml").code == 20
    assert run("verify", bundle, "--seen", tmp_path / "none").code == 18
    assert run("verify", bundle, "--log", tmp_path / "none").code == 18


def test_a_certificate_that_waits_is_said_to_wait(controller: Controller, run: Run) -> None:
    key = key_of(fresh_signer(), "audit.example/w9", COSIGNATURE).text
    controller.home.log_policy.write_text(f'quorum = 1\n[[witness]]\nvkey = "{key}"\n')
    agent = FakeAgent()
    row = ordered(controller, enrolled(controller, agent))
    store_receipt(controller, agent.machine_id, *agent.receipt(row.body), now=now())
    ran = run("certificate", row.order_id)
    assert (ran.code, "wait for the log's witnesses" in ran.err) == (18, True)
    assert "No witness with an address" in run("log", "cosign").out
    controller.home.log_policy.unlink()
    assert "issued" in run("log", "cosign").out
    assert "awaiting validation" in run("certificate", row.order_id).out


def test_a_witness_that_does_not_answer(controller: Controller, run: Run, order: str) -> None:
    key = key_of(fresh_signer(), "audit.example/w9", COSIGNATURE).text
    controller.home.log_policy.write_text(
        f'quorum = 1\n[[witness]]\nvkey = "{key}"\nurl = "http://127.0.0.1:9"\n'
    )
    ran = run("log", "cosign")
    assert ran.code == 14
    assert "FAILED" in ran.out
    assert run("log", "cosign", "--json").json["witnesses"][0]["problem"]["error"] == "transport"
    assert run("log", "proof", "0").code == 18
    assert run("log", "tiles", controller.home.path / "t").code == 2
    controller.home.log_policy.write_text("quorum = 7")
    ran = run("log", "cosign")
    assert (ran.code, "log-policy.toml" in ran.err) == (11, True)
