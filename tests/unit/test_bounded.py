"""A call that does not come back is left behind, and what it brings later is handed over."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from expunge_agent.bounded import NoAnswer, within
from expunge_agent.devices.encrypted import encryption_at
from expunge_agent.devices.luks_look import read_head


def test_it_gives_what_the_call_gives() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(KeyError):
        within(5, lambda: {}["nothing"])


@pytest.mark.parametrize("fails", [False, True])
def test_what_comes_too_late_is_handed_over(fails: bool) -> None:
    go, came = threading.Event(), threading.Event()
    late: list[object] = []

    def call() -> str:
        go.wait(5)
        if fails:
            raise OSError("gone")
        return "late"

    def take(found: str | None) -> None:
        late.append(found)
        came.set()

    began = time.monotonic()
    with pytest.raises(NoAnswer, match="no answer for 0 s"):
        within(0.05, call, take)
    assert time.monotonic() - began < 2
    assert not late
    go.set()
    assert came.wait(5)
    assert late == [None if fails else "late"]


def test_a_head_that_does_not_come_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    go = threading.Event()
    monkeypatch.setattr(os, "pread", lambda *what: go.wait(5) and b"")
    monkeypatch.setattr("expunge_agent.devices.luks_look.PATIENCE", 0.05)
    try:
        assert encryption_at(str(image), 0.05) == ["its first bytes could not be read: no answer for 0 s"]
        with pytest.raises(TimeoutError):
            read_head(str(image))
    finally:
        go.set()
