"""docs/schema is what the types say, and its patterns are ones that other programs know."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from expunge_agent.protocol import canonical
from support.evidence import World

ROOT = Path(__file__).parents[2]


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("schemas", ROOT / "tools" / "schemas.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAMES = tuple(tool().SCHEMAS)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_schema_is_the_types(name: str) -> None:
    published = (ROOT / "docs" / "schema" / f"{name}.schema.json").read_text(encoding="utf-8")
    assert published == tool().schema_text(name), "run: .venv/bin/python tools/schemas.py"


def problems(value: Any, schema: dict[str, Any], root: dict[str, Any], where: str = "$") -> list[str]:
    """A small validator for what our schemas use; an unknown word of a schema is a problem, too."""
    if "$ref" in schema:
        return problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        tries = [problems(value, one, root, where) for one in schema["anyOf"]]
        return [] if [] in tries else min(tries, key=len)
    known = {
        "type",
        "title",
        "description",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
    }
    known |= {"pattern", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "default"}
    found = [f"{where}: {word} is not known" for word in set(schema) - known - {"$schema", "$id", "$defs"}]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r}")
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "boolean": bool,
        "null": type(None),
    }
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [*found, f"{where}: {value!r} is no {schema['type']}"]
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{where}: {value!r} does not fit {schema['pattern']}")
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{where}: {name} is missing" for name in schema.get("required", []) if name not in value]
        for name, inner in value.items():
            if name not in schema["properties"]:
                found.append(f"{where}: {name} is too much")
            else:
                found += problems(inner, schema["properties"][name], root, f"{where}.{name}")
    if isinstance(value, list):
        found += [line for one in value for line in problems(one, schema["items"], root, f"{where}[]")]
    return found


def documents() -> dict[str, list[bytes]]:
    world = World()
    parts = world.parts()
    assert parts.certificate is not None
    order = world.purge_order()
    purged = world.signed_receipt(world.purged(order))
    return {
        "certificate": [parts.certificate.body, world.certificate(purged, order).body],
        "receipt": [parts.receipt.body, purged.body],
    }


@pytest.mark.parametrize("name", NAMES)
def test_real_documents_fit_their_schema(name: str) -> None:
    schema = json.loads((ROOT / "docs" / "schema" / f"{name}.schema.json").read_text())
    for body in documents()[name]:
        document: dict[str, Any] = canonical.parse(body)
        assert problems(document, schema, schema) == []
        assert problems(document | {"more": 1}, schema, schema)
        gone = {key: value for key, value in document.items() if key not in ("number", "subject")}
        assert problems(gone, schema, schema)


@pytest.mark.parametrize("name", NAMES)
def test_no_pattern_is_pythons_own(name: str) -> None:
    text = (ROOT / "docs" / "schema" / f"{name}.schema.json").read_text()
    assert '"pattern"' in text
    assert "\\\\Z" not in text
