"""Certificates in forms for other programs: a line of CSV, and XML. The signed document is the JSON alone. Pure.

XML: ``<certificate xmlns="urn:expunge:certificate:v1">`` holds an element for each member of certificate.json, by
its name; objects nest, a list holds an ``<item>`` for each of its values, null is an empty element with
``nil="true"``. CSV: a line for a certificate; members of an object are columns ``media.serial``; texts of a list
stand in one cell, parted by `` | ``; other lists and evidence of one kind of target are JSON in one cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from expunge_agent.protocol import canonical
from expunge_controller.records.certificate import Certificate, freeze_certificate
from expunge_controller.records.csv_text import csv_text

NAMESPACE = "urn:expunge:certificate:v1"
_NESTED = {"media", "register", "performed_by", "sanitization", "profile", "evidence", "log"}
_NESTED |= {"attestation", "validation", "concurrence"}
_XML_CONTROL = {*"\t\n\r"}


def certificates_csv(certificates: Sequence[Certificate]) -> str:
    """A table with a line for each; the columns are the same for all certificates."""
    columns = list(_columns(Certificate, ""))
    rows = [[_cell(_reach(_plain(one), column)) for column in columns] for one in certificates]
    return csv_text(columns, rows)


def certificate_xml(certificate: Certificate) -> str:
    """The certificate as XML 1.0 without a document type; characters that XML cannot hold stand as their code."""
    body = "\n".join(_elements(_plain(certificate), "  "))
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<certificate xmlns="{NAMESPACE}">\n{body}\n</certificate>\n'
    )


def _plain(certificate: Certificate) -> dict[str, Any]:
    plain: dict[str, Any] = canonical.parse(freeze_certificate(certificate))
    return plain


def _columns(kind: type, before: str) -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        name = field.encode_name
        inner = _struct_in(field.type) if name in _NESTED else None
        if inner is None:
            yield before + name
        else:
            yield from _columns(inner, f"{before}{name}.")


def _struct_in(kind: Any) -> type | None:
    """The struct that a field holds, be it optional."""
    for one in (kind, *getattr(kind, "__args__", ())):
        if isinstance(one, type) and issubclass(one, msgspec.Struct):
            return one
    return None


def _reach(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " | ".join(value)
    return value if isinstance(value, str) else canonical.dumps(value).decode()


def _elements(value: dict[str, Any], indent: str) -> Iterator[str]:
    for name, inner in value.items():
        yield from _element(name, inner, indent)


def _element(name: str, value: Any, indent: str) -> Iterator[str]:
    if value is None:
        yield f'{indent}<{name} nil="true"/>'
    elif value == []:
        yield f"{indent}<{name}/>"
    elif isinstance(value, dict | list):
        yield f"{indent}<{name}>"
        if isinstance(value, dict):
            yield from _elements(value, indent + "  ")
        else:
            for one in value:
                yield from _element("item", one, indent + "  ")
        yield f"{indent}</{name}>"
    else:
        text = value if isinstance(value, str) else canonical.dumps(value).decode()
        yield f"{indent}<{name}>{escape(_xml_text(text))}</{name}>"


def _xml_text(text: str) -> str:
    """`text` in characters that XML 1.0 (§2.2) can hold; CR as a code, for a parser would change it."""
    return "".join(one if _xml_holds(one) else f"\\u{{{ord(one):04x}}}" for one in text)


def _xml_holds(one: str) -> bool:
    code = ord(one)
    if one == "\r" or (code < 0x20 and one not in _XML_CONTROL):
        return False
    return not (0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code in (0xFFFE, 0xFFFF))
