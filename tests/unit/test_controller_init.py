"""The controller's folder: made once, private, completed after a crash, its keys guarded."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from expunge_agent.errors import (
    BusyError,
    ExpungeError,
    NotFoundError,
    PermissionProblemError,
    StateError,
    UsageError,
)
from expunge_controller import files, keys
from expunge_controller.context import opened
from expunge_controller.init import init
from expunge_controller.runner import is_serving, only_server
from expunge_controller.settings import Config, Home, checked_name, default_home, load_config

CONFIG = Config(name="test", address="ctl.example", port=4722)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "made" / "home")


def test_everything_in_it_is_private(home: Home) -> None:
    init(home, CONFIG)
    modes = {
        path.relative_to(home.path).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in [home.path, *home.path.rglob("*")]
    }
    assert modes.pop(".") == modes.pop("keys") == 0o700
    assert set(modes.values()) == {0o600}
    assert {
        "config.toml",
        "controller.db",
        "keys/order_key",
        "keys/ssh_host_key",
        "keys/ssh_client_key",
    } <= set(modes)
    assert load_config(home) == CONFIG


def test_a_second_init_is_refused_without_harm(home: Home) -> None:
    init(home, CONFIG)
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="nothing was changed"):
        init(home, Config(name="other", address="x", port=1))
    assert {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("steps", range(6))
def test_a_folder_left_half_made_is_completed(
    home: Home, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """Stop after each durable write in turn; the next init keeps what is there and goes on."""
    written: list[Path] = []
    real = files.write_private

    def crash(path: Path, data: bytes) -> None:
        if len(written) == steps:
            raise RuntimeError("the power went")
        real(path, data)
        written.append(path)

    monkeypatch.setattr(files, "write_private", crash)
    with pytest.raises(RuntimeError):
        init(home, CONFIG)
    kept = {path: path.read_bytes() for path in written}
    monkeypatch.setattr(files, "write_private", real)
    init(home, CONFIG)
    assert {path: path.read_bytes() for path in written} == kept
    with opened(home) as controller:
        assert controller.principal == "controller:test"


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("important")
    tmp_path.chmod(0o755)
    with pytest.raises(UsageError, match="thesis"):
        init(Home(tmp_path), CONFIG)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.odt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a folder"):
        init(Home(tmp_path / "file"), CONFIG)


def test_a_folder_without_a_controller_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no controller") as caught, opened(Home(tmp_path / "nowhere")):
        pass
    assert "expunge init" in caught.value.remedy


@pytest.mark.parametrize(
    "text", ["name = 1", 'name = "a"', "= broken", 'name = "a b"\naddress = "x"\nport = 1', "port = 0"]
)
def test_a_wrong_configuration_is_named(home: Home, text: str) -> None:
    init(home, CONFIG)
    home.config.write_text(text)
    with pytest.raises(StateError, match=r"config\.toml is not right"):
        load_config(home)


def test_an_unknown_key_in_the_configuration_is_named(home: Home) -> None:
    init(home, CONFIG)
    home.config.write_text(home.config.read_text() + 'lisen = "0.0.0.0"\n')
    with pytest.raises(StateError, match="lisen"):
        load_config(home)


@pytest.mark.parametrize(
    ("harm", "error"),
    [
        (lambda path: path.chmod(0o640), PermissionProblemError),
        (lambda path: path.write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nxx\n"), StateError),
        (lambda path: path.write_bytes(b""), StateError),
        (lambda path: path.unlink(), NotFoundError),
    ],
)
def test_a_key_that_is_missing_damaged_or_readable_by_others_stops_everything(
    home: Home, harm: object, error: type[ExpungeError]
) -> None:
    init(home, CONFIG)
    harm(home.order_key)  # type: ignore[operator]
    with pytest.raises(error, match="order_key"):
        keys.load_key(home.order_key)


def test_only_one_server(home: Home) -> None:
    init(home, CONFIG)
    assert not is_serving(home)
    with only_server(home):
        assert is_serving(home)
        with pytest.raises(BusyError), only_server(home):
            pass
    assert not is_serving(home)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a\n", "a" * 65, "ä", "a/b", "*"])
def test_names_that_cannot_be_principals_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        checked_name(name, "machine")


def test_the_home_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXPUNGE_HOME", str(tmp_path))
    assert default_home() == tmp_path
    monkeypatch.delenv("EXPUNGE_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_home() == tmp_path / "data" / "expunge"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/expunge-controller")
