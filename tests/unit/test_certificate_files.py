"""The certificate about files below a directory: made from a real receipt, checked against it, shown in both languages."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from expunge_agent.devices.file_facts import ground_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.wipe import run_order
from expunge_controller.records.certificate import MediumRecord, freeze_certificate, parse_certificate
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.certify import certificate_from
from expunge_controller.records.receipt_checks import order_problems
from expunge_controller.render.certificate_html import certificate_html
from support.agents import NOW, Bench, surroundings
from support.trees import MARK, tree


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "tree").mkdir()
    if (kind := ground_of(str(tmp_path / "tree"), Eyes.open()).filesystem) not in ("ext4", "xfs"):
        pytest.skip(f"needs temporary files on ext4 or xfs, not {kind}")
    for name in ("one", "two<script>"):
        (tmp_path / "tree" / name).write_bytes(MARK * 100)
    (tmp_path / "again").hardlink_to(tmp_path / "tree/two<script>")
    return Bench.make(tmp_path / "state")


def test_files_stand_in_the_certificate(bench: Bench, tmp_path: Path) -> None:
    order = bench.order(policy="nist-clear", targets=[tree(tmp_path / "tree")], allow_exceptions=True)
    body, signature = bench.sign(order)
    sealed = run_order(bench.state, bench.hand_in(body, signature), surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    assert receipt.outcome is Outcome.EXCEPTIONS
    assert order_problems(receipt, body) == []
    made = certificate_from(
        sealed.body,
        sealed.signature,
        0,
        order=order,
        facts=MediumRecord(),
        number="C-1",
        issued_at=NOW,
        issuer="controller:test",
    )
    assert parse_certificate(freeze_certificate(made)) == made
    assert certificate_problems(made, receipt, sealed.body, sealed.signature, order) == []
    page = certificate_html(made)
    for text in (
        "文件",
        "已拒绝，未覆写",
        "1 of 2 files were refused",
        "two&lt;script&gt;: refused",
        "2 names",
    ):
        assert text in page, text
    assert "<script>" not in page
    assert "Capacity" not in page
    files = made.sanitization.files
    assert files is not None
    better = msgspec.structs.replace(
        files, refused=files.found, sanitized=msgspec.structs.replace(files.found, files=U64(2))
    )
    forged = msgspec.structs.replace(
        made, sanitization=msgspec.structs.replace(made.sanitization, files=better)
    )
    assert certificate_problems(forged, receipt, sealed.body, sealed.signature, order)
    other = bench.sign(msgspec.structs.replace(order, allow_exceptions=False))[0]
    assert order_problems(receipt, other)


def test_a_receipt_must_tell_of_files_as_ordered(bench: Bench, tmp_path: Path) -> None:
    order = bench.order(policy="nist-clear", targets=[tree(tmp_path / "tree", names=["one"])])
    body, signature = bench.sign(order)
    sealed = run_order(bench.state, bench.hand_in(body, signature), surroundings())
    assert sealed is not None
    receipt = bench.checked(sealed)
    result = receipt.targets[0]
    assert result.files is not None
    wrong = msgspec.structs.replace(result, files=msgspec.structs.replace(result.files, keep=True))
    problems = order_problems(msgspec.structs.replace(receipt, targets=[wrong]), body)
    assert any("otherwise than ordered" in problem for problem in problems)
