"""Give the agent in a guest its orders through its real command line, and read the receipt it signs."""

from __future__ import annotations

import json
from collections.abc import Iterable
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


CLEAR = frozenset(
    {"ata-security-erase", "ata-security-erase-enhanced", "scsi-format-unit", "nvme-sanitize-overwrite"}
)
"""Techniques that earn no more than clear on the drives of the laboratory."""
ROTATING = frozenset({"ata-sanitize-overwrite", "scsi-sanitize-overwrite"})
"""Techniques that are for hard disks."""


def level(technique: str) -> str:
    """What an order for this technique alone asks for."""
    return "clear" if technique in CLEAR else "purge"


def teach(guest: Guest, techniques: Iterable[str]) -> None:
    """Give the guest's agent a profile ``only-TECHNIQUE`` for each; they outlast a power cut."""
    folder = "/var/lib/expunge/profiles"
    script = [f"mkdir -p {folder}"]
    for technique in techniques:
        medium = "hdd" if technique in ROTATING else "ssd"
        text = PROFILE.format(technique=technique, level=level(technique), medium=medium)
        script.append(f"cat >{folder}/only-{technique}.toml <<'END'{text}END")
    guest.run("sh -e", stdin="\n".join([*script, "sync -f " + folder, ""]).encode()).ok()


def wipe(
    guest: Guest,
    nodes: str,
    profile: str = "nist-clear",
    *options: str,
    timeout: float = 300,
    agent: str = "expunge-agent",
) -> Wiped:
    """`expunge-agent wipe` of one disk, or of several with blanks between them. Raises GuestError if it ended without a receipt."""
    words = [*agent.split(), "wipe", *nodes.split(), "--profile", profile, "--yes", "--json", *options]
    done = guest.run(words, timeout=timeout)
    lines = [json.loads(line) for line in done.out.splitlines() if line.startswith("{")]
    if not lines or "receipt" not in lines[-1]:
        raise GuestError(
            f"{done.command!r} ended with {done.code} and no receipt: {done.out[-800:]} {done.err[-800:]}"
        )
    return Wiped(done.code, lines[-1]["receipt"]["predicate"], lines[:-1])


def receipts(guest: Guest) -> list[dict[str, Any]]:
    """The predicates of all receipts that the agent keeps, oldest first."""
    show = (
        'for one in /var/lib/expunge/receipts/*/receipt.json; do [ -e "$one" ] && cat "$one" && echo; done; :'
    )
    return [json.loads(line)["predicate"] for line in guest.run(show).ok().out.splitlines() if line]


def inventory(guest: Guest) -> list[dict[str, Any]]:
    """What `expunge-agent inventory --json` says."""
    answer = json.loads(guest.run("expunge-agent inventory --json").ok().out)
    return list(answer)
