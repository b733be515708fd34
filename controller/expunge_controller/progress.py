"""Following an order: what changed since the last look. A view only; losing it loses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from expunge_agent.errors import NotFoundError
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.event import Event, EventKind
from expunge_controller.context import Controller, utc_now
from expunge_controller.store.rows import OPEN, OrderRow

POLL_SECONDS = 0.1
FOLLOWED_FOR = timedelta(seconds=20)
"""How long a follower counts as there after it was last heard; it says so again after half of that."""


@dataclass(frozen=True)
class Update:
    """The order as it stands, and the events that are new, the newest progress last."""

    order: OrderRow
    events: tuple[Event, ...]

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.order.status not in OPEN


def watch(controller: Controller, digest: str, *, beat: float = 1.0) -> Iterator[Update]:
    """Updates of an order until it ends, the last one included; at least one every `beat` seconds.

    Raises NotFoundError for an order that is not there.
    """
    seen, rev, shown = 0, -1, b""
    told = marked = 0.0
    ended: set[int] = set()
    while True:
        with controller.store.read() as unit:
            order = unit.orders.get(digest)
            fresh = unit.orders.events(digest, seen)
            newest = unit.orders.progress(digest) or b""
        if order is None:
            raise NotFoundError(f"There is no order {digest[:12]}.", "See `expunge jobs`.")
        if order.status in OPEN and time.monotonic() - marked >= FOLLOWED_FOR.total_seconds() / 2:
            marked = time.monotonic()
            with controller.store.write() as unit:
                unit.orders.follow(digest, timestamp(utc_now() + FOLLOWED_FOR))
        moved = order.rev != rev or bool(fresh) or newest != shown
        if moved or time.monotonic() - told >= beat:
            told = time.monotonic()
            events = [canonical.loads(body, Event, "event") for _, body in fresh]
            ended |= {event.target for event in events if event.kind is EventKind.TARGET_FINISHED}
            if newest != shown:
                tick = canonical.loads(newest, Event, "event")
                # A step that began since, or a target that ended, has overtaken it.
                if tick.target not in ended and all(event.step <= tick.step for event in events):
                    events.append(tick)
            update = Update(order, tuple(events))
            yield update
            if update.ended:
                return
        seen = fresh[-1][0] if fresh else seen
        rev, shown = order.rev, newest
        time.sleep(POLL_SECONDS)
