"""Makes PDF/A-3b files from data with typst. The same data, typst and font give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from expunge_agent.errors import DocumentError, NotFoundError
from expunge_agent.protocol.canonical import dumps
from expunge_controller import __version__
from expunge_controller.render.pdf_blocks import DATA

STANDARD = "a-3b"
FONT_FILE = "DroidSansFallbackFull.ttf"
FONT_FOLDERS = (Path("/usr/local/share/fonts"), Path("/usr/share/fonts"))
MAX_DATA = 2 * 1024 * 1024
"""Bytes of text of one document: what is hostile may not keep an auditor's machine busy for hours."""
_MAIN = "main.typ"
_MADE = "made.json"


def make_pdf(data: Mapping[str, bytes]) -> bytes:
    """The PDF of what `pdf_blocks.document` returned.

    Raises NotFoundError where typst or the Chinese font is missing, DocumentError where typst cannot set it
    whole: a glyph or a font that it misses is an error here, never a blank.
    """
    if len(data[DATA]) > MAX_DATA:
        raise _not_set(f"it has {len(data[DATA])} bytes of text, {MAX_DATA} are the most")
    typst = _typst()
    sources = {_MAIN: _template(), _MADE: dumps({"made": tools()}), **data}
    try:
        made, warnings = typst.compile_with_warnings(
            sources,
            font_paths=[str(find_font().parent)],
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=STANDARD,
            pdf_tags=False,
        )
    except (typst.TypstError, RuntimeError) as error:
        raise _not_set(str(error)) from error
    if warnings:
        raise _not_set("; ".join(warning.message for warning in warnings))
    return bytes(made)


def find_font() -> Path:
    """The font for Chinese. Raises NotFoundError with the package that has it."""
    for folder in FONT_FOLDERS:
        for path in sorted(folder.rglob(FONT_FILE)):
            return path
    raise NotFoundError(
        f"The font {FONT_FILE}, with which PDF certificates are set, is not on this system.",
        "Install the package fonts-droid-fallback.",
    )


def tools() -> list[str]:
    """What a PDF depends on beside its data, as its keywords name it. Raises NotFoundError for what is missing."""
    template = hashlib.sha256(_template()).hexdigest()
    return [
        f"expunge={__version__}",
        f"template={template}",
        f"typst={_typst().__version__}",
        f"font={_digest(find_font())}",
    ]


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _typst() -> Any:
    try:
        import typst
    except ImportError as error:
        raise NotFoundError(
            "typst, which sets PDF certificates, is not installed.",
            "Install the controller with its requirements (requirements/controller.txt).",
        ) from error
    return typst


@cache
def _template() -> bytes:
    return resources("expunge_controller.render").joinpath("document.typ").read_bytes()


def _not_set(why: str) -> DocumentError:
    return DocumentError(
        f"The PDF cannot be set whole: {why}.", "Use the page (--html) instead, and report this."
    )
