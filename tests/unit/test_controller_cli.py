"""The verbs: what they print, what they refuse, and how they exit."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.account import login_name
from expunge_agent.errors import NotFoundError, UsageError
from expunge_agent.protocol import sshsig, wire
from expunge_agent.protocol.base import Level, Outcome, timestamp
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.enrolment import parse_token
from expunge_agent.protocol.identity import SpaceIdentity, TreeIdentity
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.protocol.trust import format_allowed_signers
from expunge_controller import dispatch, fleet, key_history
from expunge_controller.cli import VERBS, reach, targets
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.ledger import register_medium
from expunge_controller.records import log_check, second_checks, stamp_check
from expunge_controller.store.rows import MachineRow, OrderRow, OrderStatus
from expunge_profiles.load import builtin
from support.controllers import FakeAgent, disk, enrolled, now, ordered
from support.fixtures import Run


def registered(controller: Controller, machine: MachineRow, number: int = 1) -> str:
    with controller.store.write() as unit:
        medium = register_medium(
            unit,
            controller,
            disk(number),
            machine_id=machine.machine_id,
            hint="/dev/sdz",
            actor="records officer",
            now=now(),
            property_number=f"PN-{number:04d}",
        )
    return medium.digest


def finished(controller: Controller, agent: FakeAgent, machine: MachineRow, **changes: Any) -> OrderRow:
    """An order with its receipt."""
    order = ordered(controller, machine)
    store_receipt(controller, machine.machine_id, *agent.receipt(order.body, **changes), now=now())
    return order


REFUSED: dict[str, Any] = {
    "outcome": Outcome.REFUSED,
    "refusal": Refusal(reason=Reason.EXPIRED, detail="The order expired.", remedy="Order it again."),
    "targets": [],
    "level_achieved": Level.NONE,
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run: Run, verb: str) -> None:
    ran = run(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith("Usage: expunge")


def test_a_new_controller(run: Run, tmp_path: Path) -> None:
    home = tmp_path / "new"
    ran = run("init", "--name", "office", "--port", "0", "--json", home=home)
    assert ran.code == 0
    assert ran.json["principal"] == "controller:office"
    assert ran.json["port"] > 0
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    again = run("init", home=home)
    assert (again.code, "nothing was changed" in again.err) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["machines"],
        ["jobs"],
        ["receipts"],
        ["media", "list"],
        ["enrol", "alpha"],
        ["wipe", "alpha", "/disk.img", "-p", "zero", "--yes"],
        ["serve"],
    ],
)
def test_without_a_controller_every_verb_says_what_to_do(
    run: Run, tmp_path: Path, arguments: list[str]
) -> None:
    ran = run(*arguments, home=tmp_path / "nowhere")
    assert ran.code == 18
    assert "expunge init" in ran.err


def test_a_token_is_shown_once_with_what_to_type(run: Run, controller: Controller) -> None:
    ran = run("enrol", "alpha", "--json")
    token = parse_token(ran.json["token"])
    assert (token.controller, token.host, token.port) == ("test", "127.0.0.1", 4722)
    assert ran.json["command"] == f"expunge-agent enrol {ran.json['token']}"
    shown = run("enrol", "beta")
    assert "expunge-agent enrol expunge1." in shown.out
    assert "serve --dial" in shown.out


def test_a_dialled_machine_gets_its_authorized_keys_line(
    run: Run, controller: Controller, tmp_path: Path
) -> None:
    key = FakeAgent().dial_line
    (tmp_path / "host.pub").write_text(f"{key} root@store-17\n")
    ran = run("enrol", "alpha", "--ssh", "wiper@store-17:2222", "--host-key", tmp_path / "host.pub", "--json")
    assert ran.json["authorized_keys"].startswith('restrict,command="expunge-agent serve" ssh-ed25519 ')
    with controller.store.read() as unit:
        (token,) = fleet.pending_ssh(unit, now())
    assert token.ssh is not None
    assert (token.ssh.user, token.ssh.port, token.ssh.host_key) == ("wiper", 2222, key)
    by_print = run("enrol", "beta", "--ssh", "store-18", "--host-key", sshsig.fingerprint(key))
    assert by_print.code == 0
    assert "authorized_keys" in by_print.out
    assert "enrolment not complete" in run("machines").out


def test_a_dialled_machine_gets_a_new_address_and_key(
    run: Run, controller: Controller, agent: FakeAgent
) -> None:
    old = fleet.ssh_address("wiper@store-17", "SHA256:" + "A" * 43)
    enrolled(controller, agent, ssh=old)
    enrolled(controller, FakeAgent(machine_id="2" * 32), "beta")
    new = "SHA256:" + "B" * 42 + "A"
    assert "store-18" in run("enrol", "alpha", "--ssh", "store-18:2222", "--host-key", new).out
    with controller.store.read() as unit:
        machine = fleet.machine_named(unit, "alpha")
    assert machine.ssh == fleet.ssh_address("store-18:2222", new)
    assert run("enrol", "beta", "--ssh", "store-18", "--host-key", new).code == 17


def test_a_note_is_forgotten_when_a_person_says_so(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    with controller.store.write() as unit:
        unit.fleet.set_note(machine.machine_id, "a second agent called")
    assert "a second agent called" in run("machines").out
    assert "a second agent called" not in run("machines", "--clear-note", "alpha").out
    assert run("machines", "--clear-note", "nobody").code == 18


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ssh", "store-17"],
        ["--host-key", "SHA256:" + "A" * 43],
        ["--ssh", "store-17", "--host-key", "SHA256:short"],
        ["--ssh", "store-17", "--host-key", "/nonexistent"],
        ["--ssh", "store-17", "--host-key", "/dev/null"],
        ["--ssh", "a@:22", "--host-key", "SHA256:" + "A" * 43],
        ["--expires-in", "soon"],
        ["--expires-in", "99999d"],
        ["--connect", "--ssh", "x"],
    ],
)
def test_enrolments_that_cannot_be(run: Run, controller: Controller, arguments: list[str]) -> None:
    ran = run("enrol", "alpha", *arguments)
    assert ran.code == 2
    assert ran.out == ""


def test_connecting_to_a_machine_without_an_open_enrolment(run: Run, controller: Controller) -> None:
    assert run("enrol", "alpha", "--connect").code == 18


def test_machines_are_listed(run: Run, machine: MachineRow) -> None:
    (row,) = run("machines", "--json").json
    assert (row["name"], row["reach"], row["hostname"]) == ("alpha", "dial-in", "store-17")
    assert "calls in" in run("machines").out


def test_asking_a_machine_that_calls_in_needs_a_running_controller(run: Run, machine: MachineRow) -> None:
    ran = run("inventory", "alpha")
    assert (ran.code, "expunge serve" in ran.err) == (14, True)
    assert run("inventory", "nobody").code == 18


def test_an_order_for_a_registered_medium(run: Run, controller: Controller, machine: MachineRow) -> None:
    digest = registered(controller, machine)
    ran = run(
        "wipe",
        "alpha",
        digest[:12],
        "-p",
        "random-verified",
        "--yes",
        "--no-follow",
        "--case",
        "C-7",
        "--json",
    )
    assert ran.code == 0
    shown = run("jobs", ran.json["order_id"]).json
    assert (shown["status"], shown["order"]["case_number"]) == ("created", "C-7")
    assert shown["order"]["targets"][0]["identity"]["serial"] == "FICT0000001"
    (listed,) = run("jobs", "--json").json
    assert listed["digest"] == ran.json["digest"]
    again = run("wipe", "alpha", "PN-0001", "-p", "zero", "--yes", "--no-follow")
    assert (again.code, ran.json["order_id"] in again.err) == (19, True)


def test_a_dry_run_prints_the_order_and_keeps_nothing(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    registered(controller, machine)
    ran = run("wipe", "alpha", "PN-0001", "-p", "random-verified", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.json["order"]["machine_id"] == machine.machine_id
    assert "unsigned" in run("wipe", "alpha", "PN-0001", "-p", "zero", "--dry-run").out
    assert run("jobs", "--json").json == []


def test_what_is_stated_of_keys_stands_in_the_order(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    registered(controller, machine)
    words = [
        "--requested-by",
        "custodian",
        "--statement",
        "no-escrow=yes",
        "--statement",
        "no-header-backup=no",
    ]
    ran = run(
        *(
            "wipe",
            "alpha",
            "PN-0001",
            "-p",
            "luks-crypto-erase",
            "--dry-run",
            "--json",
            "--search",
            "/backup",
        ),
        *words,
    )
    assert ran.json["order"]["keys"] == {
        "header": None,
        "roots": [],
        "search": ["/backup"],
        "statements": [
            {"id": "no-escrow", "holds": "yes", "said_by": f"{login_name()}, for custodian"},
            {"id": "no-header-backup", "holds": "no", "said_by": f"{login_name()}, for custodian"},
        ],
    }


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["alpha", "-p", "zero", "--yes"], 2),
        (["alpha", "PN-0001", "--yes"], 2),
        (["alpha", "PN-0001", "-p", "zero"], 2),
        (["alpha", "PN-0001", "-p", "zeros", "--yes"], 10),
        (["nobody", "PN-0001", "-p", "zero", "--yes"], 18),
        (["alpha", "PN-0001", "PN-0001", "-p", "zero", "--yes"], 2),
        (["alpha", "PN-0001", "-p", "zero", "--yes", "--level", "purge"], 2),
        (["alpha", "PN-0001", "-p", "zero", "--yes", "--expires-in", "0h"], 2),
        (["alpha", "", "-p", "zero", "--yes"], 2),
        (["alpha", "PN-0001", " ", "-p", "zero", "--yes"], 2),
        (["alpha", "PN-0001", "-p", "luks-crypto-erase", "--yes", "--statement", "all-is-well=yes"], 2),
        (["alpha", "PN-0001", "-p", "luks-crypto-erase", "--yes", "--statement", "no-escrow=maybe"], 2),
        (["alpha", "PN-0001", "-p", "luks-crypto-erase", "--yes"] + ["--statement", "no-escrow=no"] * 2, 2),
        (["alpha", "PN-0001", "-p", "luks-crypto-erase", "--yes", "--search", "backups"], 2),
    ],
)
def test_wipes_that_are_not_ordered(
    run: Run, controller: Controller, machine: MachineRow, arguments: list[str], code: int
) -> None:
    registered(controller, machine)
    ran = run("wipe", *arguments)
    assert ran.code == code, ran.err
    assert ran.err.count("\n") >= 2
    error = run("wipe", *arguments, "--json")
    assert error.json["exit_code"] == code
    assert error.json["remedy"]
    assert run("jobs", "--json").json == []


@pytest.mark.parametrize(("answer", "code"), [("alpha", 0), ("y", 3), ("", 3)])
def test_a_person_is_asked_for_the_machines_name(
    run: Run,
    controller: Controller,
    machine: MachineRow,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    code: int,
) -> None:
    registered(controller, machine)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.prompt", lambda *_args, **_kwargs: answer)
    ran = run("wipe", "alpha", "PN-0001", "-p", "zero", "--no-follow")
    assert ran.code == code
    assert "FICT0000001" in ran.out
    assert len(run("jobs", "--json").json) == (code == 0)


def test_following_an_ended_order_gives_its_outcome(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = finished(controller, agent, machine)
    ran = run("jobs", order.order_id, "--follow")
    assert (ran.code, "sanitized" in ran.out, "awaiting validation" in ran.out) == (0, True, True)
    (result,) = run("jobs", order.order_id, "--follow", "--json").lines
    assert (result["type"], result["outcome"], result["exit_code"]) == ("result", "sanitized", 0)


def test_a_refusal_is_shown_with_its_remedy(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = finished(controller, agent, machine, **REFUSED)
    ran = run("jobs", order.digest[:10], "--follow")
    assert ran.code == 3
    assert "Order it again." in ran.out
    certificate = run("certificate", order.order_id)
    assert (certificate.code, "refused" in certificate.err) == (18, True)


def test_a_receipt_kept_aside_is_shown_with_its_reasons(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = finished(controller, agent, machine, counter=U64(0))
    assert run("jobs", order.order_id, "--follow").code == 9
    assert "kept aside" in run("receipts").err
    ran = run("receipts", "--aside")
    assert "counters start at 1" in ran.out
    (row,) = run("receipts", "--aside", "--json").json
    assert row["reasons"] == ["it continues the agent's receipts: counters start at 1"]
    body = run("receipts", "--aside", row["receipt"][:10]).json
    assert body["predicate"]["counter"] == "0"


def test_receipts_certificates_and_custody_are_shown(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow, tmp_path: Path
) -> None:
    digest = registered(controller, machine)
    order = finished(controller, agent, machine)
    (receipt,) = run("receipts", "--json").json
    assert run("receipts", receipt["receipt"][:8]).json["predicate"]["outcome"] == "sanitized"
    assert run("receipts", "0" * 64).code == 18
    assert "awaiting validation" in run("certificate", order.order_id).out
    certificate = run("certificate", order.order_id, "--json").json
    assert certificate["register"]["property_number"] == "PN-0001"
    assert "<html" in run("certificate", certificate["number"], "--html").out
    written = run("certificate", order.order_id, "-o", tmp_path / "out").out.splitlines()
    assert [Path(name).suffix for name in written] == [".json", ".sig", ".html"]
    assert all(Path(name).stat().st_size for name in written)
    chain = run("custody", digest[:10], "--json").json
    assert [event["event"] for event in chain][-2:] == ["wiped", "verified"]
    assert "every signature and link checks out" in run("custody", "PN-0001").out
    assert run("custody", "PN-9999").code == 18
    (medium,) = run("media", "list", "--json").json
    assert (medium["standing"], medium["medium"]) == ("verified", digest)


def test_a_bundle_is_written_and_checked(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow, tmp_path: Path
) -> None:
    order = finished(controller, agent, machine)
    bundle = tmp_path / "bundle.zip"
    assert run("export", order.order_id, "-o", bundle, "--json").json["bundle"] == str(bundle)
    nowhere = tmp_path / "nowhere"  # an auditor has no controller
    ran = run("verify", bundle, "--json", home=nowhere)
    assert (ran.code, ran.json["verified"]) == (0, True)
    assert all(step["status"] != "failed" for step in ran.json["steps"])
    signers = tmp_path / "allowed_signers"
    with controller.store.read() as unit:
        signers.write_text(format_allowed_signers(key_history.signers(unit)))
    brought = run("verify", bundle, "--signers", signers, "--json", home=nowhere)
    assert brought.code == 0
    assert {step["title"] for step in brought.json["steps"] if step["status"] != "passed"} == {
        log_check.TRUSTED,
        log_check.WITNESSED,
        log_check.SHOWN,
        stamp_check.STAMPED,
        second_checks.ENVELOPE,
        second_checks.CLASSIC,
        second_checks.MLDSA65,
        second_checks.TRUSTED,
    }
    assert run("verify", bundle, "--mldsa-key", "0" * 64, home=nowhere).code == 9
    assert run("verify", bundle, "--mldsa-key", "0" * 63, home=nowhere).code == 2
    data = bytearray(bundle.read_bytes())
    data[data.index(b'"outcome":"sanitized"') + 12] ^= 1
    bundle.write_bytes(data)
    assert run("verify", bundle, home=nowhere).code == 9
    assert run("verify", tmp_path / "absent.zip", home=nowhere).code == 18
    (tmp_path / "text").write_text("no zip")
    assert run("verify", tmp_path / "text", home=nowhere).code == 9


def test_what_cannot_be_exported(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow, tmp_path: Path
) -> None:
    order = ordered(controller, machine)
    assert run("export", order.order_id, "-o", tmp_path / "b.zip").code == 18
    store_receipt(controller, machine.machine_id, *agent.receipt(order.body), now=now())
    assert run("export", order.order_id, "-o", tmp_path / "b.zip", "--target", "2").code == 18
    assert run("export", order.order_id, "-o", tmp_path / "no" / "b.zip").code == 18
    assert list(tmp_path.glob("*.zip")) == []


def test_profiles_are_shown_without_a_controller(run: Run, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    listed = run("profiles", "list", "--json", home=nowhere).json
    assert {"nist-clear", "zero", "dod-5220.22-m"} <= {row["id"] for row in listed}
    shown = run("profiles", "show", "zero", "--json", home=nowhere).json
    assert shown["digest"] == next(row["digest"] for row in listed if row["id"] == "zero")
    wrong = run("profiles", "show", "zeros", home=nowhere)
    assert (wrong.code, "did you mean zero" in wrong.err) == (10, True)


def test_a_wrong_profile_of_ones_own_costs_only_itself(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    folder = controller.home.path / "profiles"
    folder.mkdir()
    (folder / "mine.toml").write_text('id = "mine"\nversoin = 1\n')
    listed = run("profiles", "list")
    assert listed.code == 0
    assert "zero" in listed.out
    assert "broken, cannot be used: mine.toml" in listed.err
    assert "versoin" in listed.err
    registered(controller, machine)
    assert run("wipe", "alpha", "PN-0001", "-p", "zero", "--dry-run").code == 0
    used = run("wipe", "alpha", "PN-0001", "-p", "mine", "--dry-run")
    assert used.code == 10
    assert "versoin" in used.err


def test_profiles_that_read_nothing_back_say_how_they_end(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    registered(controller, machine)
    unread = next(one for one in builtin().values() if one.verification.kind == "none")
    wanted = "ends as sanitized-with-exceptions: nothing is read back"
    assert wanted in run("profiles", "show", unread.id).out
    assert wanted in run("wipe", "alpha", "PN-0001", "-p", unread.id, "--dry-run").out
    assert wanted not in run("profiles", "show", "random-verified").out


def test_an_order_that_was_never_sent_is_cancelled_and_its_medium_is_free(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    ran = run("jobs", order.order_id, "--cancel", "--reason", "wrong disk")
    assert ran.code == 0
    shown = run("jobs", order.order_id).json
    assert shown["status"] == "cancelled"
    assert shown["note"].endswith("never sent. wrong disk")
    (medium,) = run("media", "list", "--json").json
    assert medium["standing"] == "kept"
    assert run("custody", medium["medium"], "--json").json[-1]["event"] == "cancelled"
    assert dispatch.advance(controller, order.digest, now()) is None
    ordered(controller, machine)
    assert run("jobs", order.order_id, "--cancel").code == 3
    assert run("jobs", order.order_id, "--follow").code == 3


def test_an_order_that_was_sent_cannot_be_recalled(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    dispatch.advance(controller, order.digest, now())
    ran = run("jobs", order.order_id, "--cancel")
    assert (ran.code, "cannot be recalled" in ran.err) == (3, True)
    assert run("jobs", "--cancel").code == 2
    assert run("jobs", order.order_id).json["status"] == "sent"


def item(**changes: Any) -> wire.InventoryItem:
    return wire.InventoryItem(
        identity=replace(disk(), **changes),
        path="/dev/sdz",
        type="hdd",
        firmware="",
        logical_sector=512,
        physical_sector=512,
        blocked=[],
        notes=[],
    )


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_name_matches_no_drive(
    controller: Controller, machine: MachineRow, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    answer = wire.Inventory(items=[item(serial=text, wwn=text)], problems=[])
    monkeypatch.setattr(targets, "ask_inventory", lambda *_: answer)
    with pytest.raises(UsageError):
        targets.resolve(controller, machine, (text,))
    with pytest.raises(NotFoundError):
        targets._item(answer, text)


def test_a_directory_is_ordered_with_its_patterns(
    run: Run, controller: Controller, machine: MachineRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = TreeIdentity(path="/srv/records", device="8:1", inode=U64(7), host="h")
    found = replace(item(), identity=identity, path="/srv/records", type="file")
    monkeypatch.setattr(targets, "ask_inventory", lambda *_: wire.Inventory(items=[found], problems=[]))
    command = ("wipe", "alpha", "/srv/records", "-p", "nist-clear", "--dry-run", "--json")
    order = run(*command, "--glob", "*.log", "--keep", "--allow-exceptions").json["order"]
    assert order["targets"][0]["identity"]["include"] == ["*.log"]
    assert order["keep"] is order["allow_exceptions"] is True
    assert "keep" not in run(*command).json["order"]
    plain = run("wipe", "alpha", "/srv/records", "-p", "nist-clear", "--dry-run")
    assert "/srv/records  files below it: all of them" in plain.out
    monkeypatch.setattr(targets, "ask_inventory", lambda *_: wire.Inventory(items=[item()], problems=[]))
    assert run("wipe", "alpha", "/dev/sdz", "-p", "zero", "--yes", "--glob", "*").code == 2


@pytest.mark.parametrize("sentence", ["/disk.img is a symbolic link.", "A character device cannot be wiped."])
def test_what_the_agent_says_of_a_path_is_passed_on(
    run: Run, machine: MachineRow, monkeypatch: pytest.MonkeyPatch, sentence: str
) -> None:
    answer = wire.Inventory(items=[item()], problems=[sentence])
    monkeypatch.setattr(targets, "ask_inventory", lambda *_: answer)
    ran = run("wipe", "alpha", "/disk.img", "-p", "zero", "--yes")
    assert (ran.code, sentence in ran.err) == (3, True)
    assert run("wipe", "alpha", "S3R1AL", "-p", "zero", "--yes").code == 18


def test_free_space_is_ordered_by_its_mount_point(
    run: Run, machine: MachineRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = SpaceIdentity(path="/srv", device="8:1", filesystem="ext4", uuid="u", host="h")
    one = replace(item(), identity=who, path="free-space:/srv")
    asked: list[list[str]] = []

    def answer(_controller: object, _machine: object, paths: list[str]) -> wire.Inventory:
        asked.append(paths)
        return wire.Inventory(items=[one], problems=[])

    monkeypatch.setattr(targets, "ask_inventory", answer)
    words = ("wipe", "alpha", "free-space:/srv", "-p", "random-verified", "--dry-run")
    plain = run(*words, "--json").json["order"]["targets"]
    assert plain == [
        {
            "identity": {
                "kind": "free-space",
                "path": "/srv",
                "device": "8:1",
                "filesystem": "ext4",
                "uuid": "u",
                "host": "h",
            },
            "hint": "/srv",
            "psid": "",
            "space": {"reserve": None, "system": False, "trim": False},
        }
    ]
    wished = run(*words, "--json", "--reserve", "8M", "--system", "--trim").json["order"]["targets"][0][
        "space"
    ]
    assert wished == {"reserve": str(8 << 20), "system": True, "trim": True}
    assert asked == [["free-space:/srv"], ["free-space:/srv"]]
    assert "free space" in run(*words, "--reserve", "0").out
    assert run(*words, "--reserve", "plenty").code == 2


@pytest.mark.parametrize(("code", "exit_code"), [("no-space", 12), ("busy", 19), ("permission", 13)])
def test_following_what_the_agent_cannot_take_shows_why_and_ends_with_its_code(
    run: Run,
    controller: Controller,
    machine: MachineRow,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    exit_code: int,
) -> None:
    monkeypatch.setattr("expunge_controller.cli.follow.PATIENCE_SECONDS", 0.2)
    order = ordered(controller, machine)
    dispatch.advance(controller, order.digest, now())
    dispatch.reject(controller, machine.machine_id, order.digest, "It is full.", now(), code=code)
    ran = run("jobs", order.order_id, "--follow")
    assert ran.code == exit_code
    assert "note: It is full. It will be tried again." in ran.err
    with controller.store.read() as unit:
        row = unit.orders.get(order.digest)
    assert row is not None
    assert row.status is OrderStatus.SENT
    assert row.followed_until > timestamp(now())


def test_an_order_that_the_agent_cannot_use_ends_with_its_code(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    order = ordered(controller, machine)
    dispatch.reject(controller, machine.machine_id, order.digest, "Too long.", now(), code="document")
    assert run("jobs", order.order_id, "--follow").code == 20


def test_the_end_of_a_wipe_tells_time_and_speed_of_every_pass(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    order = finished(controller, agent, machine)
    out = run("jobs", order.order_id, "--follow").out
    assert "pass 1: 268.4 MB in 1.2 s, 214.7 MB/s" in out
    assert "full verification of pass 2: 268.4 MB in 1.8 s, 149.1 MB/s" in out


def test_tables_fit_a_page_when_piped(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow, tmp_path: Path
) -> None:
    order = finished(controller, agent, machine)
    medium = run("media", "list", "--json").json[0]["medium"]
    run("export", order.order_id, "-o", tmp_path / "b.zip")
    for arguments in (["custody", medium], ["verify", tmp_path / "b.zip"]):
        assert max(map(len, run(*arguments).out.splitlines())) <= 120
    assert run("export", order.order_id, "-o", tmp_path / "b.zip", "--target", "65").code == 2


def test_a_defect_is_one_sentence_and_exit_70(
    run: Run, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("an invented defect")

    monkeypatch.setattr("expunge_controller.context.load_config", broken)
    ran = run("machines")
    assert (ran.code, "EXPUNGE_DEBUG" in ran.err) == (70, True)
    assert run("machines", "--json").json["error"] == "bug"


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_being_stopped_is_exit_130(
    run: Run, controller: Controller, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr("expunge_controller.context.load_config", stop)
    monkeypatch.setattr("os.dup2", lambda *_: 1)
    assert run("machines").code == 130


def test_a_full_disk_is_exit_12(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import errno

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/keys/order_key")

    monkeypatch.setattr("expunge_controller.files.write_private", full)
    ran = run("init", home=tmp_path / "new")
    assert (ran.code, "order_key" in ran.err) == (12, True)


def test_json_usage_errors_are_json_too(run: Run) -> None:
    ran = run("jobs", "--limit", "many", "--json")
    assert (ran.code, ran.json["error"]) == (2, "usage")


def test_what_other_machines_say_cannot_drive_the_terminal(
    run: Run, controller: Controller, machine: MachineRow
) -> None:
    with controller.store.write() as unit:
        unit.fleet.set_note(machine.machine_id, "\x1b[2J[bold]hidden[/bold]")
    out = run("machines").out
    assert "\x1b" not in out
    assert "[bold]" in out


def test_the_inventory_shows_what_the_drive_answers(
    run: Run, machine: MachineRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = replace(
        item(),
        can="sanitize crypto+block",
        hidden="HPA of 512 bytes",
        condition="frozen",
        drive={"family": "nvme", "doubts": ["garbled serial"]},
        stack={"name": "nvme0n1"},
        paths=["/dev/sda", "/dev/sdb"],
    )
    silent = replace(item(serial="S2"), silent="it gave no answer")
    answer = wire.Inventory(items=[seen, silent], problems=[])
    monkeypatch.setattr(reach, "ask_inventory", lambda *_: answer)
    table = run("inventory", "alpha").out
    for word in (
        "sanitize",
        "HPA",
        "frozen",
        "/dev/sda",
        "/dev/sdb",
        "answer",
    ):  # it may be cut in a narrow terminal
        assert word in table, word
    assert "hidden" in table
    monkeypatch.setattr(reach, "ask_inventory", lambda *_: wire.Inventory(items=[item()], problems=[]))
    assert "hidden" not in run("inventory", "alpha").out, "a column that says nothing takes no room"
    monkeypatch.setattr(reach, "ask_inventory", lambda *_: answer)
    told = run("inventory", "alpha", "--json").json
    assert told["items"][0]["drive"] == seen.drive and told["items"][0]["stack"] == seen.stack


def test_a_purge_is_ordered_like_anything_else(
    run: Run, controller: Controller, machine: MachineRow, tmp_path: Path
) -> None:
    digest = registered(controller, machine)
    told = run("wipe", "alpha", digest, "-p", "nist-purge", "--dry-run")
    assert told.code == 0
    assert "commands of the drive: nvme-sanitize-crypto" in told.out and "level purge" in told.out
    made = run("wipe", "alpha", digest, "-p", "nist-purge", "--dry-run", "--json").json["order"]
    assert (made["level"], made["profile"]["id"]) == ("purge", "nist-purge")
    less = run("wipe", "alpha", digest, "-p", "nist-purge", "--level", "clear", "--dry-run", "--json").json
    assert less["order"]["level"] == "clear"
    assert run("wipe", "alpha", digest, "-p", "zero", "--level", "purge", "--dry-run").code == 2
    label = tmp_path / "label.txt"
    label.write_text("K7Q2-M9X4-V8B3-N6Z1-C5L0-P2T7-R4W9-Y6J8\n")
    wipe = ("wipe", "alpha", digest, "-p", "nist-purge", "--dry-run", "--json")
    (target,) = run(*wipe, "--psid", label).json["order"]["targets"]
    assert target["psid"] == "K7Q2M9X4V8B3N6Z1C5L0P2T7R4W9Y6J8"
    assert made["targets"] == [target | {"psid": ""}]
    label.write_text("SERIAL0001")
    assert run(*wipe, "--psid", label).code == 2
    shown = run("profiles", "show", "nist-purge-or-clear").out
    assert "techniques nvme-sanitize-crypto, " in shown and ", overwrite" in shown


def test_the_life_of_keys(run: Run, controller: Controller, machine: MachineRow, tmp_path: Path) -> None:
    listed = json.loads(run("keys", "list", "--json").out)
    assert [(event["event"], event["principal"]) for event in listed] == [
        ("enrolled", f"agent:{machine.machine_id}"),
        ("enrolled", "controller:test"),
    ]
    made = json.loads(run("keys", "rotate", "alpha", "--json").out)
    assert made["command"] == f"expunge-agent rotate-key {made['token']}"
    assert run("keys", "rotate", "alpha", "--controller").code == run("keys", "rotate").code == 2
    assert run("keys", "compromised", "alpha", "--since", "yesterday", "--reason", "x").code == 2
    assert run("keys", "compromised", "alpha", "--since", "2026-01-01T00:00:00", "--reason", "x").code == 2
    assert run("keys", "revoke", "nobody", "--reason", "x").code == 18
    said = run("keys", "revoke", "alpha", "--reason", "sold", "--requested-by", "A. Example")
    assert said.code == 0 and "revoked since" in said.out and "log cosign" in said.out
    assert run("keys", "revoke", "alpha", "--reason", "sold").code == 3
    assert "sold" in run("keys", "list", "alpha").out
    text = run("keys", "signers").out
    assert 'namespaces="expunge-receipt",valid-before="' in text
    assert run("keys", "signers", "--output", tmp_path / "signers").code == 0
    assert (tmp_path / "signers").read_text() == text
    since = run(
        "keys", "compromised", "alpha", "--since", "2026-01-01T01:00:00+01:00", "--reason", "x", "--json"
    )
    assert json.loads(since.out)["since"] == "2026-01-01T00:00:00Z"
    before = controller.signer.public_line
    line = json.loads(run("keys", "rotate", "--controller", "--json").out)["order_key"]
    assert line != before
    assert run("keys", "list").code == 0, "the folder opens with the new key"
    stolen = run(
        "keys", "compromised", "--controller", "--since", "2026-01-01T00:00:00Z", "--reason", "theft"
    )
    assert stolen.code == 0 and "expunge keys rotate MACHINE" in stolen.out
