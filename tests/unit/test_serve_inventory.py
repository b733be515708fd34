"""What the network side says of a medium that only root may open: root carries the orders out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge_agent import inventory_report
from expunge_agent.core.medium import Found
from expunge_agent.devices.inventory import Entry
from expunge_agent.devices.look import look
from expunge_agent.errors import NotFoundError, RefusedError
from expunge_agent.protocol.identity import TreeIdentity
from expunge_controller.cli import targets


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


def test_what_a_tag_led_to_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A controller asks by the tag; the item says that it answers it, and a tag that leads nowhere is a problem."""
    image = tmp_path / "disk.img"
    image.write_bytes(b"data")

    def told(text: str) -> str:
        if text == "UUID=none":
            raise NotFoundError("No device of this machine has UUID=none.")
        return str(image) if text == "UUID=2c4f" else text

    monkeypatch.setattr(inventory_report, "resolve", told)
    monkeypatch.setattr(
        inventory_report, "survey", lambda paths, system: [Entry(look(path)) for path in paths]
    )
    answer = inventory_report.report(["UUID=2c4f", "UUID=none"], tmp_path / "state")
    assert [(item.path, item.asked) for item in answer.items] == [(str(image), ["UUID=2c4f"])]
    assert answer.problems == ["UUID=none: No device of this machine has UUID=none."]
    assert [item.asked for item in inventory_report.report([str(image)], tmp_path / "state").items] == [[]]
    found = targets._item(answer, "UUID=2c4f")
    assert targets.target_of(found).hint == str(image)
    with pytest.raises(RefusedError) as caught:
        targets._item(answer, "UUID=none")
    assert "has UUID=none" in caught.value.message


def test_a_directory_asked_for_is_a_target_of_files(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    answer = inventory_report.report([str(folder)], tmp_path / "state")
    (item,) = [one for one in answer.items if one.path == str(folder)]
    assert isinstance(item.identity, TreeIdentity)
    assert (int(item.identity.inode), item.blocked) == (folder.stat().st_ino, [])
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert any(
        "symbolic link" in one for one in inventory_report.report([str(link)], tmp_path / "state").problems
    )
