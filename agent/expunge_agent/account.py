"""Who runs this program, by the kernel's account of it: the environment is whatever its user makes of it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

_MOST = 90


def login_name(environment: Mapping[str, str] | None = None) -> str:
    """The account of the real uid; a number where it has no name (as in some containers).

    Where sudo (or anybody else) set ``SUDO_UID`` to another account, that is named too, and called what it is. At most
    200 characters.
    """
    own = os.getuid()
    behind = (os.environ if environment is None else environment).get("SUDO_UID", "")
    if not (behind.isascii() and behind.isdecimal() and len(behind) <= 10) or int(behind) == own:
        return _name(own)
    return f"{_name(own)} (SUDO_UID: {_name(int(behind))})"


def vouching(asks: str, environment: Mapping[str, str] | None = None) -> str:
    """Whose word a statement is: who runs this program and, where that is not who `asks`, for whom. At most 200 characters."""
    own = login_name(environment)
    return own if asks in ("", own) else f"{own}, for {asks}"[:200]


def _name(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OSError, OverflowError):
        return f"uid {uid}"
    return name[:_MOST] if name and name.isprintable() else f"uid {uid}"
