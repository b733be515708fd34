"""PDF certificates: what they say in each language, of whatever a drive says, and that nothing is left blank."""

from __future__ import annotations

import json
import re
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.core import limitations
from expunge_agent.errors import DocumentError, NotFoundError
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import SpaceIdentity, Target
from expunge_agent.protocol.receipt import Conduct, parse_statement
from expunge_agent.protocol.receipt_keys import KeyDestruction
from expunge_agent.protocol.receipt_parts import ByteRange, RangeProblem
from expunge_controller import pdf_made
from expunge_controller.bundle import bundle_files
from expunge_controller.pdf_made import make_pdf
from expunge_controller.records.certificate import Person, freeze_certificate, parse_certificate
from expunge_controller.records.destruction import items_of
from expunge_controller.records.media_lines import MediumLine, SignedCertificate, medium_line
from expunge_controller.records.media_list import parse_list
from expunge_controller.records.reconcile import reconcile
from expunge_controller.records.review import Decision
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Hint, Label
from expunge_controller.render.pdf_certificate import certificate_data, qr_text
from expunge_controller.render.pdf_destruction import destruction_data
from expunge_controller.render.pdf_picture import CELLS, MAX_SHOWN_RANGES, picture, ranges
from expunge_controller.render.pdf_reconciliation import reconciliation_data
from expunge_controller.render.pdf_summary import summary_data
from expunge_controller.render.pdf_words import NOT_STATED, Language, cell, covered, shown
from support.evidence import DISK, SIZE, World, a_pass, a_verification, target_result
from support.pdfs import needs_font

HOSTILE = '#set text(red) *bold* $x^2$ @ref <label> \\u{41} ]] #read("data.json")'
NOW = datetime(2026, 3, 3, tzinfo=UTC)
LOOK = pdf_blocks.Look(
    Label("a", "甲"), "1", NOW, "somebody", Label("b", "乙"), Label("c", "丙"), Label("d", "丁")
)


@pytest.fixture(scope="module")
def files(world: World) -> dict[str, bytes]:
    return bundle_files(world.parts())


def data_of(files: dict[str, bytes], language: Language = Language.BOTH) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(certificate_data(files, language, signed=False)["data.json"])
    return told


