"""Which state folder the agent takes when none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expunge_agent.cli import OWN_STATE, SYSTEM_STATE, _default_state


@pytest.mark.parametrize(
    ("uid", "home", "expected"),
    [
        (0, "/root", SYSTEM_STATE),
        (998, str(SYSTEM_STATE), SYSTEM_STATE),
        (1000, "/home/somebody", Path("/home/somebody") / OWN_STATE.relative_to("~")),
    ],
)
def test_the_account_of_the_network_side_finds_the_machines_folder(
    monkeypatch: pytest.MonkeyPatch, uid: int, home: str, expected: Path
) -> None:
    """Its forced command (`expunge-agent serve`) and its unit name no folder."""
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", home)
    assert _default_state() == expected
