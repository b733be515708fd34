"""A bundle with a PDF: a good one passes, an edited or exchanged one does not, and what is missing here is said."""

from __future__ import annotations

import io
import sys
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import tsp
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.timestamps import DummyTimeStamper

from expunge_agent.errors import DocumentError, NotFoundError, RefusedError, VerificationError
from expunge_agent.protocol import sshsig
from expunge_controller import pdf_check, pdf_made, pdf_reading, pdf_signing
from expunge_controller.pdf_check import INSIDE, SAME, SIGNATURE, check_pdf
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import Status, Step, failures
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.render.pdf_words import Language
from expunge_controller.settings import Home
from support.evidence import PROFILE, World
from support.pdfs import needs_font, signing_home, with_pdf

pytestmark = needs_font
PDF = "certificate.pdf"


def check(files: dict[str, bytes]) -> list[Step]:
    return verify_bundle(
        files,
        None,
        page=certificate_html,
        readme=readme,
        profiles={PROFILE.digest: PROFILE},
        pdf=check_pdf,
    )


def failed(files: dict[str, bytes]) -> str:
    return " | ".join(f"{step.title}: {step.detail}" for step in failures(check(files)))


def said(files: dict[str, bytes]) -> dict[str, tuple[Status, str]]:
    return {step.title: (step.status, step.detail) for step in check(files)}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return signing_home(tmp_path_factory.mktemp("signer") / "home")


@pytest.fixture(scope="module")
def plain(world: World) -> dict[str, bytes]:
    return with_pdf(world)


@pytest.fixture(scope="module")
def signed(world: World, home: Home) -> dict[str, bytes]:
    return with_pdf(world, home=home)


def resigned(world: World, files: dict[str, bytes], data: bytes) -> dict[str, bytes]:
    """The bundle with `data` for its PDF, signed by a controller that lies, and the guide made for it."""
    signature = sshsig.sign(world.controller, sshsig.CERTIFICATE_NAMESPACE, data)
    return files | {PDF: data, PDF + ".sig": signature}


def rewritten(data: bytes, change: Any) -> bytes:
    """`data` with `change` made in another revision, as an editor of PDFs does it."""
    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def other_text(writer: IncrementalPdfFileWriter) -> None:
    page = writer.root["/Pages"]["/Kids"][0]
    page["/Contents"] = writer.add_object(generic.StreamObject(stream_data=b"BT ET"))
    writer.update_container(page)


@pytest.mark.parametrize("language", Language)
def test_a_pdf_in_every_language_passes(world: World, language: Language) -> None:
    files = with_pdf(world, language=language)
    assert failed(files) == ""
    found = said(files)
    assert found[SAME] == (Status.PASSED, f"language {language}")
    assert found[INSIDE] == (Status.PASSED, "6 files")
    assert found[SIGNATURE][0] is Status.SKIPPED
    assert "certificate.json" in found[SIGNATURE][1]
    assert with_pdf(world, language=language)[PDF] == files[PDF], "the same evidence gives the same bytes"


def test_a_signed_pdf_passes_and_says_by_whom(signed: dict[str, bytes], home: Home) -> None:
    assert failed(signed) == ""
    found = said(signed)
    assert found[SAME] == (Status.PASSED, "language both, with a signature after it")
    assert "certificate SHA-256 " in found[SIGNATURE][1]
    assert "time stamp" not in found[SIGNATURE][1]


def test_a_time_stamp_is_put_into_the_signature(world: World, home: Home) -> None:
    """B-T, by a stand-in for the authority: the hook for RFC 3161."""
    place = pdf_signing.identity_of(home)
    authority = pdf_signing._signer(place)
    at = datetime(2026, 3, 2, 10, tzinfo=UTC)
    stamper = DummyTimeStamper(authority.signing_cert, authority.signing_key, fixed_dt=at)
    files = with_pdf(world, home=home, timestamper=stamper)
    assert failed(files) == ""
    assert "time stamp 2026-03-02T10:00:00Z" in said(files)[SIGNATURE][1]


