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
        return rates[name]

    monkeypatch.setattr(tuning, "cipher_rate", rate)
    monkeypatch.setattr(tuning, "has_aes", lambda: True)
    assert choose().cipher == SEAL_CIPHER
    assert not asked
    monkeypatch.setattr(tuning, "has_aes", lambda: False)
    assert choose().cipher == cipher
    assert asked == list(rates)
