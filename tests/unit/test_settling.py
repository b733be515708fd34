"""How long a file system is given to write its own records."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_agent.devices.roots import Roots
from expunge_agent.devices.settling import seconds_between_rounds


@pytest.mark.parametrize(("told", "seconds"), [("3000\n", 30.0), ("150\n", 1.5), ("", 30.0)])
def test_what_the_kernel_says_counts(tmp_path: Path, told: str, seconds: float) -> None:
    if told:
        (tmp_path / "sys/fs/xfs").mkdir(parents=True)
        (tmp_path / "sys/fs/xfs/xfssyncd_centisecs").write_text(told)
    assert seconds_between_rounds(Roots(proc=tmp_path)) == seconds
