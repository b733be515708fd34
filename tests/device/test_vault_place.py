"""Where the file of a root key lay before a shredding: also where a kill came between its overwrite and the word on it."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from expunge_agent.vault.session import Session
from support.agents import Crash
from support.vaults import VaultBench

FICLONE = 0x40049409


@pytest.mark.parametrize("killed", [False, True])
def test_an_overwrite_that_went_elsewhere_is_not_forgotten_by_a_kill(
    lab, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    """The root key's file shares its blocks with a copy. The first overwrite goes to new blocks, after which the file is
    shared with nothing: who looks only then sees nothing wrong, and the copy still opens the old keystore."""
    _, point = lab.formatted("xfs", "-m", "reflink=1", size=320 << 20)
    bench = VaultBench.make(Path(point), monkeypatch)
    bench.put("alice", b"a" * 1000)
    (root,) = (bench.root / "keys").glob("root-*.json")
    copy = bench.root / "copy"
    with root.open("rb") as source, copy.open("wb") as sink:
        fcntl.ioctl(sink.fileno(), FICLONE, source.fileno())
    before = root.read_bytes()

    if killed:
        really = Session.record

        def record(held: Session, kind: str, **data: object) -> None:
            if kind == "spoiled":
                raise Crash
            really(held, kind, **data)

        with monkeypatch.context() as patch:
            patch.setattr(Session, "record", record)
            with pytest.raises(Crash):
                bench.change("alice")
        bench.check()  # whoever comes next finishes it
    else:
        bench.change("alice")
    assert copy.read_bytes() == before
    with bench.held() as held:
        ((change, gone),) = held.story.changes
        assert change.subject == "alice"
        assert any("shared" in one for one in gone.doubts)
