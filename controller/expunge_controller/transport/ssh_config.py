"""What the user's ssh config says of a host: name, port, user, jump hosts (ssh_config(5))."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import paramiko

from expunge_agent.errors import UsageError

MAX_JUMPS = 8


@dataclass(frozen=True)
class Hop:
    """A host to connect to. ``name`` is what known_hosts calls it; ``identities`` are key files to try."""

    host: str
    port: int
    user: str
    name: str
    identities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Route:
    """The jump hosts to pass, in order, and the destination."""

    jumps: tuple[Hop, ...]
    destination: Hop


def route(config_file: str, *, host: str, port: int, user: str, default_user: str) -> Route:
    """How to reach `host`. What is given here goes before what the file says.

    Raises UsageError where the file cannot be understood or jumps in a circle.
    """
    config = _load(config_file)
    destination, jump = _hop(config, host, port, user, default_user)
    jumps: list[Hop] = []
    while jump:
        *before, last = jump.split(",")
        jump_user, jump_host, jump_port = _split(last)
        hop, further = _hop(config, jump_host, jump_port, jump_user, default_user)
        jumps.insert(0, hop)
        jump = ",".join(before) or further
        if len(jumps) > MAX_JUMPS:
            raise UsageError(
                f"The ssh config leads to {host} over more than {MAX_JUMPS} jump hosts.",
                "Look for a circle in it.",
            )
    return Route(tuple(jumps), destination)


def _load(config_file: str) -> paramiko.SSHConfig:
    path = Path(config_file).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}).", "Correct it, or `ssh_config` in config.toml."
        ) from error
    try:
        return paramiko.SSHConfig.from_text(text)
    except paramiko.SSHException as error:
        raise UsageError(f"{path} cannot be understood ({error}).", "Correct it.") from error


def _hop(config: paramiko.SSHConfig, host: str, port: int, user: str, default_user: str) -> tuple[Hop, str]:
    """The hop called `host`, and its ProxyJump (empty: none)."""
    try:
        found = config.lookup(host)
        numbered = port or int(found.get("port", "22"))
    except (paramiko.SSHException, ValueError) as error:
        raise UsageError(
            f"The ssh config cannot be understood for {host} ({error}).", "Correct it."
        ) from error
    jump = found.get("proxyjump", "")
    if "proxycommand" in found and not jump:
        raise UsageError(
            f"The ssh config reaches {host} by a ProxyCommand, which is not supported.", "Use ProxyJump."
        )
    hop = Hop(
        host=found["hostname"],
        port=numbered,
        user=user or found.get("user", default_user),
        name=found.get("hostkeyalias", found["hostname"]),
        identities=tuple(found.get("identityfile", ())),
    )
    return hop, "" if jump.lower() == "none" else jump


def _split(text: str) -> tuple[str, str, int]:
    """``[ssh://][USER@]HOST[:PORT]`` as user, host, port (0: not given)."""
    user, _, rest = text.strip().removeprefix("ssh://").rpartition("@")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    elif rest.count(":") == 1:
        host, _, port = rest.partition(":")
    else:
        host, port = rest, ""
    if not host or (port and not port.isdigit()):
        raise UsageError(f"{text!r} in the ssh config is no jump host.", "Write USER@HOST:PORT.")
    return user, host, int(port or 0)
