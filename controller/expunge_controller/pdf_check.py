"""The check of a bundle's ``certificate.pdf``: made again it is the same, it holds the bundle's documents, and its
own signature is good. What cannot be checked here (a program is missing) is skipped with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from expunge_agent.errors import DocumentError, ExpungeError, NotFoundError, VerificationError
from expunge_controller.pdf_made import make_pdf, tools
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.findings import Checklist
from expunge_controller.render.pdf_certificate import ATTACHED, certificate_data
from expunge_controller.render.pdf_words import Language

SAME = "the certificate's PDF, made again, is the same"
INSIDE = "the certificate's PDF holds the documents of this bundle"
SIGNATURE = "the PDF's own signature is good"

_LANGUAGE = re.compile(rb"language=(en|zh|both)\b")
_SIGNED = b"/ETSI.CAdES.detached"


def check_pdf(checks: Checklist, files: Mapping[str, bytes]) -> None:
    """Take the steps about a PDF whose detached signature is good. Never raises for a bad one."""
    data = files[layout.CERTIFICATE_PDF]
    _made_again(checks, data, files)
    try:
        from expunge_controller import pdf_reading
    except ImportError:
        for title in (INSIDE, SIGNATURE):
            checks.skip(title, "pyHanko, which reads PDFs, is not installed")
        return
    try:
        reader = pdf_reading.opened(data)
        held = pdf_reading.embedded(reader)
    except VerificationError as error:
        checks.check(INSIDE, [error.message])
        checks.skip(SIGNATURE, "the PDF cannot be read")
        return
    due = {name: files[name] for name in ATTACHED if name in files}
    problems = [f"{name} is missing in it" for name in due if name not in held]
    problems += [f"its {name} is another one" for name in due if name in held and held[name] != due[name]]
    problems += [f"{name[:60]!r} does not belong into it" for name in held if name not in due]
    checks.check(INSIDE, problems, f"{len(held)} files")
    signature = pdf_reading.signature_of(reader)
    if signature is None:
        checks.skip(SIGNATURE, "it has none; the normative document is certificate.json")
    else:
        checks.check(SIGNATURE, signature.problems, signature.words)


def _made_again(checks: Checklist, data: bytes, files: Mapping[str, bytes]) -> None:
    """Record whether the PDF, a signature after it left aside, is what its documents make."""
    named, signed = _LANGUAGE.search(data), _SIGNED in data
    if named is None:
        checks.check(SAME, ["it does not say its language"])
        return
    language = Language(named[1].decode())
    try:
        made = make_pdf(certificate_data(files, language, signed=signed))
    except NotFoundError as error:
        checks.skip(SAME, f"{error.message} {error.remedy}")
        return
    except (ExpungeError, KeyError, IndexError) as error:
        said = error.message if isinstance(error, DocumentError) else "its documents are not whole"
        checks.check(SAME, [said])
        return
    if data == made or (signed and data.startswith(made)):
        checks.check(SAME, [], f"language {language}" + (", with a signature after it" if signed else ""))
        return
    other = _other_tools(data)
    if other:
        checks.skip(SAME, other)
    else:
        checks.check(SAME, ["made again, it is different"])


def _other_tools(data: bytes) -> str:
    """Why it cannot be made again to the byte here; empty where it can."""
    for tool in tools():
        name = tool.partition("=")[0]
        said = re.search(rb"\b" + name.encode() + rb"=([0-9a-z.]{1,64})", data)
        if said is not None and tool != f"{name}={said[1].decode()}":
            return f"it was made with {name} {said[1][:16].decode()}, another one than here; believe certificate.json"
    return ""
