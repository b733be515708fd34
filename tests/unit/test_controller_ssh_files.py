"""The user's known_hosts and ssh config, as far as jump hosts need them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest

from expunge_agent.errors import UsageError
from expunge_controller.transport.channel import ALLOWED, disabled_algorithms
from expunge_controller.transport.known_hosts import KnownKeys, keys_of
from expunge_controller.transport.ssh_config import Hop, route

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey1"
OTHER = "ecdsa-sha2-nistp256 AAAAE2VjZHNhKey2"


def hashed(name: str) -> str:
    salt = b"0123456789abcdefghij"
    digest = hmac.digest(salt, name.encode(), hashlib.sha1)
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(
    ("entry", "host", "port", "known"),
    [
        ("jump.example", "jump.example", 22, True),
        ("jump.example", "JUMP.example", 22, True),
        ("jump.example", "jump.example", 2222, False),
        ("[jump.example]:2222", "jump.example", 2222, True),
        ("[jump.example]:2222", "jump.example", 22, False),
        ("a.example,jump.example", "jump.example", 22, True),
        ("*.example", "jump.example", 22, True),
        ("*.example,!jump.example", "jump.example", 22, False),
        ("!jump.example", "jump.example", 22, False),
        ("jum?.example", "jump.example", 22, True),
        ("[10.0.0.?]:22*", "10.0.0.7", 2222, True),
        (hashed("jump.example"), "jump.example", 22, True),
        (hashed("[jump.example]:2222"), "jump.example", 2222, True),
        (hashed("other.example"), "jump.example", 22, False),
        ("|1|damaged", "jump.example", 22, False),
    ],
)
def test_who_an_entry_is_about(entry: str, host: str, port: int, known: bool) -> None:
    assert (KEY in keys_of(f"{entry} {KEY} a comment\n", host, port).good) is known


def test_authorities_comments_and_damaged_lines_count_for_nothing() -> None:
    text = f"""
# a comment
@cert-authority *.example {KEY}
@revoked jump.example {OTHER}
@unknown jump.example {KEY}
jump.example
jump.example ssh-ed25519
jump.example {KEY}
"""
    assert keys_of(text, "jump.example", 22) == KnownKeys(frozenset({KEY}), frozenset({OTHER}))


def way(config: Path, host: str = "store-17", port: int = 0, user: str = "") -> list[Hop]:
    found = route(str(config), host=host, port=port, user=user, default_user="me")
    return [*found.jumps, found.destination]


def test_without_a_config_a_host_is_what_it_says(tmp_path: Path) -> None:
    (hop,) = way(tmp_path / "absent")
    assert (hop.host, hop.port, hop.user) == ("store-17", 22, "me")
    (hop,) = way(tmp_path / "absent", port=2222, user="root")
    assert (hop.port, hop.user) == (2222, "root")


def test_the_config_names_host_port_user_and_jumps(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        """
Host store-*
    HostName %h.inside.example
    Port 2200
    User wiper
    ProxyJump admin@gate:2022
Host gate
    HostName gate.example
    User nobody
    ProxyJump outer
Host outer
    HostKeyAlias the-outer-one
"""
    )
    outer, gate, store = way(config)
    assert (outer.host, outer.port, outer.user, outer.name) == ("outer", 22, "me", "the-outer-one")
    assert (gate.host, gate.port, gate.user) == ("gate.example", 2022, "admin")
    assert (store.host, store.port, store.user) == ("store-17.inside.example", 2200, "wiper")
    *_, store = way(config, port=22, user="root")  # what is said here goes first
    assert (store.port, store.user) == (22, "root")


def test_several_jumps_are_taken_in_order(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host store-17\n  ProxyJump a,b:23,[fd00::1]:24\n")
    assert [(hop.host, hop.port) for hop in way(config)] == [
        ("a", 22),
        ("b", 23),
        ("fd00::1", 24),
        ("store-17", 22),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Host a\n ProxyJump b\nHost b\n ProxyJump a\nHost store-17\n ProxyJump a\n", "more than 8"),
        ("Host store-17\n ProxyCommand nc %h %p\n", "ProxyCommand"),
        ("Host store-17\n Port many\n", "cannot be understood"),
        ("Host store-17\n ProxyJump @:x\n", "no jump host"),
    ],
)
def test_a_config_that_leads_nowhere_is_an_error_in_words(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    with pytest.raises(UsageError, match=message):
        way(config)


def test_proxyjump_none_is_no_jump(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host store-17\n ProxyJump none\n")
    assert len(way(config)) == 1


def test_weak_algorithms_are_off() -> None:
    disabled = disabled_algorithms()
    for weak in ("3des-cbc", "aes256-cbc", "aes128-cbc"):
        assert weak in disabled["ciphers"]
    for weak in ("hmac-md5", "hmac-sha1", "hmac-sha1-96"):
        assert weak in disabled["macs"]
    import paramiko

    left = [name for name in paramiko.Transport._preferred_kex if name not in disabled["kex"]]
    assert left
    assert set(left) <= ALLOWED["kex"]
    assert not any("sha1" in name for name in left)
