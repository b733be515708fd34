"""The script that checks a bundle with stock tools, ``verify.sh`` beside this file: one text for all bundles. Pure."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from expunge_agent.protocol import canonical

EARLIER: frozenset[str] = frozenset()
"""SHA-256 of the scripts that earlier releases wrote. Whoever changes ``verify.sh`` after a release adds the old one's."""


@cache
def script() -> bytes:
    """The bytes of ``verify.sh``."""
    return files("expunge_controller.records").joinpath("verify.sh").read_bytes()


def is_known(text: bytes) -> bool:
    """Whether this release or an earlier one wrote this script."""
    return text == script() or canonical.sha256_hex(text) in EARLIER
