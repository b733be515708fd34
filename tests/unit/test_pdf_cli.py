"""The verbs that write PDFs, tables and registers: what they write, what they say, and how they exit."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_controller import custodian, holdings, pdf_made
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.ledger import register_medium
from expunge_controller.records.consistency import medium_of
from expunge_controller.records.csv_text import BOM
from expunge_controller.records.custody import CustodyKind
from expunge_controller.records.review import NOT_SIGNED
from expunge_controller.render.pdf_summary import summary_data
from expunge_controller.render.pdf_words import Language
from expunge_controller.store.rows import MachineRow, OrderRow
from support.controllers import FakeAgent, disk, now, ordered
from support.fixtures import Run
from support.pdfs import needs_font
from support.people import Folk


@pytest.fixture
def order(controller: Controller, agent: FakeAgent, machine: MachineRow) -> OrderRow:
    """An order whose one medium, disk 1, was sanitized; disk 2 is registered and nothing more."""
    row = ordered(controller, machine)
    store_receipt(controller, machine.machine_id, *agent.receipt(row.body), now=now())
    with controller.store.write() as unit:
        register_medium(
            unit,
            controller,
            disk(2),
            machine_id=machine.machine_id,
            hint="/dev/sdy",
            actor="records officer",
            now=now(),
            property_number="PN-0002",
        )
    return row


@needs_font
def test_a_pdf_and_its_signature(run: Run, order: OrderRow, tmp_path: Path) -> None:
    path = tmp_path / "one.pdf"
    code, out, _ = run("certificate", "pdf", order.order_id, "-o", path, "--language", "zh")
    assert (code, out.split()) == (0, [str(path), f"{path}.sig"])
    assert path.read_bytes().startswith(b"%PDF-1.7")
    number = json.loads(run("certificate", order.order_id, "--json")[1])["number"]
    again = tmp_path / "two.pdf"
    assert run("certificate", "pdf", number, "-o", again, "--language", "zh")[0] == 0
    assert path.read_bytes() == again.read_bytes()
    code, _, err = run("certificate", "pdf", order.order_id, "--target", "2", "-o", path)
    assert code == 18, err


@needs_font
def test_signing_needs_a_certificate_and_then_a_bundle_checks_out(
    run: Run, order: OrderRow, tmp_path: Path
) -> None:
    path, bundle = tmp_path / "one.pdf", tmp_path / "bundle.zip"
    code, _, err = run("certificate", "pdf", order.order_id, "-o", path, "--sign")
    assert (code, "expunge certificate signing-key" in err, path.exists()) == (18, True, False)
    code, out, _ = run("certificate", "signing-key", "--json")
    made = json.loads(out)
    assert (code, len(made["sha256"])) == (0, 64)
    assert run("certificate", "signing-key")[0] == 3
    assert run("certificate", "pdf", order.order_id, "-o", path, "--sign")[0] == 0
    assert b"ETSI.CAdES.detached" in path.read_bytes()
    assert run("export", order.order_id, "-o", bundle, "--sign-pdf")[0] == 0
    code, out, _ = run("verify", bundle, "--json")
    steps = {step["title"]: step for step in json.loads(out)["steps"]}
    assert code == 0
    assert made["sha256"] in steps["the PDF's own signature is good"]["detail"]
    assert run("export", order.order_id, "-o", bundle, "--pdf", "--language", "en")[0] == 0
    code, out, _ = run("verify", bundle)
    assert (code, "language en" in out) == (0, True)
    code, _, err = run("certificate", "pdf", order.order_id, "-o", path, "--tsa", "http://127.0.0.1:9/")
    assert (code, "--sign" in err) == (2, True)
    code, _, err = run(
        "certificate", "pdf", order.order_id, "-o", path, "--sign", "--tsa", "http://127.0.0.1:9/"
    )
    assert (code, "no time stamp" in err) == (14, True)


def test_without_the_font_the_user_is_told_the_package(
    run: Run, order: OrderRow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_made, "FONT_FOLDERS", (tmp_path / "nowhere",))
    for verb in (["certificate", "pdf", order.order_id], ["export", order.order_id, "--pdf"]):
        code, _, err = run(*verb, "-o", tmp_path / "out")
        assert (code, "fonts-droid-fallback" in err) == (18, True)
        assert not (tmp_path / "out").exists()


def test_xml_and_csv(run: Run, order: OrderRow) -> None:
    code, out, _ = run("certificate", order.order_id, "--xml")
    assert code == 0
    assert ElementTree.fromstring(out).tag.endswith("}certificate")
    code, out, _ = run("certificate", "show", order.order_id, "--csv")
    (row,) = csv.DictReader(io.StringIO(out.removeprefix(BOM)))
    assert (code, row["evidence.order_id"]) == (0, order.order_id)
    assert run("certificate", "--csv", order.order_id)[1] == out


@needs_font
def test_summaries(run: Run, order: OrderRow, machine: MachineRow, tmp_path: Path) -> None:
    path = tmp_path / "summary.pdf"
    assert run("certificate", "summary", order.order_id, "-o", path)[0] == 0
    first = path.read_bytes()
    assert run("certificate", "summary", "--machine", machine.name, "-o", path)[0] == 0
    assert path.read_bytes() != first
    assert run("certificate", "summary", "-o", path)[0] == 2
    assert run("certificate", "summary", order.order_id, "-o", path, "--sign")[0] == 18
    assert run("certificate", "signing-key")[0] == 0
    assert run("certificate", "summary", order.order_id, "-o", path, "--sign")[0] == 0
    assert b"ETSI.CAdES.detached" in path.read_bytes()
    assert run("certificate", "summary", "nothing", "-o", path)[0] == 18


def listed(tmp_path: Path, *serials: str) -> Path:
    path = tmp_path / "expected.csv"
    path.write_text("serial\n" + "".join(f"{serial}\n" for serial in serials))
    return path


def test_reconciliation_exits_with_18_while_something_is_open(
    run: Run, order: OrderRow, machine: MachineRow, tmp_path: Path
) -> None:
    one, two = disk(1).serial, disk(2).serial
    table = tmp_path / "sheet.csv"
    expected = listed(tmp_path, one, two, "LOST-1")
    code, out, _ = run("register", "reconcile", machine.name, "--expected", expected, "-o", table, "--json")
    told = json.loads(out)
    assert (code, told["complete"]) == (18, False)
    assert [one["finding"] for one in told["media"]] == ["sanitized", "no receipt", "missing"]
    assert table.read_text().count("\n") == 4
    code, out, _ = run("register", "reconcile", machine.name, "--expected", listed(tmp_path, one))
    assert (code, "1 not expected" in out) == (0, True)
    bad = tmp_path / "bad.csv"
    bad.write_text("name\nx\n")
    assert run("register", "reconcile", machine.name, "--expected", bad)[0] == 20
    assert run("register", "reconcile", "nobody", "--expected", expected)[0] == 18


@needs_font
def test_registers_as_pdf(run: Run, order: OrderRow, machine: MachineRow, tmp_path: Path) -> None:
    expected = listed(tmp_path, disk(1).serial)
    sheet, register = tmp_path / "sheet.pdf", tmp_path / "register.pdf"
    assert run("register", "reconcile", machine.name, "--expected", expected, "-o", sheet)[0] == 0
    assert run("register", "destruction", "-o", register, "--language", "zh")[0] == 0
    assert sheet.read_bytes()[:8] == register.read_bytes()[:8] == b"%PDF-1.7"
    assert run("register", "destruction", "-o", tmp_path / "register.txt")[0] == 2


def test_the_destruction_register_on_the_screen(
    run: Run, order: OrderRow, machine: MachineRow, tmp_path: Path
) -> None:
    details = tmp_path / "details.csv"
    details.write_text(f"serial,title\n{disk(1).serial},2010 年凭证\n")
    told = json.loads(run("register", "destruction", "--details", details, "--json")[1])
    by_name = {one["name"]: one for one in told}
    assert by_name["2010 年凭证"]["destroyed_at"]
    assert [one["destroyed_at"] for name, one in by_name.items() if name != "2010 年凭证"] == [""]
    only = json.loads(run("register", "destruction", "--order", order.order_id, "--json")[1])
    assert len(only) == 1
    assert run("register", "destruction", "--order", "a", "--machine", "b")[0] == 2


def summary_status(controller: Controller, order: OrderRow) -> dict[str, str]:
    """What the summary of an order says in large letters."""
    with controller.store.read() as unit:
        lines = holdings.of_order(unit, order.order_id)
    data = summary_data("a", lines, Language.BOTH, [], issued_at=now(), issuer="x")
    status: dict[str, str] = json.loads(data["data.json"])["status"]
    return status


def test_summary_and_register_follow_the_decision(
    run: Run, controller: Controller, order: OrderRow, tmp_path: Path
) -> None:
    table = tmp_path / "register.csv"
    (one,) = json.loads(run("register", "destruction", "--order", order.order_id, "--json")[1])
    assert (one["status"], one["decisions"]) == ("awaiting validation", [])
    assert summary_status(controller, order) == {"en": "awaiting validation", "zh": "待验证"}

    folk = Folk(controller)
    key = folk.add("val", "validator")
    folk.record(medium_of(disk(1))[1], CustodyKind.APPROVED, {"validator": "val"})
    (one,) = json.loads(run("register", "destruction", "--order", order.order_id, "--json")[1])
    (decision,) = one["decisions"]
    assert (one["status"], decision["decision"], decision["who"]) == ("approved", "approved", "Val Example")
    assert decision["key"] == sshsig.fingerprint(key.public_line)
    assert summary_status(controller, order) == {"en": "approved", "zh": "已批准"}
    code, shown, _ = run("register", "destruction", "--order", order.order_id, "-o", table)
    said = f"approved by Val Example, {decision['at']}"
    (row,) = csv.DictReader(io.StringIO(table.read_text(encoding="utf-8").removeprefix(BOM)))
    assert (code, "Example" in shown, row["status"], row["decided"]) == (0, True, "approved", said)


def test_a_decision_under_a_name_only_is_called_that(
    run: Run, controller: Controller, order: OrderRow, tmp_path: Path
) -> None:
    folk, table = Folk(controller), tmp_path / "register.csv"
    body = folk.draft(medium_of(disk(1))[1], CustodyKind.APPROVED, {}, actor="somebody")
    custodian.record(controller, body, [], now())
    (one,) = json.loads(run("register", "destruction", "--order", order.order_id, "--json")[1])
    assert [(said["name"], said["key"]) for said in one["decisions"]] == [("somebody", "")]
    assert "somebody" in run("register", "destruction", "-o", table)[1]
    assert f"approved by somebody, {one['decisions'][0]['at']}, {NOT_SIGNED}" in table.read_text()
    assert summary_status(controller, order) == {
        "en": "approved, not signed by a person",
        "zh": "已批准，未经本人签名",
    }


def test_a_refused_medium_is_not_called_destroyed(
    run: Run, controller: Controller, agent: FakeAgent, machine: MachineRow
) -> None:
    row = ordered(controller, machine)
    refusal = Refusal(reason=Reason.EXPIRED, detail="The order expired.", remedy="Order it again.")
    receipt = agent.receipt(
        row.body, outcome=Outcome.REFUSED, refusal=refusal, targets=[], level_achieved=Level.NONE
    )
    store_receipt(controller, machine.machine_id, *receipt, now=now())
    (one,) = json.loads(run("register", "destruction", "--json")[1])
    assert (one["outcome"], one["destroyed_at"], one["certificate"]) == ("refused", "", "")
