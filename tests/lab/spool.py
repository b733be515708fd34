"""In a guest: hand orders in as a controller's come, to be carried out later. Prints their digests.

    python3 -m lab.spool --profile nist-purge --level purge /dev/nvme0n1

`expunge-agent wipe` guards and plans before there is an order; with this the order exists, and what becomes of
its target in between is for the run to notice.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

from expunge_agent.cli.common import known_profiles
from expunge_agent.devices.look import look
from expunge_agent.local import Wish, hand_in, local_order
from expunge_agent.protocol.base import Level
from expunge_agent.protocol.identity import Target
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyStatement, KeyWish
from expunge_agent.state import State

STATE = Path("/var/lib/expunge")


def target(path: str) -> Target:
    """What stands at `path` now, by its identity."""
    medium = look(path).medium
    if medium is None:
        raise SystemExit(f"{path} is no medium")
    return Target(identity=medium.identity, hint=path)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Hand orders in.")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--profile", required=True)
    parser.add_argument("--level", choices=("clear", "purge"), required=True)
    parser.add_argument("--vouch", action="store_true", help="state every condition of destroying a key")
    parser.add_argument("--each", action="store_true", help="an order for each path")
    given = parser.parse_args()
    stated = [KeyStatement(id=one, holds="yes", said_by="the laboratory") for one in STATED]
    wish = Wish(
        profile=known_profiles(STATE)[given.profile],
        level=Level(given.level),
        allow_downgrade=False,
        requested_by="the laboratory",
        case_number="",
        reason="",
        keys=KeyWish(statements=stated) if given.vouch else None,
    )
    state = State.create(STATE)
    for paths in [[path] for path in given.paths] if given.each else [given.paths]:
        order = local_order(state, [target(path) for path in paths], wish, datetime.now(UTC))
        print(hand_in(state, order))


if __name__ == "__main__":
    main()
