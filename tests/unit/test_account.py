"""The name that orders, statements and notes carry: the account's own, whatever the environment says."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from click.testing import CliRunner

from expunge_agent.account import login_name, vouching

FORGED = ("LOGNAME", "USER", "LNAME", "USERNAME")
OWN = pwd.getpwuid(os.getuid()).pw_name
OTHER = next(one for one in pwd.getpwall() if one.pw_uid not in (0, os.getuid()) and one.pw_uid < 1 << 31)


@pytest.fixture(autouse=True)
def forged(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in FORGED:
        monkeypatch.setenv(one, "the-ciso")
    monkeypatch.delenv("SUDO_UID", raising=False)


def test_the_environment_names_nobody() -> None:
    assert login_name() == OWN


def test_sudo_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(OTHER.pw_uid))
    monkeypatch.setenv("SUDO_USER", "the-ciso")
    assert login_name() == f"{OWN} (SUDO_UID: {pwd.getpwuid(OTHER.pw_uid).pw_name})"


@pytest.mark.parametrize("odd", ["", "x", "-1", "1e3", "²", "9" * 11, str(os.getuid()), f"0{os.getuid()}"])
def test_what_is_no_other_account_adds_nothing(odd: str) -> None:
    assert login_name({"SUDO_UID": odd}) == OWN


@pytest.mark.parametrize("number", ["4294900000", "9999999999"])
def test_an_account_without_a_name_is_a_number(number: str) -> None:
    assert login_name({"SUDO_UID": number}) == f"{OWN} (SUDO_UID: uid {number})"


def test_a_statement_is_the_word_of_who_runs_the_program() -> None:
    assert vouching("") == vouching(OWN) == OWN
    assert vouching("the-ciso") == f"{OWN}, for the-ciso"
    assert len(vouching("x" * 200)) == 200


def test_an_order_says_who_asked_by_the_account(tmp_path: Path) -> None:
    from expunge_agent.cli.wipe import command
    from expunge_agent.outbox import Outbox
    from expunge_agent.state import State

    target = tmp_path / "disk.img"
    target.write_bytes(b"x" * 8192)
    state = str(tmp_path / "state")
    done = CliRunner().invoke(
        command,
        [str(target), "--profile", "zero", "--yes"],
        obj={"state": state, "log": "text", "verbose": False},
        catch_exceptions=False,
        standalone_mode=False,
    )
    (sealed,) = Outbox(State.create(Path(state)).root).all()
    assert f'"requested_by":"{OWN}"'.encode() in sealed.body, done.output