class Authority(BaseHTTPRequestHandler):
    """A time-stamping authority of one thread, on loopback; the stamper does the work."""

    stamper: DummyTimeStamper

    def do_POST(self) -> None:
        asked = tsp.TimeStampReq.load(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.stamper.request_tsa_response(asked).dump()
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_time_stamp_from_an_address(world: World, home: Home) -> None:
    signer = pdf_signing._signer(pdf_signing.identity_of(home))
    at = datetime(2026, 3, 2, 11, tzinfo=UTC)
    kind = type(
        "Here",
        (Authority,),
        {"stamper": DummyTimeStamper(signer.signing_cert, signer.signing_key, fixed_dt=at)},
    )
    with HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            stamper = pdf_signing.timestamper_at(f"http://127.0.0.1:{server.server_port}/")
            files = with_pdf(world, home=home, timestamper=stamper)
        finally:
            server.shutdown()
            thread.join()
    assert failed(files) == ""
    assert "time stamp 2026-03-02T11:00:00Z by " in said(files)[SIGNATURE][1]


@pytest.mark.parametrize("which", ["plain", "signed"])
def test_a_changed_bit_is_found(which: str, request: pytest.FixtureRequest) -> None:
    files = request.getfixturevalue(which)
    data = files[PDF]
    for position in range(0, len(data), len(data) // 40):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        assert failed(files | {PDF: bytes(changed)}), position


def test_a_lying_controller_cannot_edit_the_text(world: World, plain: dict[str, bytes]) -> None:
    edited = rewritten(plain[PDF], other_text)
    found = failed(resigned(world, plain, edited))
    assert f"{SAME}: made again, it is different" in found
    assert f"{SIGNATURE}: it was changed after it was made" in found


def test_text_edited_before_the_signature(world: World, plain: dict[str, bytes], home: Home) -> None:
    """The signature is good and covers everything; what it covers is not what the documents make."""
    edited = pdf_signing.sign_pdf(rewritten(plain[PDF], other_text), home)
    found = failed(resigned(world, plain, edited))
    assert SAME in found
    assert "more than once" in found


def test_text_edited_by_the_signature_itself(world: World, signed: dict[str, bytes], home: Home) -> None:
    """Here the first revision is as it should be: only what the second adds tells."""
    first = signed[PDF][: signed[PDF].index(b"%%EOF") + 6]
    edited = _signed_with(first, home, other_text)
    assert edited.startswith(first)
    found = failed(resigned(world, signed, edited))
    assert SAME not in found
    assert "the signature changed how it looks" in found


def _signed_with(data: bytes, home: Home, change: Any) -> bytes:
    """Signed in the same revision in which `change` is made."""
    from pyhanko.sign import fields, signers

    writer = IncrementalPdfFileWriter(io.BytesIO(data))
    change(writer)
    wish = signers.PdfSignatureMetadata(
        field_name="expunge", md_algorithm="sha256", subfilter=fields.SigSeedSubFilter.PADES
    )
    out = io.BytesIO()
    signers.PdfSigner(wish, signer=pdf_signing._signer(pdf_signing.identity_of(home))).sign_pdf(
        writer, output=out
    )
    return out.getvalue()


def test_something_added_after_the_signature(world: World, signed: dict[str, bytes]) -> None:
    edited = rewritten(signed[PDF], other_text)
    assert "more than once" in failed(resigned(world, signed, edited))


def test_a_pdf_of_another_bundle(world: World, plain: dict[str, bytes]) -> None:
    other = with_pdf(world, world.parts(finished_at="2026-03-02T09:30:10Z"))
    found = failed(plain | {name: other[name] for name in (PDF, PDF + ".sig")})
    assert f"{SAME}: made again" in found
    assert "its receipt.json is another one" in found


def test_another_signer(world: World, plain: dict[str, bytes]) -> None:
    signature = sshsig.sign(World().controller, sshsig.CERTIFICATE_NAMESPACE, plain[PDF])
    assert "the certificate's PDF is signed" in failed(plain | {PDF + ".sig": signature})


@pytest.mark.parametrize("gone", ["certificate.pdf.sig", "certificate.json"])
def test_what_belongs_to_it_is_missing(plain: dict[str, bytes], gone: str) -> None:
    assert f"{gone} is missing" in failed({name: data for name, data in plain.items() if name != gone})


def test_without_typst(plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    status, why = said(plain)[SAME]
    assert (status, "typst" in why) == (Status.SKIPPED, True)
    assert failed(plain) == ""


def test_without_the_font(plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pdf_made, "FONT_FOLDERS", (tmp_path,))
    status, why = said(plain)[SAME]
    assert (status, "fonts-droid-fallback" in why) == (Status.SKIPPED, True)


def test_without_pyhanko(plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "expunge_controller.pdf_reading")
    monkeypatch.delattr("expunge_controller.pdf_reading")
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyhanko"]:
        monkeypatch.setitem(sys.modules, name, None)
    found = said(plain)
    assert found[INSIDE] == (Status.SKIPPED, "pyHanko, which reads PDFs, is not installed")
    assert found[SIGNATURE][0] is Status.SKIPPED
    assert found[SAME][0] is Status.PASSED
    with pytest.raises(NotFoundError, match="pyHanko"):
        pdf_signing.sign_pdf(plain[PDF], Home(tmp_path))


def test_made_by_other_versions_is_skipped_not_passed(
    world: World, plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf_check, "tools", lambda: ["expunge=0.1.0", "typst=9.9.9"])
    monkeypatch.setattr(pdf_check, "make_pdf", lambda _data: b"otherwise")
    status, why = said(plain)[SAME]
    assert (status, "it was made with typst" in why) == (Status.SKIPPED, True)


@pytest.mark.parametrize("data", [b"", b"%PDF-1.7\n", b"%PDF-1.7\n/ObjStm\n%%EOF", b"\x00" * 4096])
def test_no_pdf_at_all(world: World, plain: dict[str, bytes], data: bytes) -> None:
    assert INSIDE in failed(resigned(world, plain, data))


def test_a_bomb_is_not_unpacked(plain: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_reading, "MAX_EMBEDDED", 1000)
    with pytest.raises(VerificationError, match="too large"):
        pdf_reading.embedded(pdf_reading.opened(plain[PDF]))


def test_no_signing_certificate(plain: dict[str, bytes], tmp_path: Path, home: Home) -> None:
    with pytest.raises(NotFoundError, match=r"pdf_certificate\.pem") as caught:
        pdf_signing.sign_pdf(plain[PDF], Home(tmp_path))
    assert "signing-key" in caught.value.remedy
    with pytest.raises(RefusedError, match="is there already"):
        pdf_signing.make_identity(home, "again", datetime.now(UTC))
    assert pdf_signing.identity_of(home).key.stat().st_mode & 0o777 == 0o600
    broken = Home(tmp_path)
    broken.keys.mkdir()
    for path in pdf_signing.identity_of(broken):
        path.write_text("not a key\n")
    with pytest.raises(DocumentError, match="not a certificate and its key"):
        pdf_signing.sign_pdf(plain[PDF], broken)


def test_a_certificate_with_the_key_of_another(plain: dict[str, bytes], tmp_path: Path, home: Home) -> None:
    mixed, other = Home(tmp_path / "mixed"), signing_home(tmp_path / "other")
    mixed.keys.mkdir(parents=True)
    ours, theirs = pdf_signing.identity_of(home), pdf_signing.identity_of(other)
    pdf_signing.identity_of(mixed).certificate.write_bytes(ours.certificate.read_bytes())
    pdf_signing.identity_of(mixed).key.write_bytes(theirs.key.read_bytes())
    with pytest.raises(DocumentError, match="not a certificate and its key"):
        pdf_signing.sign_pdf(plain[PDF], mixed)
