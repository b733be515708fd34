"""Directories of marked records, orders for them, and looking for the records in a raw image."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from expunge_agent.devices.look import look
from expunge_agent.protocol.identity import Target, TreeIdentity
from expunge_agent.protocol.receipt import Receipt, TargetResult
from expunge_agent.protocol.receipt_files import Files
from expunge_agent.techniques import files_batch
from support.agents import Bench

MARK = b"RECORD-OF-A-CUSTOMER-"


def record(name: str, size: int) -> bytes:
    """A file's content: each line says which file it is of."""
    line = MARK + name.encode() + b";\n"
    return (line * (size // len(line) + 1))[:size]


def fill(folder: Path, sizes: dict[str, int]) -> None:
    """Files of these sizes below `folder`, full of records, all of it on the device."""
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record(name, size))
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    os.sync()


def left(image: Path, name: str = "") -> int:
    """How often a record (of the file called `name`) is found in the raw image of an unmounted file system."""
    wanted, count, tail = MARK + name.encode(), 0, b""
    with image.open("rb") as file:
        while data := file.read(1 << 24):
            data = tail + data
            count += data.count(wanted)
            tail = data[-(len(wanted) - 1) :]
    return count


def tree(folder: Path, **narrow: list[str]) -> Target:
    """The files below `folder` as a target; `names` and `include` narrow it."""
    medium, _ = look(folder)
    assert medium is not None
    assert isinstance(medium.identity, TreeIdentity)
    return Target(identity=msgspec.structs.replace(medium.identity, **narrow), hint=str(folder))


def shred(bench: Bench, target: Target, policy: str = "nist-clear", **fields: object) -> TargetResult:
    """The result of an order for `target`; `fields` are the order's."""
    return shredded(bench, target, policy, **fields).targets[0]


def shredded(bench: Bench, target: Target, policy: str = "nist-clear", **fields: object) -> Receipt:
    """The receipt of an order for `target`."""
    return bench.run(bench.order(policy=policy, targets=[target], **fields))


def files_of(result: TargetResult) -> Files:
    """The files of a result, which must have some."""
    assert result.files is not None
    return result.files


def named(result: TargetResult, outcome: str) -> dict[str, str]:
    """Why each listed file ended with this outcome, by path."""
    return {one.path: one.why for one in files_of(result).listed if one.outcome == outcome}


def before(monkeypatch: pytest.MonkeyPatch, step: str, change: Callable[[], object]) -> None:
    """Have `change` happen just before that step of every batch of files."""
    original = getattr(files_batch.Batch, step)

    def first(self: files_batch.Batch, *given: object) -> object:
        change()
        return original(self, *given)

    monkeypatch.setattr(files_batch.Batch, step, first)
