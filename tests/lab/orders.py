"""Give the agent in a guest its orders through its real command line, and read the receipt it signs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lab.guest import Guest, GuestError


@dataclass(frozen=True)
class Wiped:
    """How a wipe ended: exit code, the receipt's predicate, the events before it."""

    code: int
    receipt: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def outcome(self) -> str:
        """The receipt's outcome as a whole."""
        return str(self.receipt["outcome"])

    @property
    def target(self) -> dict[str, Any]:
        """What the receipt says of the only target."""
        (only,) = self.receipt["targets"]
        return dict(only)


PROFILE = """
id = "only-{technique}"
version = 1
title = "Only {technique}"
level = "{level}"
authority = "the laboratory"
status = "current"
source = "written for one test"
advice = "for one test"
media = ["{medium}"]
techniques = ["{technique}"]
[verification]
kind = "sampled"
after = "last"
rule = "nist-800-88r1"
"""


def only(guest: Guest, technique: str, level: str, medium: str = "ssd") -> str:
    """The id of a profile for `medium` that allows just this technique; the guest knows it from now on."""
    text = PROFILE.format(technique=technique, level=level, medium=medium)
    path = f"/var/lib/expunge/profiles/only-{technique}.toml"
    guest.put(path, text.encode())
    guest.run(f"sync {path} /var/lib/expunge/profiles").ok()  # it has to outlast a power cut
    return f"only-{technique}"


def wipe(guest: Guest, node: str, profile: str = "nist-clear", *options: str, timeout: float = 300) -> Wiped:
    """`expunge-agent wipe` of one disk. Raises GuestError if it ended without a receipt."""
    words = ["expunge-agent", "wipe", node, "--profile", profile, "--yes", "--json", *options]
    done = guest.run(words, timeout=timeout)
    lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    if not lines or "receipt" not in lines[-1]:
        raise GuestError(
            f"{done.command!r} ended with {done.code} and no receipt: {done.out[-800:]} {done.err[-800:]}"
        )
    return Wiped(done.code, lines[-1]["receipt"]["predicate"], lines[:-1])


def receipts(guest: Guest) -> list[dict[str, Any]]:
    """The predicates of all receipts that the agent keeps, oldest first."""
    names = guest.run("ls -d /var/lib/expunge/receipts/*/receipt.json 2>/dev/null").out.split()
    return [json.loads(guest.get(name))["predicate"] for name in sorted(names)]


def inventory(guest: Guest) -> list[dict[str, Any]]:
    """What `expunge-agent inventory --json` says."""
    answer = json.loads(guest.run("expunge-agent inventory --json").ok().out)
    return list(answer)
