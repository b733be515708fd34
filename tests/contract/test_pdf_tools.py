"""PDF certificates as programs written by others see them: poppler (text, fonts, attachments, signature) and qpdf.

No public PDF/A validator can be had from Debian, npm or PyPI; what one would look at first is checked here by hand.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from expunge_controller.bundle import zip_bytes
from expunge_controller.bundle_read import check_bundle
from expunge_controller.pdf_made import make_pdf
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.findings import failures
from expunge_controller.render import pdf_blocks
from expunge_controller.render.markup import Hint, Label
from expunge_controller.render.pdf_certificate import ATTACHED, qr_text
from expunge_controller.render.pdf_words import Language, covered
from support.evidence import START, World
from support.pdfs import needs_font, signing_home, with_pdf

MISSING = [
    program
    for program in ("pdftotext", "pdffonts", "pdfdetach", "pdfinfo", "pdfsig", "pdftoppm", "qpdf")
    if not shutil.which(program)
]
pytestmark = [
    needs_font,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed (poppler-utils, qpdf): {', '.join(MISSING)}"),
]


def run(*arguments: object) -> str:
    done = subprocess.run(
        [str(one) for one in arguments], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


@pytest.fixture(scope="module", params=[*Language, "signed"])
def case(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes]]:
    """A bundle's PDF as a file, and the bundle's files."""
    folder = tmp_path_factory.mktemp("pdf")
    home = signing_home(folder / "home") if request.param == "signed" else None
    language = Language.BOTH if request.param == "signed" else Language(request.param)
    files = with_pdf(world, language=language, home=home)
    path = folder / f"{request.param}.pdf"
    path.write_bytes(files["certificate.pdf"])
    return path, files


def test_the_text_is_there_in_its_language(case: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = case
    text = unicodedata.normalize("NFC", run("pdftotext", "-layout", path, "-"))
    plain = " ".join(text.split())
    assert "FICT0001234" in plain
    assert "\u200b" not in text, "a copied digest is the digest"
    english, chinese = "Certificate of media sanitization" in plain, "介质数据清除证书" in plain
    due = {"en": (True, False), "zh": (False, True)}.get(path.stem, (True, True))
    assert (english, chinese) == due
    assert ("not stated" in plain, "未填写" in plain) == due
    assert "Remapped sectors cannot be addressed by the host." in plain


def test_digests_can_be_copied(case: tuple[Path, dict[str, bytes]]) -> None:
    path, files = case
    text = run("pdftotext", "-layout", path, "-")
    found = set(re.findall(r"\b[0-9a-f]{64}\b", text))
    assert len(found) >= 5
    assert all(any(digest.encode() in data for data in files.values()) for digest in found)


def test_all_fonts_are_embedded(case: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = case
    rows = run("pdffonts", path).splitlines()[2:]
    assert rows
    for row in rows:
        assert re.search(r" yes yes yes +\d+ +0$", row), row
    assert any("DroidSansFallback" in row for row in rows) == (path.stem != "en")


def test_the_structure_is_sound_and_says_pdf_a_3b(case: tuple[Path, dict[str, bytes]]) -> None:
    path, files = case
    assert "No syntax or stream encoding errors found" in run("qpdf", "--check", path)
    data = files["certificate.pdf"]
    assert data.startswith(b"%PDF-1.7\n%")
    assert b"<pdfaid:part>3</pdfaid:part><pdfaid:conformance>B</pdfaid:conformance>" in data
    assert b"/OutputIntents" in data
    assert b"/GTS_PDFA1" in data
    for forbidden in (b"/JavaScript", b"/Launch", b"/Encrypt", b"/OpenAction", b"/AA", b"/LZWDecode"):
        assert forbidden not in data
    assert len(re.findall(rb"/AFRelationship\s*/(?:Source|Supplement)", data)) >= len(ATTACHED)
    assert b"(D:20260302093030Z)" in data, "its date is the certificate's"


def test_the_attachments_are_the_bundles_documents(
    case: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    path, files = case
    run("pdfdetach", "-saveall", "-o", tmp_path, path)
    held = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert held == {name: files[name] for name in ATTACHED}


def test_the_signature_is_good_to_others(case: tuple[Path, dict[str, bytes]]) -> None:
    path, _ = case
    if path.stem != "signed":
        done = subprocess.run(["pdfsig", str(path)], capture_output=True, text=True, timeout=60)
        assert "does not contain any signatures" in done.stdout
        return
    said = run("pdfsig", path)
    assert "Signature is Valid." in said
    first = path.with_name("first.pdf")
    data = path.read_bytes()
    first.write_bytes(data[: data.index(b"%%EOF") + 6])
    assert run("pdfinfo", "-meta", path) == run("pdfinfo", "-meta", first) != ""
    assert "Total document signed" in said
    assert "ETSI.CAdES.detached" in said


def test_the_first_page_has_ink_everywhere_it_should(
    case: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    """Rendered, the page is neither blank nor cut: its margins stay white."""
    path, _ = case
    run("pdftoppm", "-gray", "-r", "40", path, tmp_path / "page")
    pages = sorted(tmp_path.glob("page-*.pgm"))
    assert len(pages) >= 3
    for page in pages:
        head, size, depth, pixels = page.read_bytes().split(b"\n", 3)
        width, height = map(int, size.split())
        assert (head, depth) == (b"P5", b"255")
        lines = [pixels[start : start + width] for start in range(0, width * height, width)]
        edge = width * 13 // 210  # the margin is 16 mm of 210
        assert all(set(line[:edge] + line[-edge:]) == {255} for line in lines)
        assert any(min(line) < 100 for line in lines)


@pytest.mark.skipif(shutil.which("zbarimg") is None, reason="zbarimg is not installed (zbar-tools)")
def test_the_qr_code_can_be_read(case: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    path, files = case
    run("pdftoppm", "-r", "150", "-png", path, tmp_path / "page")
    log = parse_certificate(files["certificate.json"]).evidence.log
    assert log is not None
    found = subprocess.run(
        ["zbarimg", "-q", "--raw", *map(str, sorted(tmp_path.glob("page-*.png")))],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert found.strip() == qr_text(log).strip()


def test_no_character_comes_out_as_a_box(tmp_path: Path) -> None:
    """Every character that is shown as itself is found again as itself in the PDF's text."""
    text = "".join(one for one in covered() if one.strip())
    lines = [text[start : start + 60] for start in range(0, len(text), 60)]
    parts = [pdf_blocks.titled(Label("x", "x"), *(pdf_blocks.part(Hint(Label(one, one))) for one in lines))]
    look = pdf_blocks.Look(
        Label("a", "a"), "1", START, "x", Label("b", "b"), Label("c", "c"), Label("d", "d")
    )
    path = tmp_path / "all.pdf"
    path.write_bytes(make_pdf(pdf_blocks.document(look, Language.EN, parts, [])))
    found = unicodedata.normalize("NFKC", run("pdftotext", path, "-"))
    lost = [one for one in text if unicodedata.normalize("NFKC", one)[0] not in found]
    assert lost == []


def test_markup_in_a_value_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    hostile = '#read("data.json") *bold* $x^2$ @ref <label> // no comment'
    parts = [pdf_blocks.titled(Label("x", "x"), pdf_blocks.fields((Label("Serial", "Serial"), hostile)))]
    look = pdf_blocks.Look(
        Label("a", "a"), hostile, START, hostile, Label("b", "b"), Label("c", "c"), Label("d", "d")
    )
    path = tmp_path / "hostile.pdf"
    path.write_bytes(make_pdf(pdf_blocks.document(look, Language.EN, parts, [])))
    assert " ".join(run("pdftotext", "-layout", path, "-").split()).count(hostile) >= 2


def test_an_edited_text_is_found_by_expunge(case: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    """qpdf rewrites the file; it still looks like the certificate, and is not."""
    path, files = case
    edited = tmp_path / "edited.pdf"
    subprocess.run(["qpdf", "--qdf", str(path), str(edited)], timeout=60, check=True)
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(zip_bytes(files | {"certificate.pdf": edited.read_bytes()}))
    assert any("PDF is signed" in step.title for step in failures(check_bundle(bundle)))
    bundle.write_bytes(zip_bytes(files))
    assert failures(check_bundle(bundle)) == []
