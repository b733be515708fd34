"""Writes docs/schema: JSON Schemas (2020-12) of the signed documents, made from the types that read them.

Run it after a change of those types; tests/unit/test_json_schemas.py compares.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from expunge_agent.protocol.canonical import U64, encode_hook
from expunge_agent.protocol.receipt import Statement
from expunge_controller.records.certificate import Certificate

SCHEMAS: dict[str, Any] = {"certificate": Certificate, "receipt": Statement}
"""Name → type; published as docs/schema/NAME.schema.json."""
FOLDER = Path(__file__).parents[1] / "docs" / "schema"
_U64 = {
    "type": "string",
    "pattern": "^(0|[1-9][0-9]{0,19})$",
    "description": "An unsigned 64-bit integer as a decimal string.",
}


def schema_text(name: str) -> str:
    """The schema of that document, as it is published."""
    # msgspec 0.22 writes defaults without a hook, and U64 needs one.
    with patch("msgspec._json_schema.to_builtins", partial(msgspec.to_builtins, enc_hook=encode_hook)):
        schema = msgspec.json.schema(SCHEMAS[name], schema_hook=_hook)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:expunge:schema:{name}:v1",
        "title": f"expunge {name}, version 1",
    }
    return json.dumps({**head, **_ecma(schema)}, ensure_ascii=False, indent=2) + "\n"


def _hook(kind: type) -> dict[str, Any]:
    if kind is U64:
        return dict(_U64)
    raise NotImplementedError(kind.__name__)


def _ecma(value: Any) -> Any:
    """Patterns as JSON Schema has them (ECMA-262): there ``$`` is the end of the text, and ``\\Z`` is not known."""
    if isinstance(value, dict):
        return {
            key: inner.replace("\\Z", "$") if key == "pattern" and isinstance(inner, str) else _ecma(inner)
            for key, inner in value.items()
        }
    return [_ecma(one) for one in value] if isinstance(value, list) else value


def main() -> None:
    """Write all of them."""
    FOLDER.mkdir(exist_ok=True)
    for name in SCHEMAS:
        (FOLDER / f"{name}.schema.json").write_text(schema_text(name), encoding="utf-8")


if __name__ == "__main__":
    main()
