"""A wipe that this machine refuses while it plans: signed like every other end, and never to be carried out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from expunge_agent.cli import wipe
from expunge_agent.cli.common import known_profiles
from expunge_agent.errors import RefusedError
from expunge_agent.outbox import Outbox
from expunge_agent.protocol.base import Outcome
from expunge_agent.protocol.receipt import Reason, parse_statement
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings
from expunge_agent.wipe import run_order


def refused(folder: Path, path: Path, *options: str) -> RefusedError:
    """What `wipe` says of a file that is to be purged, which no file can be."""
    args = [str(path), "--profile", "zero", "--level", "purge", "--yes", *options]
    said = CliRunner().invoke(wipe.command, args, obj={"state": folder / "state"})
    assert isinstance(said.exception, RefusedError), said.output
    return said.exception


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"RECORD " * 1000)
    return path


def test_its_receipt_says_why_and_it_stays_refused(tmp_path: Path, image: Path) -> None:
    before = image.read_bytes()
    error = refused(tmp_path, image)
    assert "Receipt 1 says so." in error.remedy
    state = State.create(tmp_path / "state")
    body = Outbox(state.root).get(1).body
    receipt = parse_statement(body).predicate
    assert (receipt.outcome, receipt.targets) == (Outcome.REFUSED, [])
    assert receipt.refusal is not None
    assert receipt.refusal.reason is Reason.LEVEL_NOT_ACHIEVABLE
    assert receipt.refusal.detail == error.message
    again = run_order(state, receipt.order.digest, Surroundings(profiles=known_profiles(state.root)))
    assert again is not None
    assert again.body == body
    assert image.read_bytes() == before
    refused(tmp_path, image)
    assert Outbox(state.root).get(2)


def test_it_cannot_be_begun_where_the_refusal_was_cut_off(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the order was handed in: whoever finds it finds it expired."""
    handed: list[str] = []

    def killed(state: State, digest: str, *_: object, **__: object) -> None:
        handed.append(digest)
        raise KeyboardInterrupt

    monkeypatch.setattr(wipe, "run_order", killed)
    args = [str(image), "--profile", "zero", "--level", "purge", "--yes"]
    CliRunner().invoke(wipe.command, args, obj={"state": tmp_path / "state"})
    state, before = State.create(tmp_path / "state"), image.read_bytes()
    around = Surroundings(profiles=known_profiles(state.root))
    for later in (timedelta(0), timedelta(days=1)):
        moved = around.now() + later
        sealed = run_order(state, handed[0], Surroundings(profiles=around.profiles, now=lambda: moved))  # noqa: B023
        assert sealed is not None
        refusal = parse_statement(sealed.body).predicate.refusal
        assert refusal is not None
        assert refusal.reason is Reason.EXPIRED
    assert image.read_bytes() == before


def test_nothing_is_signed_where_nothing_was_meant(tmp_path: Path, image: Path) -> None:
    refused(tmp_path, image, "--dry-run")
    refused(tmp_path, tmp_path / "nothing")
    assert not (tmp_path / "state").exists()
