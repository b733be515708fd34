"""PDF certificates for tests: whether they can be made here, a bundle with one, a folder with a signing certificate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from expunge_agent.errors import NotFoundError
from expunge_controller import pdf_signing
from expunge_controller.bundle import BundleParts, bundle_files
from expunge_controller.certificate_pdf import pdf_maker
from expunge_controller.pdf_made import find_font
from expunge_controller.render.pdf_words import Language
from expunge_controller.settings import Home
from support.evidence import World


def font_problem() -> str:
    """Why no PDF can be made here; empty where it can."""
    try:
        find_font()
    except NotFoundError as error:
        return f"{error.message} {error.remedy}"
    return ""


needs_font = pytest.mark.skipif(bool(font_problem()), reason=font_problem() or "-")


def signing_home(folder: Path) -> Home:
    """A controller's folder with nothing but a self-made signing certificate."""
    home = Home(folder)
    home.keys.mkdir(parents=True)
    pdf_signing.make_identity(home, "controller:records-office", datetime.now(UTC))
    return home


def with_pdf(
    world: World,
    parts: BundleParts | None = None,
    *,
    language: Language = Language.BOTH,
    home: Home | None = None,
    timestamper: Any = None,
) -> dict[str, bytes]:
    """The files of a bundle with a PDF; signed inside where a `home` is given."""
    controller: Any = SimpleNamespace(home=home, signer=world.controller)
    maker = pdf_maker(controller, language, sign=home is not None, timestamper=timestamper)
    return bundle_files((parts or world.parts())._replace(pdf=maker))
