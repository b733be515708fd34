"""What the network side says of a medium that only root may open: root carries the orders out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge_agent import serve
from expunge_agent.core.medium import Found
from expunge_agent.devices.inventory import Entry
from expunge_agent.devices.look import look
from expunge_agent.protocol.identity import TreeIdentity


@pytest.mark.parametrize(("runs_orders", "objections"), [(True, 1), (False, 0)])
def test_permission_counts_where_the_order_would_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runs_orders: bool, objections: int
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"data")
    found = look(image)
    theirs = Found(found.medium, replace(found.usage, writable=False))
    monkeypatch.setattr(serve, "survey", lambda paths, system: [Entry(theirs)])
    (item,) = serve._inventory([], tmp_path / "state", runs_orders=runs_orders).items
    assert len(item.blocked) == objections


def test_a_directory_asked_for_is_a_target_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    answer = serve._inventory([str(folder)], tmp_path / "state")
    (item,) = [one for one in answer.items if one.path == str(folder)]
    assert isinstance(item.identity, TreeIdentity)
    assert (int(item.identity.inode), item.blocked) == (folder.stat().st_ino, [])
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert any("symbolic link" in one for one in serve._inventory([str(link)], tmp_path / "state").problems)
