"""The way to a TPM 2.0. The extra ``expunge[tpm]``."""

from __future__ import annotations

from typing import Any

from expunge_agent.errors import NotFoundError


def library() -> Any:
    """The Python package over libtss2. Raises NotFoundError where either is missing."""
    try:
        import tpm2_pytss
    except (ImportError, NotImplementedError, RuntimeError) as error:
        raise NotFoundError(
            "The Python package tpm2-pytss or the TPM libraries (libtss2) are missing.",
            "Install them: pip install 'expunge[tpm]' (it is built; needs libtss2-dev)",
        ) from error
    return tpm2_pytss
