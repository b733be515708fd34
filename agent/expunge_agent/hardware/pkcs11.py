"""Sessions with a PKCS#11 token (v2.40 §5.6), and what it answers in sentences. The extra ``expunge[pkcs11]``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from expunge_agent.errors import NotFoundError, PermissionProblemError, StateError


def library() -> Any:
    """The Python package. Raises NotFoundError where it is missing."""
    try:
        import pkcs11
    except ImportError as error:
        raise NotFoundError(
            "The Python package python-pkcs11 is missing.", "Install it: pip install 'expunge[pkcs11]'"
        ) from error
    return pkcs11


def session(module: str, label: str, pin: bytes) -> tuple[Any, Any]:
    """The token called `label` behind the library `module`, and a session in it as its user."""
    token = library().lib(module).get_token(token_label=label)
    return token, token.open(rw=True, user_pin=pin.decode("utf-8", "surrogateescape"))


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn what a token answers into sentences about `where` (“the token 'x'”)."""
    p = library()
    try:
        yield
    except (p.exceptions.PinIncorrect, p.exceptions.PinInvalid, p.exceptions.PinLenRange) as error:
        raise PermissionProblemError(f"The PIN does not open {where}.", "Check it.") from error
    except p.exceptions.PinLocked as error:
        raise PermissionProblemError(f"The PIN of {where} is locked.", "Unlock it first.") from error
    except (p.exceptions.NoSuchToken, p.exceptions.TokenNotPresent) as error:
        raise NotFoundError(f"There is no {where.removeprefix('the ')}.", "Check its label.") from error
    except (p.PKCS11Error, RuntimeError, OSError) as error:
        raise StateError(
            f"{where} answered: {type(error).__name__} {error}".rstrip() + ".", "Check module and token."
        ) from error
