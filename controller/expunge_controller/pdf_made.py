"""Makes PDF/A-3b files from data with typst. The same data, typst and font give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files as resources
from pathlib import Path

from expunge_agent.errors import DocumentError, NotFoundError
from expunge_agent.protocol.canonical import sha256_hex
from expunge_controller.render.pdf_blocks import DATA

STANDARD = "a-3b"
FONT_FILE = "DroidSansFallbackFull.ttf"
FONT_FOLDERS = (Path("/usr/local/share/fonts"), Path("/usr/share/fonts"))
_MAIN = "main.typ"


def make_pdf(data: Mapping[str, bytes]) -> bytes:
    """The PDF of what `pdf_blocks.document` returned.

    Raises NotFoundError where typst or the Chinese font is missing, DocumentError where typst cannot set it
    whole: a glyph or a font that it misses is an error here, never a blank.
    """
    typst = _typst()
    sources = {_MAIN: _template(), **data}
    try:
        made, warnings = typst.compile_with_warnings(
            sources,
            font_paths=[str(find_font().parent)],
            ignore_system_fonts=True,
            format="pdf",
            pdf_standards=STANDARD,
            pdf_tags=False,
        )
    except typst.TypstError as error:
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


def _typst():  # type: ignore[no-untyped-def]  # a module
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
    return DocumentError(f"The PDF cannot be set whole: {why}.", "Use the page (--html) instead, and report this.")
