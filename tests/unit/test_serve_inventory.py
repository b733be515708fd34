"""What the network side says of a medium that only root may open: root carries the orders out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge_agent import inventory_report
from expunge_agent.core.medium import Found
from expunge_agent.devices.inventory import Entry
from expunge_agent.devices.look import look


@pytest.mark.parametrize(("runs_orders", "objections"), [(True, 1), (False, 0)])
def test_permission_counts_where_the_order_would_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs_orders: bool, objections: int
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"data")
    found = look(image)
    theirs = Found(found.medium, replace(found.usage, writable=False))
    monkeypatch.setattr(inventory_report, "survey", lambda paths, system: [Entry(theirs)])
    (item,) = inventory_report.report([], tmp_path / "state", runs_orders=runs_orders).items
    assert len(item.blocked) == objections
