"""Errors that outlive the process that met them: kept as JSON, raised again with their exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator

from expunge_agent.errors import ExpungeError

FINAL_ANSWERS = ("document", "protocol", "usage")
"""Failures of an agent that the same order would meet again; everything else may pass."""


def frozen(error: ExpungeError) -> str:
    """`error` as text for the store."""
    return json.dumps(
        {"code": error.code, "message": error.message, "remedy": error.remedy}, ensure_ascii=False
    )


def thawed(text: str) -> ExpungeError | None:
    """The error that `frozen` wrote; None for an empty text."""
    if not text:
        return None
    said = json.loads(text)
    return error_class(said["code"])(said["message"], said["remedy"])


def error_class(code: str) -> type[ExpungeError]:
    """The class of errors with this code; `ExpungeError` itself for a word that is not known here."""
    return next((kind for kind in _kinds(ExpungeError) if kind.code == code), ExpungeError)


def _kinds(base: type[ExpungeError]) -> Iterator[type[ExpungeError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)
