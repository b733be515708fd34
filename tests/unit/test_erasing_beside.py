"""Two namespaces of one drive: what becomes of the one that is not the target, and what its receipt says then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from expunge_agent.core.drive import Drive, NvmeNamespace
from expunge_agent.core.erasure_progress import Ended
from expunge_agent.core.plan import TargetPlan, VerificationPlan
from expunge_agent.core.reach import listed_others, others, takes
from expunge_agent.core.technique import Technique as T
from expunge_agent.protocol import canonical
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.canonical import U64
from expunge_agent.protocol.identity import BlockIdentity, Target
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.surroundings import Surroundings
from expunge_agent.target_run import TargetRun
from lab.bench import NVME_TWO, Bench, Book
from lab.bench import Order as BenchOrder
from support.evidence import PROFILE, World

SPACES = [NvmeNamespace(nsid=n, attached=True, node=f"nvme0n{n}") for n in (1, 2)]
DRIVE = Drive(protocol="nvme", namespaces=SPACES)
REFUSAL = Refusal(reason=Reason.LEVEL_NOT_ACHIEVABLE, detail="A sanitize operation is running.")


def second_of_two(technique: T, *, sending: bool, ended: str = "", found: str = "/dev/nvme0n2") -> Any:
    """What becomes of the second target, refused while the first was given `technique`."""
    disks = [
        BlockIdentity(bus="nvme", model="M", serial="S", wwn=f"eui.{n}", size=U64(1 << 20)) for n in (1, 2)
    ]
    body = World().order(
        targets=[Target(identity=one, hint=f"/dev/nvme0n{n}") for n, one in enumerate(disks, 1)]
    )
    order, book = canonical.loads(body, Order), Book()
    first = book.target(0)
    first.plan = TargetPlan(
        path="/dev/nvme0n1",
        technique=technique,
        earns=Level.PURGE,
        verification=VerificationPlan(kind="none"),
        drive=DRIVE,
    )
    first.erasure.attempts, first.erasure.sending = 1, sending
    first.erasure.ended = Ended(end=ended, detail="") if ended else None  # type: ignore[arg-type]
    events: Any = None
    run = TargetRun(order, PROFILE, 1, book, events, Surroundings(profiles={}))  # type: ignore[arg-type]
    run._found = found
    return run._refused(REFUSAL)


@pytest.mark.parametrize("ended", ["", "done", "failed", "unknown", "running"])
def test_a_sibling_whose_data_went_along_is_not_called_refused(ended: str) -> None:
    result = second_of_two(T.NVME_SANITIZE_BLOCK, sending=True, ended=ended)
    assert (result.outcome, result.refusal) == (Outcome.UNKNOWN, REFUSAL)
    assert "the command given for target 1" in result.failure


@pytest.mark.parametrize(
    "how",
    [
        {"technique": T.NVME_SANITIZE_BLOCK, "sending": False},
        {"technique": T.NVME_SANITIZE_BLOCK, "sending": True, "ended": "not-begun"},
        {"technique": T.NVME_SANITIZE_BLOCK, "sending": True, "found": "/dev/nvme1n1"},
        {"technique": T.OVERWRITE, "sending": True},
    ],
)
def test_else_a_refusal_is_one(how: dict[str, Any]) -> None:
    assert second_of_two(**how).outcome is Outcome.REFUSED


def test_whose_data_goes_along() -> None:
    assert takes(T.NVME_SANITIZE_BLOCK, DRIVE, "nvme0n2")
    assert not takes(T.NVME_SANITIZE_BLOCK, DRIVE, "nvme0n3")
    assert not takes(T.OVERWRITE, DRIVE, "nvme0n2")
    assert others(DRIVE, "nvme0n1") == SPACES[1:]
    assert others(DRIVE, "sda") is None


def test_a_list_that_is_not_whole_names_those_that_are_known() -> None:
    told = replace(DRIVE, unlisted="there may be further controllers")
    assert others(told, "nvme0n1") is None
    assert listed_others(told, "nvme0n1") == SPACES[1:]
    assert listed_others(told, "sda") is None


@pytest.mark.parametrize("read", [True, False])
def test_a_neighbour_that_is_read_tells_of_its_loss(tmp_path: Path, read: bool) -> None:
    """One of zeros throughout has nothing to lose, and nothing is told."""
    bench, book = Bench(tmp_path, T.NVME_FORMAT_USER_DATA, NVME_TWO, "format-hits-all-namespaces"), Book()
    if not read:
        second = bench.drive._find(2)
        bench.drive.store.fill(second.base, second.size, b"\0")
    verdict = BenchOrder(bench).carry_out(book)
    told = book.target(0).erasure.result("nvme-format-user-data", None).beside
    assert len(told) == int(read)
    assert verdict.exceptions == told
    assert (verdict.outcome is Outcome.EXCEPTIONS) is read
    bench.close()


def test_a_known_neighbour_is_watched_where_there_may_be_unknown_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, book = Bench(tmp_path, T.NVME_FORMAT_USER_DATA, NVME_TWO, "format-hits-all-namespaces"), Book()
    examine = bench.examine

    def in_company() -> Drive:
        seen = examine()
        assert seen is not None
        return replace(seen, unlisted="there may be further controllers")

    monkeypatch.setattr(bench, "examine", in_company)
    verdict = BenchOrder(bench).carry_out(book)
    assert len(book.target(0).erasure.result("nvme-format-user-data", None).beside) == 1
    assert verdict.outcome is Outcome.EXCEPTIONS
    bench.close()
