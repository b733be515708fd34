"""What is read back after a command has to be what the command leaves."""

from __future__ import annotations

import pytest

from expunge_agent.core.outcome import judge_erasure
from expunge_agent.core.technique import LEAVES_NOISE, LEAVES_ZEROS, Technique
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from support.evidence import a_read_back, an_erasure

WHOLE = int(a_read_back().bytes_read)
COMMANDS = [one for one in Technique if one.partition("-")[0] in ("nvme", "ata", "scsi", "mmc", "opal")]


def verdict(technique: Technique, **found: int) -> tuple[Outcome, Level, str]:
    kinds = {"zeros": WHOLE - sum(found.values()), "ones": 0, "constant": 0, "other": 0} | found
    read = a_read_back(**{name: U64(count) for name, count in kinds.items()})
    erasure = an_erasure(technique=technique.value, read_back=read)
    told = judge_erasure(erasure, size=WHOLE, earns=Level.PURGE, verify=True)
    return told.outcome, told.level, told.failure or " ".join(told.exceptions)


@pytest.mark.parametrize("technique", COMMANDS)
def test_zeros_are_what_every_command_may_leave(technique: Technique) -> None:
    assert verdict(technique)[:2] == (Outcome.SANITIZED, Level.PURGE)


@pytest.mark.parametrize("technique", COMMANDS)
def test_what_may_be_old_data_earns_nothing(technique: Technique) -> None:
    outcome, level, said = verdict(technique, other=4096)
    if technique in LEAVES_NOISE:
        assert (outcome, level) == (Outcome.SANITIZED, Level.PURGE)
        return
    assert outcome is (Outcome.FAILED if technique in LEAVES_ZEROS else Outcome.EXCEPTIONS)
    assert level is Level.NONE
    assert "4096 of" in said


@pytest.mark.parametrize("technique", LEAVES_ZEROS)
@pytest.mark.parametrize("kind", ["ones", "constant"])
def test_an_overwrite_with_zeros_leaves_zeros(technique: Technique, kind: str) -> None:
    assert verdict(technique, **{kind: 4096})[0] is Outcome.FAILED