def every_cell(value: Any) -> list[str]:
    """All texts in the data, one by one; both languages of a caption as one."""
    if isinstance(value, dict):
        if set(value) == {"en", "zh"}:
            return [f"{value['en']} {value['zh']}"]
        return [text for inner in value.values() for text in every_cell(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in every_cell(inner)]
    return [str(value)]


def rows(data: dict[str, Any], title: str) -> dict[str, str]:
    """The captions and values of a section's tables."""
    (part,) = [one for one in data["parts"] if one.get("title", {}).get("en") == title]
    found = [row for one in part["parts"] if one["kind"] == "fields" for row in one["rows"]]
    return {name["en"]: " ".join(every_cell(value)) for name, value in found}


def hurt(world: World, bad: int) -> dict[str, bytes]:
    """Files about a wipe with that many bad ranges."""
    order = world.order()
    problems = [
        RangeProblem(range=ByteRange(start=U64(number * 65536), length=U64(4096)), what="EIO 坏块")
        for number in range(bad)
    ]
    result = target_result(
        Target(identity=DISK, hint="/dev/sdz"),
        outcome=Outcome.EXCEPTIONS,
        passes=[a_pass(0), a_pass(1, errors=problems, error_count=U64(bad), error_bytes=U64(bad * 4096))],
        exceptions=[f"{bad} ranges could not be written."],
    )
    receipt = world.signed_receipt(world.receipt(order, targets=[result], outcome=Outcome.EXCEPTIONS))
    certificate = world.certificate(receipt, order)
    return {
        "receipt.json": receipt.body,
        "receipt.json.sig": receipt.signature,
        "certificate.json": certificate.body,
        "certificate.json.sig": certificate.signature,
    }


def test_all_of_appendix_g_is_there_and_what_nobody_filled_is_not_stated(files: dict[str, bytes]) -> None:
    data = data_of(files)
    person = rows(data, "Person performing sanitization")
    assert person["Name"] == "A. Example"
    assert person["Phone"] == person["Organisation"] == NOT_STATED.plain
    medium = rows(data, "Medium") | rows(data, "From the operator's register")
    for caption in ("Make / vendor", "Model", "Serial number", "Property number", "Media type", "Source"):
        assert medium[caption], caption
    for caption in ("Classification", "Data backed up", "Backup location", "Destination / disposition"):
        assert medium[caption], caption
    assert medium["Classification after sanitization"] == NOT_STATED.plain
    done = rows(data, "Sanitization")
    assert (done["Method type"], done["Tool and version"]) == ("clear 清除", "expunge-agent 0.1.0")
    assert "not recorded" not in " ".join(every_cell(data))
    boxes = [one for part in data["parts"] for one in part.get("parts", []) if one["kind"] == "blanks"]
    assert [box["title"]["zh"] for box in boxes[0]["boxes"]] == [
        "执行人签署",
        "验证人（批准/驳回）",
        "复核会签",
    ]
    assert {value for box in boxes[0]["boxes"] for _, value in box["lines"]} == {""}, "nothing signs itself"


def test_what_is_not_covered_and_who_witnessed(world: World, files: dict[str, bytes]) -> None:
    told = " ".join(every_cell(data_of(files)))
    assert "Remapped sectors cannot be addressed by the host." in told
    assert "audit.example/w1" in told
    parts = world.parts()
    lonely = world.log.reference(parts.receipt)
    alone = replace(lonely, witnesses=[], size=U64(0), root="")
    certificate = world.certificate(parts.receipt, world.order(), alone)
    told = " ".join(every_cell(data_of(files | {"certificate.json": certificate.body})))
    assert "NOT INDEPENDENTLY WITNESSED 未经独立见证" in told


def test_the_qr_code_holds_origin_index_and_leaf(files: dict[str, bytes]) -> None:
    log = parse_certificate(files["certificate.json"]).evidence.log
    assert log is not None
    assert qr_text(log) == (
        f"expunge log entry\norigin {log.log.partition('+')[0]}\nindex {int(log.number)}\nleaf {log.leaf}\n"
    )
    (code,) = [
        one for part in data_of(files)["parts"] for one in part.get("parts", []) if one["kind"] == "qr"
    ]
    assert code == pdf_blocks.qr(qr_text(log))
    assert len(code["rows"]) == len(code["rows"][0]) > 33
    quiet = {"0" * len(code["rows"])}
    assert set(code["rows"][:4]) == set(code["rows"][-4:]) == quiet


def test_the_picture_draws_what_the_receipt_has(world: World) -> None:
    receipt = parse_statement(hurt(world, 3)["receipt.json"]).predicate
    drawn = picture(receipt.targets[0])
    assert drawn is not None
    first, second, read = drawn["parts"][0]["bars"]
    assert first["runs"] == [["done", 0, CELLS]]
    assert second["runs"][0] == ["bad", 0, 1]
    assert sum(run[2] for run in second["runs"]) == CELLS
    assert read["runs"] == [["done", 0, CELLS]]
    assert drawn["parts"][0]["speeds"][0]["average"] == 1000
    bare = replace(receipt.targets[0], passes=[], verifications=[])
    assert picture(bare) is None


def test_a_range_at_the_very_end_is_drawn_there() -> None:
    last = RangeProblem(range=ByteRange(start=U64(SIZE - 512), length=U64(512)), what="EIO")
    result = target_result(
        Target(identity=DISK, hint=""),
        verifications=[a_verification(kind="sampled", unreadable=[last])],
        passes=[a_pass(0, conduct=Conduct(chunk=1, stripes=1, slowest=U64(100), fastest=U64(300_000_000)))],
    )
    drawn = picture(result)
    assert drawn is not None
    assert drawn["parts"][0]["bars"][1]["runs"] == [["part", 0, CELLS - 1], ["bad", CELLS - 1, 1]]
    speed = drawn["parts"][0]["speeds"][0]
    assert (speed["slowest"], speed["fastest"]) == (0, 1000)
    assert speed["average"] == 268_435_456 * 1000 // 1250 * 1000 // 300_000_000


@needs_font
def test_free_space_and_keys_have_speeds_but_no_places() -> None:
    space = SpaceIdentity(path="/srv", device="8:1", filesystem="ext4", uuid="0-1")
    key = KeyDestruction(
        scheme="luks2",
        key="0-1",
        generation=U64(0),
        overwritten=U64(4096),
        conditions=[],
        copies=[],
        readable=[],
    )
    for result in (
        target_result(Target(identity=space, hint="/srv")),
        target_result(Target(identity=DISK, hint="/dev/sdz"), key=key),
    ):
        drawn = picture(result)
        assert drawn is not None
        (figure, legend) = drawn["parts"]
        assert (figure["bars"], len(figure["speeds"])) == ([], 3)
        assert legend["kind"] == "hint"
        assert make_pdf(pdf_blocks.document(LOOK, Language.EN, [drawn], [])).startswith(b"%PDF-1.7")


def test_canaries_are_drawn_where_their_key_puts_them(world: World) -> None:
    order = world.purge_order()
    drawn = picture(world.purged(order).targets[0])
    assert drawn is not None
    assert [bar["label"]["en"] for bar in drawn["parts"][0]["bars"]] == [
        "Canaries",
        "After the command, read",
    ]
    assert {run[0] for run in drawn["parts"][0]["bars"][0]["runs"]} == {"canary"}


def test_hundreds_of_ranges_are_listed_and_the_rest_is_counted(world: World) -> None:
    result = parse_statement(hurt(world, MAX_SHOWN_RANGES + 45)["receipt.json"]).predicate.targets[0]
    listed = ranges(result)
    assert listed is not None
    grid = pdf_blocks.section(listed)["parts"][0]
    assert len(grid["rows"]) == MAX_SHOWN_RANGES + 1
    assert "45 more" in grid["rows"][-1][0]["en"]
    assert ranges(target_result(Target(identity=DISK, hint=""))) is None


@pytest.mark.parametrize(
    ("text", "as_shown"),
    [
        ("介质 SN-1", "介质 SN-1"),
        ("😀", "\\u{1f600}"),
        ("\u202eevil", "\\u{202e}evil"),
        ("한국", "\\u{d55c}\\u{ad6d}"),
        ("\t\x00", "\\u{0009}\\u{0000}"),
        (HOSTILE, HOSTILE),
    ],
)
def test_what_has_no_glyph_is_shown_by_its_code(text: str, as_shown: str) -> None:
    assert shown(text) == as_shown


def test_words_of_ours_are_in_both_languages_and_others_as_recorded() -> None:
    assert cell("passed") == {"en": "passed", "zh": "通过"}
    assert cell("") == cell("not recorded") == {"en": "not stated", "zh": "未填写"}
    assert cell("EXAMPLE HD-2000") == "EXAMPLE HD-2000"


def test_every_limitation_of_the_agent_is_in_chinese() -> None:
    said = [
        sentence for name, sentences in vars(limitations).items() if name.isupper() for sentence in sentences
    ]
    assert len(said) >= 9
    for sentence in said:
        assert re.search("[\u4e00-\u9fff]", cell(sentence)["zh"]), sentence


@needs_font
def test_every_character_that_is_shown_has_a_glyph() -> None:
    """A missing one would be an error of the PDF/A export, or a warning, which is refused, too."""
    text = covered()
    assert "\u4e00" in text
    assert "\u9fa5" in text
    assert not [one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cn", "Co", "Cs")]
    parts = [pdf_blocks.titled(Label("all", "全"), pdf_blocks.part(Hint(Label(text, text))))]
    assert make_pdf(pdf_blocks.document(LOOK, Language.EN, parts, [])).startswith(b"%PDF-1.7")


@needs_font
def test_a_glyph_that_is_missing_is_refused_not_left_blank() -> None:
    data = pdf_blocks.document(LOOK, Language.EN, [], [])
    told = json.loads(data["data.json"])
    told["status"]["en"] = "한국"
    with pytest.raises(DocumentError, match="could not be displayed"):
        make_pdf(data | {"data.json": json.dumps(told).encode()})


@needs_font
def test_hostile_values_stay_text(files: dict[str, bytes]) -> None:
    certificate = parse_certificate(files["certificate.json"])
    register = replace(
        certificate.register, notes=HOSTILE, source="x" * 4000, performed_by=Person(name=HOSTILE)
    )
    changed = replace(certificate, register=register)
    data = certificate_data(
        files | {"certificate.json": freeze_certificate(changed)}, Language.BOTH, signed=False
    )
    assert HOSTILE in every_cell(json.loads(data["data.json"]))
    assert make_pdf(data).startswith(b"%PDF-1.7")


@needs_font
@pytest.mark.parametrize("language", Language)
def test_registers_in_every_language(language: Language) -> None:
    media = [medium_line(replace(DISK, serial=f"S{number}"), path="/dev/sdz") for number in range(70)]
    about = "store-17"
    common: dict[str, Any] = {"issued_at": NOW, "issuer": "controller:x"}
    matches = reconcile(parse_list(b"serial\nS1\nS71\n"), media)
    for data in (
        summary_data(about, media, language, [SignedCertificate("C-1", b"{}", b"sig")], **common),
        reconciliation_data("store-17", matches, language, b"table", **common),
        destruction_data(about, items_of(media, []), language, b"table", **common),
    ):
        first = make_pdf(data)
        assert first == make_pdf(data)
        assert b"<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>" in first


def test_a_summary_hides_no_medium_without_a_certificate() -> None:
    media = [medium_line(DISK, path="/dev/sdz")]
    data = summary_data("a", media, Language.BOTH, [], issued_at=NOW, issuer="controller:x")
    told = " ".join(every_cell(json.loads(data["data.json"])))
    assert "no receipt 无回执" in told
    assert "With a certificate 已取得证书 0" in told


DECIDED = Decision(
    decision="approved",
    name="val",
    full_name="Val Example",
    title="",
    organisation="",
    location="",
    at="2026-03-02T10:00:00Z",
    seq=5,
    event="ab" * 32,
    key="SHA256:x",
    security_key="none",
    remedy="",
    lot="",
    tool="",
    remarks="",
)


def certified(number: int, status: str, *decisions: Decision) -> MediumLine:
    """A medium with a certificate of that status."""
    line = medium_line(replace(DISK, serial=f"S{number}"), path="/dev/sdz")
    return line._replace(certificate=f"C-{number}", status=status, decisions=decisions)


WAITING = certified(1, "awaiting validation")
APPROVED = certified(2, "approved", DECIDED)
NAMED = certified(3, "approved", replace(DECIDED, key=""))
REJECTED = certified(4, "rejected", replace(DECIDED, decision="rejected", full_name=""))
BARE = medium_line(replace(DISK, serial="S5"), path="/dev/sdz")


@pytest.mark.parametrize(
    ("media", "english", "chinese"),
    [
        ([WAITING], "awaiting validation", "待验证"),
        ([APPROVED, APPROVED], "approved", "已批准"),
        ([NAMED, NAMED], "approved, not signed by a person", "已批准，未经本人签名"),
        (
            [APPROVED, NAMED],
            "1 approved; 1 approved, not signed by a person",
            "已批准 1；已批准，未经本人签名 1",
        ),
        ([REJECTED], "rejected", "已驳回"),
        ([BARE], "without a certificate", "无证书"),
        ([], "without a certificate", "无证书"),
        ([APPROVED, BARE], "1 approved; 1 without a certificate", "已批准 1；无证书 1"),
        (
            [BARE, REJECTED, APPROVED, WAITING, APPROVED],
            "1 awaiting validation; 2 approved; 1 rejected; 1 without a certificate",
            "待验证 1；已批准 2；已驳回 1；无证书 1",
        ),
    ],
)
def test_a_summary_says_of_the_certificates_what_they_say(
    media: list[MediumLine], english: str, chinese: str
) -> None:
    told = json.loads(summary_data("a", media, Language.BOTH, [], issued_at=NOW, issuer="x")["data.json"])
    assert told["status"] == {"en": english, "zh": chinese}


def test_lists_say_who_decided_and_whether_they_signed() -> None:
    media = [WAITING, APPROVED, NAMED, REJECTED, BARE]
    summary = summary_data("a", media, Language.BOTH, [], issued_at=NOW, issuer="x")
    register = destruction_data("a", items_of(media, []), Language.BOTH, b"", issued_at=NOW, issuer="x")
    for data in (summary, register):
        (grid, *_) = (
            part
            for section in json.loads(data["data.json"])["parts"]
            for part in section.get("parts", [])
            if part["kind"] == "grid"
        )
        assert [one["en"] for one in grid["head"][-2:]] == ["Status", "Decided by"]
        assert len(grid["widths"]) == len(grid["head"]) == len(grid["rows"][0])
        assert [" / ".join(every_cell(row[-2:])) for row in grid["rows"]] == [
            "awaiting validation 待验证 / –",
            "approved 已批准 / Val Example (approved), 2026-03-02T10:00:00Z",
            "approved, not signed by a person 已批准，未经本人签名 / Val Example (approved), 2026-03-02T10:00:00Z",
            "rejected 已驳回 / val (rejected), 2026-03-02T10:00:00Z",
            "none 无 / –",
        ]


def test_the_register_has_five_opinions_and_three_supervisors() -> None:
    data = destruction_data(
        "a",
        items_of([medium_line(DISK, path="")], []),
        Language.ZH,
        b"",
        issued_at=NOW,
        issuer="x",
    )
    told = json.loads(data["data.json"])
    boxes = [one["boxes"] for part in told["parts"] for one in part["parts"] if one["kind"] == "blanks"]
    assert [len(one) for one in boxes] == [5, 3]
    assert "not destroyed 未销毁" in every_cell(told)


def test_without_the_font_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pdf_made, "FONT_FOLDERS", (tmp_path,))
    with pytest.raises(NotFoundError) as caught:
        make_pdf(pdf_blocks.document(LOOK, Language.EN, [], []))
    assert "fonts-droid-fallback" in caught.value.remedy


def test_without_typst_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(NotFoundError, match="typst"):
        make_pdf(pdf_blocks.document(LOOK, Language.EN, [], []))


@needs_font
def test_a_text_without_end_is_refused() -> None:
    told = Hint(Label("x" * (pdf_made.MAX_DATA // 2), ""))
    data = pdf_blocks.document(
        LOOK, Language.EN, [pdf_blocks.titled(Label("a", ""), pdf_blocks.part(told))], []
    )
    with pytest.raises(DocumentError, match="are the most"):
        make_pdf(data)
