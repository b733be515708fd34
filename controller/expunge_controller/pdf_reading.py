"""Reading a PDF of ours with pyHanko: the files inside it, and its signature. It may be hostile."""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.validation import SignatureCoverageLevel, validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from expunge_agent.errors import VerificationError
from expunge_agent.protocol.canonical import sha256_hex

MAX_EMBEDDED = 16 * 1024 * 1024
_COMPRESSED_STRUCTURE = (b"/ObjStm", b"/XRef")
"""Compressed object tables, which typst and pyHanko do not write here: how a PDF hides a bomb."""


class PdfSignature(NamedTuple):
    """What was found of a PDF's own signature: problems, or who signed and when."""

    problems: list[str]
    words: str


def opened(data: bytes) -> PdfFileReader:
    """A reader of `data`. Raises VerificationError for what is not a PDF of the form that expunge writes."""
    if any(mark in data for mark in _COMPRESSED_STRUCTURE):
        raise VerificationError("it is not of the form that expunge writes", "Do not rely on it.")
    logging.getLogger("pyhanko").setLevel(logging.CRITICAL)
    try:
        return PdfFileReader(io.BytesIO(data))
    except Exception as error:
        raise VerificationError("it cannot be read as a PDF", "Do not rely on it.") from error


def embedded(reader: PdfFileReader) -> dict[str, bytes]:
    """The files inside, by name. Raises VerificationError for damage, and for more than `MAX_EMBEDDED` bytes."""
    held: dict[str, bytes] = {}
    try:
        names = reader.root["/Names"]["/EmbeddedFiles"]["/Names"]
        listed = {str(names[place]): names[place + 1] for place in range(0, len(names), 2)}
        if (
            len(listed) * 2 != len(names)
            or "/AF" not in reader.root
            or len(reader.root["/AF"]) != len(listed)
        ):
            raise VerificationError("its files are listed in two ways", "Do not rely on it.")
        for name, file in listed.items():
            if not name == str(file["/F"]) == str(file["/UF"]):
                raise VerificationError("a file in it has two names", "Do not rely on it.")
            held[name] = _unpacked(file["/EF"]["/F"])
    except VerificationError:
        raise
    except Exception as error:
        raise VerificationError("the files in it cannot be read", "Do not rely on it.") from error
    return held


def signature_of(reader: PdfFileReader) -> PdfSignature | None:
    """The PDF's signature; None where there is none."""
    try:
        signatures = list(reader.embedded_signatures)
        if not signatures:
            more = [] if reader.total_revisions == 1 else ["it was changed after it was made"]
            return PdfSignature(more, "") if more else None
        if len(signatures) > 1 or reader.total_revisions != 2:
            return PdfSignature(["it was changed more than once after it was made"], "")
        return _judged(signatures[0], list(_added(reader)))
    except Exception as error:  # noqa: BLE001
        return PdfSignature([f"it cannot be read: {type(error).__name__}"], "")


def _added(reader: PdfFileReader) -> Iterator[str]:
    """What the second revision changed that a signature does not need: it may not touch what is seen."""
    before, now = reader.get_historical_resolver(0), reader.get_historical_resolver(1)
    page = reader.root["/Pages"]["/Kids"].raw_get(0).reference
    known = reader.xrefs.explicit_refs_in_revision(0)
    changed = reader.xrefs.explicit_refs_in_revision(1) & known
    if reader.xrefs.refs_freed_in_revision(1) & known:
        yield "the signature took something out of it"
    for reference in changed - {page, reader.root_ref}:
        yield f"the signature changed object {reference.idnum}"
    pairs = ((reader.root_ref, ("/AcroForm", "/Extensions", "/Version")), (page, ("/Annots",)))
    for reference, may in pairs:
        old, new = before.get_object(reference), now.get_object(reference)
        if {key: repr(value) for key, value in new.items() if key not in may} != {
            key: repr(value) for key, value in old.items()
        }:
            yield "the signature changed how it looks"
    widgets, notes = reader.root["/AcroForm"]["/Fields"], now.get_object(page)["/Annots"]
    if [one.reference for one in widgets] != [one.reference for one in notes]:
        yield "more than a signature was put on it"
    for place in range(len(widgets)):
        if [int(side) for side in widgets[place]["/Rect"]] != [0, 0, 0, 0] or "/AP" in widgets[place]:
            yield "the signature covers something"


def _unpacked(stream: Any) -> bytes:
    """The bytes of an embedded file, never more than `MAX_EMBEDDED`."""
    if "/Filter" not in stream:
        return bytes(stream.encoded_data)
    if str(stream["/Filter"]) != "/FlateDecode" or "/DecodeParms" in stream:
        raise VerificationError("a file in it is packed in an unknown way", "Do not rely on it.")
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(stream.encoded_data, MAX_EMBEDDED)
    if not unpacker.eof:
        raise VerificationError("a file in it is too large or damaged", "Do not rely on it.")
    return data


def _judged(signature: Any, problems: list[str]) -> PdfSignature:
    certificate = signature.signer_cert
    context = ValidationContext(trust_roots=[certificate], allow_fetching=False)
    status = validate_pdf_signature(signature, context, ts_validation_context=context)
    if not (status.intact and status.valid):
        problems.append("the signature is not of these bytes")
    if status.coverage is not SignatureCoverageLevel.ENTIRE_FILE:
        problems.append("the signature does not cover the whole file")
    if status.modification_level not in (None, ModificationLevel.NONE):
        problems.append("it was changed after it was signed")
    stamped, when = status.timestamp_validity, ""
    if stamped is not None:
        by = sha256_hex(stamped.signing_cert.dump())
        when = f"; time stamp {stamped.timestamp:%Y-%m-%dT%H:%M:%SZ} by {by}"
        if not (stamped.intact and stamped.valid):
            problems.append("its time stamp is not for this signature")
    said = f"certificate SHA-256 {sha256_hex(certificate.dump())}: trust in it is by this fingerprint{when}"
    return PdfSignature(problems, said)
