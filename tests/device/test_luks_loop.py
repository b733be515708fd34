"""LUKS on block devices: cryptsetup works beside our exclusive claim, and partitions and other headers stay apart."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyStatement, KeyWish
from support.agents import Bench

pytestmark = pytest.mark.skipif(shutil.which("cryptsetup") is None, reason="needs cryptsetup")

MIB = 1 << 20
STATEMENTS = [KeyStatement(id=one, holds="yes", said_by="custodian") for one in STATED]


def cryptsetup(*words: str) -> int:
    return subprocess.run(["cryptsetup", *words], input=b"pw", capture_output=True, timeout=60).returncode


@pytest.mark.parametrize("kind", ["luks1", "luks2"])
def test_a_partition_is_shredded_and_its_neighbour_is_not(lab, tmp_path: Path, kind: str) -> None:
    device = lab.loop(size=44 * MIB)
    parts = [lab.partition(device, number, (number * 21 - 20) * MIB, 21 * MIB) for number in (1, 2)]
    for part in parts:
        fast = ["--pbkdf", "pbkdf2"] if kind == "luks2" else []
        words = ["luksFormat", "-q", "--type", kind, *fast, "--pbkdf-force-iterations", "1000", part, "-"]
        assert cryptsetup(*words) == 0
        assert cryptsetup("open", "--test-passphrase", part, "-") == 0
    before = Path(device).read_bytes()
    bench = Bench.make(tmp_path / "state")
    order = bench.order(Path(parts[0]), policy="luks-crypto-erase", keys=KeyWish(statements=STATEMENTS))
    result = bench.run(order).targets[0]
    assert (result.outcome, result.level_achieved) == (Outcome.SANITIZED, Level.CLEAR), result
    assert "cryptsetup erase ended with 0" in result.key.copies[0].detail
    assert cryptsetup("open", "--test-passphrase", parts[0], "-") != 0
    assert cryptsetup("open", "--test-passphrase", parts[1], "-") == 0
    area = (16 if kind == "luks2" else 2) * MIB
    after = Path(device).read_bytes()
    assert after[MIB : MIB + area] == bytes(area)
    assert (after[:MIB], after[MIB + area :]) == (before[:MIB], before[MIB + area :])
