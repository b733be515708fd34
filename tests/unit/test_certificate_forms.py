"""Certificates as CSV and XML: whole, well-formed, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.protocol import canonical
from expunge_controller.records.certificate import (
    Certificate,
    MediumRecord,
    freeze_certificate,
    parse_certificate,
)
from expunge_controller.records.certificate_forms import NAMESPACE, certificate_xml, certificates_csv
from expunge_controller.records.csv_text import BOM, csv_text, guarded
from support.evidence import World


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return parse_certificate(made(World()))


def made(world: World) -> bytes:
    certificate = world.parts().certificate
    assert certificate is not None
    return certificate.body


def told(element: ElementTree.Element) -> Any:
    """What an element says, by the shape that is documented."""
    children = list(element)
    names = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in children]
    if element.get("nil") == "true":
        return None
    if not children:
        return element.text or ""
    if set(names) == {"item"}:
        return [told(child) for child in children]
    assert len(set(names)) == len(names)
    return {name: told(child) for name, child in zip(names, children, strict=True)}


def flat(value: Any) -> Any:
    """JSON as XML can tell it: numbers and truth as text, an empty list like an empty text."""
    if isinstance(value, dict):
        return {name: flat(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [flat(inner) for inner in value] or ""
    return value if value is None or isinstance(value, str) else canonical.dumps(value).decode()


def test_xml_says_all_that_the_certificate_says(certificate: Certificate) -> None:
    root = ElementTree.fromstring(certificate_xml(certificate))
    assert root.tag == f"{{{NAMESPACE}}}certificate"
    assert told(root) == flat(canonical.parse(freeze_certificate(certificate)))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_xml_is_well_formed_whatever_a_drive_says(certificate: Certificate, text: str) -> None:
    changed = replace(certificate, register=replace(certificate.register, notes=f"[{text}]"))
    root = ElementTree.fromstring(certificate_xml(changed).encode())
    notes = root.find(f"{{{NAMESPACE}}}register/{{{NAMESPACE}}}notes")
    assert notes is not None
    assert (notes.text or "").startswith("[")
    if text.isascii() and text.isprintable():
        assert notes.text == f"[{text}]"


def test_csv_has_the_same_columns_for_all(certificate: Certificate) -> None:
    world = World()
    order = world.purge_order()
    receipt = world.signed_receipt(world.purged(order))
    purged = parse_certificate(world.certificate(receipt, order).body)
    text = certificates_csv([certificate, purged])
    assert text.startswith(BOM)
    first, second = csv.DictReader(io.StringIO(text.removeprefix(BOM)))
    assert first["media.serial"] == "FICT0001234"
    assert first["register.performed_by.name"] == "A. Example"
    assert first["sanitization.not_covered"] == "Remapped sectors cannot be addressed by the host."
    assert first["evidence.log.leaf"] == certificate.evidence.log.leaf  # type: ignore[union-attr]
    assert (second["evidence.log.leaf"], first["sanitization.erasure"]) == ("", "")
    assert '"technique":"nvme-sanitize-crypto"' in second["sanitization.erasure"]
    assert first["media.logical_sector"] == "512"


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", "\n=1"])
def test_no_cell_becomes_a_formula(certificate: Certificate, formula: str) -> None:
    assert guarded(formula).startswith("'")
    changed = replace(certificate, register=MediumRecord(notes=formula, source="a=b"))
    (row,) = csv.DictReader(io.StringIO(certificates_csv([changed]).removeprefix(BOM), newline=""))
    assert row["register.notes"].startswith("'")
    assert row["register.source"] == "a=b"
    assert not [cell for cell in row.values() if cell.lstrip(" ")[:1] in tuple("=+-@")]


def test_cells_are_quoted() -> None:
    text = csv_text(["a", "b"], [['say "hi", you', "two\nlines"]])
    assert text == BOM + 'a,b\r\n"say ""hi"", you","two\nlines"\r\n'
