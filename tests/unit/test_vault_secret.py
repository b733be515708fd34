"""A passphrase on its way: the first line of a file, through a pipe, zeroed at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.errors import StateError, UsageError
from expunge_agent.vault.secret import MOST, Secret


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"pass\nword\n", b"pass"),
        (b"pass", b"pass"),
        (b" pass word \r\n", b" pass word "),
        (b"\xff\0\xfe\n", b"\xff\0\xfe"),
        (b"x" * MOST + b"\r\n" + b"y" * 9999, b"x" * MOST),
    ],
)
def test_the_first_line_goes_through_a_pipe(tmp_path: Path, content: bytes, found: bytes) -> None:
    path = tmp_path / "pass"
    path.write_bytes(content)
    secret = Secret.first_line(path)
    assert bytes(secret.view) == found
    other = Secret.from_pipe(secret.into_pipe())
    assert bytes(other.view) == found
    assert bytes(Secret.from_pipe(secret.into_pipe()).view) == found  # for each job anew


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\nsecond", b"x" * (MOST + 1), b"x" * 99999])
def test_none_and_too_long_ones_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pass"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="1 to 1024 bytes"):
        Secret.first_line(path)


def test_it_follows_a_link_and_says_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_bytes(b"word")
    (tmp_path / "link").symlink_to("pass")
    assert bytes(Secret.first_line(tmp_path / "link").view) == b"word"
    for wrong in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StateError):
            Secret.first_line(wrong)


def test_wiped_nothing_is_left_of_it(tmp_path: Path) -> None:
    (tmp_path / "pass").write_bytes(b"password")
    secret, other = (Secret.first_line(tmp_path / "pass") for _ in range(2))
    assert secret.same_as(other)
    place = secret.view
    secret.wipe()
    assert bytes(place) == bytes(8)
    assert bytes(secret.view) == b""
    assert not secret.same_as(other)
