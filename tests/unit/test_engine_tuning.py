"""Whether the processor has instructions for AES, as it says itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.engine import tuning
from expunge_agent.engine.tuning import SEAL_CIPHER, choose, has_aes


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("processor\t: 0\nflags\t\t: fpu vme aes avx\nbugs\t\t: none\n", True),
        ("processor\t: 0\nflags\t\t: fpu vme avx vaes\nvmx flags\t: aes\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd evtstrm\nmodel name\t: aes\n", False),
        ("processor\t: 0\nisa\t\t: rv64imafdc\n", False),
        ("", False),
    ],
)
def test_the_first_processors_list_counts(tmp_path: Path, text: str, has: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(text)
    assert has_aes(cpuinfo) is has


def test_no_list_is_no(tmp_path: Path) -> None:
    assert not has_aes(tmp_path / "missing")


@pytest.mark.parametrize(
    ("rates", "cipher"),
    [
        ({SEAL_CIPHER: 200, "chacha20": 300}, "chacha20"),
        ({SEAL_CIPHER: 300, "chacha20": 200}, SEAL_CIPHER),
        ({SEAL_CIPHER: tuning.AES_IN_HARDWARE}, SEAL_CIPHER),
    ],
)
def test_without_the_instructions_it_is_measured_and_with_them_it_is_not(
    monkeypatch: pytest.MonkeyPatch, rates: dict[str, int], cipher: str
) -> None:
    asked = []

    def rate(name: str, _chunk: int, _milliseconds: int) -> int:
        asked.append(name)
        return rates.get(name, 0)

    monkeypatch.setattr(tuning, "cipher_rate", rate)
    monkeypatch.setattr(tuning, "has_aes", lambda: True)
    assert choose().cipher == SEAL_CIPHER
    assert asked == ["aes-256-xts", SEAL_CIPHER]  # for passes that are not read back only
    asked.clear()
    monkeypatch.setattr(tuning, "has_aes", lambda: False)
    assert choose().cipher == cipher
    assert asked == [*rates, "aes-256-xts", cipher]


@pytest.mark.parametrize(("xts", "unread"), [(400, "aes-256-xts"), (200, SEAL_CIPHER)])
def test_passes_that_are_not_read_back_get_what_is_measured_fastest(
    monkeypatch: pytest.MonkeyPatch, xts: int, unread: str
) -> None:
    monkeypatch.setattr(tuning, "has_aes", lambda: True)
    monkeypatch.setattr(tuning, "cipher_rate", lambda name, *_: {"aes-256-xts": xts, SEAL_CIPHER: 300}[name])
    assert (choose().cipher, choose().unread_cipher) == (SEAL_CIPHER, unread)
    assert choose(cipher="chacha20").unread_cipher == "chacha20"


def test_stripes_that_were_asked_for_are_kept_with_several_targets() -> None:
    assert choose(stripes=7).shared_by(8).stripes == 7
    assert choose(stripes=7).shared_by(1).stripes == 7
    assert tuning.Tuning(stripes=7).shared_by(8).stripes == 2
    assert choose(chunk=1 << 20).shared_by(8).stripes <= 2
