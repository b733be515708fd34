"""The inventory on real kernel state: stacks, hot-plug, and a drive that does not answer."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expunge_agent import inventory_report
from expunge_agent.core.drive import Drive
from expunge_agent.devices import drives
from expunge_agent.devices import inventory as inventories
from expunge_agent.devices.drives import examine
from expunge_agent.devices.inventory import survey
from expunge_agent.devices.nodes import Node
from expunge_agent.protocol import wire

pytestmark = pytest.mark.device
MIB = 1 << 20
COMMAND = (sys.executable, "-m", "expunge_agent", "--state")


def agent(folder: Path, *args: str) -> Any:
    done = subprocess.run(
        [*COMMAND, str(folder / "state"), "inventory", "--json", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def item_at(items: list[dict[str, Any]], path: str) -> dict[str, Any]:
    return next(item for item in items if item["path"] == path)


def test_partitions_and_mounts_are_in_the_tree(lab, tmp_path: Path) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    point = lab.mount(lab.ext4(part))
    item = item_at(agent(tmp_path), device)
    assert item["drive"]["protocol"] == "none"
    layer = item["stack"]["layers"][0]
    assert (layer["path"], layer["kind"], layer["mounts"]) == (part, "partition", [str(point)])
    assert item["blocked"][0]["reason"] == "mounted"


def test_a_device_that_is_named_is_listed_once(lab, tmp_path: Path) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    paths = [item["path"] for item in agent(tmp_path, device, part, device)]
    assert paths.count(device) == paths.count(part) == 1
    assert set(paths) == {*(item["path"] for item in agent(tmp_path)), part}


def test_device_mapper_in_the_tree(lab, tmp_path: Path) -> None:
    device = lab.loop()
    mapped = lab.mapped(f"0 16384 linear {device} 0", uuid="CRYPT-PLAIN-expunge-test")
    layer = item_at(agent(tmp_path), device)["stack"]["layers"][0]
    assert layer["kind"] == "crypt"
    assert layer["label"] == Path(mapped).name


def test_a_partition_where_a_drive_is_meant_is_said(lab, tmp_path: Path) -> None:
    part = lab.partition(lab.loop(size=32 * MIB), 1, MIB, 16 * MIB)
    drive = examine(part)
    assert drive is not None
    assert any("is a partition" in doubt for doubt in drive.doubtful)
    facts = item_at(agent(tmp_path, part), part)["facts"]
    assert any("a partition of" in note for note in facts["notes"])


def test_only_block_devices_are_examined(lab) -> None:
    assert examine(lab.image(MIB)) is None
    assert examine("/nothing/here") is None
    assert examine("/dev/null") is None


def test_examining_leaves_no_descriptor_open(lab) -> None:
    device = lab.loop()
    before = len(os.listdir("/proc/self/fd"))
    examine(device)
    survey([device])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_silent_drive_holds_nobody_up(lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive whose driver does not come back: stood in for by a wait, on a loop device."""
    slow, quick = lab.loop(), lab.loop()
    real = drives.examine_node

    def examine_node(node: Node) -> Drive:
        if str(node.path) == slow:
            time.sleep(3)
        return real(node)

    monkeypatch.setattr(drives, "examine_node", examine_node)
    monkeypatch.setattr(inventories, "_is_quick", lambda node: str(node.path) not in (slow, quick))
    started = time.monotonic()
    entries = {entry.found.usage.path: entry for entry in survey(patience=0.5)}
    assert time.monotonic() - started < 2.5
    assert "did not answer" in entries[slow].silent
    assert entries[slow].drive is not None
    assert entries[quick].silent == ""


class Watcher:
    """A running ``inventory --watch``, read line by line."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, str(folder / "state"), "inventory", "--watch", *options], stdout=subprocess.PIPE
        )
        self._rest = b""

    def line(self, words: tuple[str, ...], seconds: float = 15) -> str:
        """The first line that holds all of `words`."""
        assert self.process.stdout is not None
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            line, newline, rest = self._rest.partition(b"\n")
            if newline:
                self._rest = rest
                if all(word in line.decode() for word in words):
                    return line.decode()
                continue
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                chunk = os.read(self.process.stdout.fileno(), 1 << 16)
                assert chunk, "the watcher ended"
                self._rest += chunk
        raise AssertionError(f"no line with {words}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


@pytest.fixture
def watcher(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Watcher]:
    one = Watcher(tmp_path, *getattr(request, "param", ()))
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        if one.process.stdout is not None:
            one.process.stdout.close()


@pytest.mark.parametrize("watcher", [("--json",)], indirect=True)
def test_a_device_that_comes_and_goes_is_announced(lab, watcher: Watcher) -> None:
    first = lab.loop()
    seen = json.loads(watcher.line((f'"{first}"',)))
    assert seen["event"] in ("present", "added")
    device = lab.loop()
    added = json.loads(watcher.line((f'"{device}"', "added"), seconds=5))
    assert added["identity"]["bus"] == "loop"
    assert added["identity"]["size"] == str(16 * MIB)
    lab.detach(device)
    assert json.loads(watcher.line((f'"{device}"', "removed"), seconds=5))["event"] == "removed"
    assert watcher.end(signal.SIGTERM) == 0


def test_watching_for_people_ends_on_sigint(lab, watcher: Watcher) -> None:
    device = lab.loop()
    line = watcher.line((device, "loop"))
    assert "16.8 MB" in line
    assert watcher.end(signal.SIGINT) == 0


def test_the_facts_go_over_the_wire_as_plain_documents(lab, tmp_path: Path) -> None:
    device = lab.loop(size=32 * MIB)
    part = lab.partition(device, 1, MIB, 16 * MIB)
    message = wire.decode(wire.encode(inventory_report.report([], tmp_path)).removesuffix(b"\n"))
    assert isinstance(message, wire.Inventory)
    item = next(item for item in message.items if item.path == device)
    assert item.drive["protocol"] == "none"
    assert item.drive["apparent"] == str(32 * MIB)
    assert "answers" not in item.drive
    assert [layer["path"] for layer in item.stack["layers"]] == [part]
