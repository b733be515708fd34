"""Certificates: all fields, nothing invented, nothing hidden; and their page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.errors import DocumentError, NotFoundError, RefusedError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import FileIdentity, Target
from expunge_agent.protocol.order import parse_order
from expunge_agent.protocol.receipt import Stream, TargetResult
from expunge_controller.records.certificate import (
    NOT_RECORDED,
    Certificate,
    MediumRecord,
    Person,
    freeze_certificate,
    parse_certificate,
)
from expunge_controller.records.certify import certifiable, certificate_from
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.render.markup import number, percent, rate, seconds, size, text
from support.evidence import (
    CONTROLLER,
    DISK,
    SIZE,
    START,
    World,
    a_pass,
    a_verification,
    target_result,
)

WORLD = World()
FACTS = MediumRecord(
    performed_by=Person(name="A. Example", title="technician", organisation="Example Works"),
    vendor="Example",
    property_number="PN-0042",
    source="accounting, desk 3",
    classification="confidential",
    data_backed_up="yes",
    backup_location="vault 2",
    classification_after="none",
    destination="external reuse",
    destination_details="charity",
    notes="label torn",
)


def certify(
    result: TargetResult | None = None,
    facts: MediumRecord = FACTS,
    order: bytes | None = None,
    ordered: bool = True,
    **changes: Any,
) -> Certificate:
    order = order or WORLD.order()
    if result is not None:
        changes["targets"] = [result]
    receipt = WORLD.signed_receipt(WORLD.receipt(order, **changes))
    return certificate_from(
        receipt.body,
        receipt.signature,
        0,
        order=parse_order(order) if ordered else None,
        facts=facts,
        number="C-2026-0001",
        issued_at=START,
        issuer=CONTROLLER,
    )


def test_fields_of_the_receipt_and_the_register() -> None:
    made = certify()
    assert made.status == "awaiting validation" and made.register == FACTS
    assert (made.media.model, made.media.serial, made.media.wwn) == (DISK.model, DISK.serial, DISK.wwn)
    assert (made.media.firmware, made.media.logical_sector, made.media.physical_sector) == ("FW01", 512, 4096)
    done = made.sanitization
    assert (done.level_requested, done.level_achieved, done.method) == ("clear", Level.CLEAR, Level.CLEAR)
    assert (done.technique, done.tool, done.verification_status) == (
        "overwrite", "expunge-agent 0.1.0", "passed",
    )  # fmt: skip
    assert [(run.number, run.pattern, run.throughput) for run in done.passes] == [
        (1, "00", SIZE * 1000 // 1250),
        (2, "keyed stream", SIZE * 1000 // 1250),
    ]
    (check,) = done.verifications
    assert (check.of_pass, check.status, check.coverage_ppm, check.reads_medium) == (
        2,
        "passed",
        1_000_000,
        True,
    )
    proof = made.evidence
    assert (proof.case_number, proof.order_id, proof.reason) == ("CASE-17", "EX-2026-0001", "lease ended")
    assert not any(
        getattr(blank, field)
        for blank in (made.attestation, made.validation, made.concurrence)
        for field in blank.__struct_fields__
    )
    assert any("not independently witnessed" in sentence for sentence in made.assurance)


def test_bytes_are_canonical_and_read_back() -> None:
    made = certify()
    body = freeze_certificate(made)
    assert parse_certificate(body) == made and freeze_certificate(parse_certificate(body)) == body
    assert body == freeze_certificate(certify())
    with pytest.raises(DocumentError):
        parse_certificate(body.replace(b"awaiting validation", b"validated"))


def test_what_is_unknown_says_so() -> None:
    bare = target_result(Target(identity=replace(DISK, model=" ", wwn="")), medium=None)
    order = WORLD.order(targets=[bare.target], case_number="", reason="")
    made = certify(bare, MediumRecord(), order=order, ordered=False)
    register = [getattr(made.register, name) for name in made.register.__struct_fields__]
    assert set(register) == {Person(), NOT_RECORDED, "unknown"}
    assert {made.media.model, made.media.wwn, made.media.firmware, made.media.type, made.media.path} == {
        NOT_RECORDED
    }
    assert (made.media.logical_sector, made.media.physical_sector) == (-1, -1)
    assert made.evidence.case_number == made.evidence.reason == NOT_RECORDED


def test_a_file_as_medium() -> None:
    image = FileIdentity(path="/srv/images/old.img", device="254:1", inode=U64(77), size=U64(SIZE))
    target = Target(identity=image)
    made = certify(target_result(target), order=WORLD.order(targets=[target]))
    assert made.media.subject == "media:file:/srv/images/old.img"
    assert made.media.serial == NOT_RECORDED and made.media.identity == image
    assert "/srv/images/old.img" in certificate_html(made)
    for words in ("WWN", "Firmware", "Sector size", "Make / vendor", "Model"):
        assert words not in certificate_html(made)
        assert words in certificate_html(certify())


@pytest.mark.parametrize("outcome", Outcome)
def test_who_gets_a_certificate(outcome: Outcome) -> None:
    result = target_result(Target(identity=DISK), outcome=outcome)
    reason = certifiable(result)
    if outcome in (Outcome.SANITIZED, Outcome.EXCEPTIONS):
        assert reason is None
    else:
        assert reason is not None and str(outcome) in reason
        with pytest.raises(RefusedError) as caught:
            certify(result, outcome=outcome)
        assert caught.value.remedy


@pytest.mark.parametrize("target", [1, -1])
def test_no_such_target(target: int) -> None:
    receipt = WORLD.signed_receipt(WORLD.receipt(WORLD.order()))
    with pytest.raises(NotFoundError):
        certificate_from(
            receipt.body,
            receipt.signature,
            target,
            order=None,
            facts=FACTS,
            number="C-1",
            issued_at=START,
            issuer=CONTROLLER,
        )


def test_shortfalls_are_said_and_shown() -> None:
    result = target_result(
        Target(identity=DISK),
        outcome=Outcome.EXCEPTIONS,
        level_achieved=Level.NONE,
        exceptions=["Pass 2: 512 bytes could not be written."],
        verifications=[a_verification(unreadable_bytes=U64(512), bytes_read=U64(SIZE - 512))],
    )
    made = certify(result, order=WORLD.order(level=Level.PURGE), level_achieved=Level.NONE)
    assert made.sanitization.verification_status == "passed with exceptions"
    assert made.sanitization.verifications[0].status == "failed"
    page = certificate_html(made)
    for shown in (
        "512 bytes could not be written",
        "Remapped sectors",
        "not that the medium obeyed",
        "lower than the level requested",
        "达到级别低于要求级别",
    ):
        assert shown in page, shown
    assert "lower than the level requested" not in certificate_html(certify())


def test_nothing_read_back_is_said() -> None:
    result = target_result(
        Target(identity=DISK),
        outcome=Outcome.EXCEPTIONS,
        exceptions=["Nothing was read back."],
        verifications=[],
    )
    made = certify(result)
    assert made.sanitization.verification_status == "none"
    assert "nothing was read back" in certificate_html(made)


def test_no_key_and_no_time_of_zero() -> None:
    stream = Stream(cipher="aes-256-ctr", key_digest="ab" * 32, key="cd" * 32)
    made = certify(
        target_result(Target(identity=DISK), passes=[a_pass(0, duration_ms=U64(0)), a_pass(1, stream=stream)])
    )
    assert made.sanitization.passes[0].throughput == 0
    assert b"cd" * 32 not in freeze_certificate(made)
    assert "not measured" in certificate_html(made)


class Tags(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_stands_alone() -> None:
    page = certificate_html(certify())
    tags = Tags(page).tags
    assert not {"script", "link", "img", "iframe", "object", "a", "form"} & {tag for tag, _ in tags}
    assert not any(name.startswith("on") or name in ("src", "href") for _, attrs in tags for name in attrs)
    assert not re.search(r"https?:|url\(|@import", page)
    assert "awaiting validation" in page and "待验证" in page
    for told in ("FICT0001234", "PN-0042", "vault 2", "charity", "A. Example, technician, Example Works"):
        assert told in page, told


HOSTILE = "</td><script>alert(1)</script>\"' onload=x &amp; ${body} $body %s {0} \u202egpj.exe \x01\x1b[31m"


def test_hostile_strings_stay_text() -> None:
    evil = replace(DISK, model=HOSTILE, serial="<img src=x>")
    target = Target(identity=evil, hint=HOSTILE)
    order = WORLD.order(targets=[target], case_number=HOSTILE, reason=HOSTILE, requested_by=HOSTILE)
    result = target_result(target, exceptions=[], not_covered=[HOSTILE], technique=HOSTILE)
    facts = MediumRecord(notes=HOSTILE, vendor=HOSTILE, performed_by=Person(name=HOSTILE))
    page = certificate_html(certify(result, facts, order=order, limitations=[HOSTILE]))
    plain = Tags(certificate_html(certify()))
    assert {tag for tag, _ in Tags(page).tags} <= {tag for tag, _ in plain.tags}
    assert not any(attr.startswith("on") for _, attrs in Tags(page).tags for attr in attrs)
    for raw in ("\u202e", "\x01", "\x1b", "<script", "<img"):
        assert raw not in page
    assert "${body}" in "".join(Tags(page).text)


@given(st.text(max_size=200))
def test_any_text_comes_out_as_one_piece_of_text(value: str) -> None:
    parsed = Tags(f"<p>{text(value)}</p>")
    assert [tag for tag, _ in parsed.tags] == ["p"]
    assert "".join(parsed.text).isprintable()
    if value.isprintable():
        assert "".join(parsed.text) == value


def test_every_field_of_the_certificate_is_on_the_page() -> None:
    """Nothing that is certified is left off the printed page: each text of the JSON can be read there."""
    made = certify()
    shown = " ".join("".join(Tags(certificate_html(made)).text).split())
    plain = canonical.parse(freeze_certificate(made))
    for path, value in walk(plain):
        if path[-1] in ("format", "subject") or not isinstance(value, str) or value.isdigit():
            continue
        if value == NOT_RECORDED and path[1:] and path[-1] == "rule":
            continue  # a full read-back goes by no sampling rule
        if value == NOT_RECORDED and path[1] == "performed_by":
            continue  # a person's unknown parts are left out, one who is not recorded at all is not
        assert value in shown or path[0] in ("attestation", "validation", "concurrence"), path


def walk(value: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        return [found for key in value for found in walk(value[key], (*path, key))]
    if isinstance(value, list):
        return [found for item in value for found in walk(item, path)]
    return [(path, value)]


def test_numbers_as_people_read_them() -> None:
    assert number(268435456) == "268,435,456"
    assert size(SIZE) == "268,435,456 bytes (268.43 MB)"
    assert size(512) == "512 bytes"
    assert size(2**64 - 1) == "18,446,744,073,709,551,615 bytes (18446744.07 TB)"
    assert (seconds(1234), seconds(5)) == ("1.234 s", "0.005 s")
    assert (rate(0), rate(214_748_364)) == ("not measured", "214.7 MB/s")
    assert (percent(1_000_000), percent(999_999), percent(1)) == ("100.00 %", "99.99 %", "0.00 %")
