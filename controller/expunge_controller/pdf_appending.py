"""Appending to a PDF with pyHanko, its metadata left as typst wrote it."""

from __future__ import annotations

from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter


class KeepsMetadata(IncrementalPdfFileWriter):
    """pyHanko would write the XMP metadata anew, in a form that PDF/A validators were not asked about."""

    def _update_meta(self) -> None:
        """Called before each write; tests/contract/test_pdf_tools.py compares the metadata afterwards."""
