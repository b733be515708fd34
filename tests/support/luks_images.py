"""LUKS volumes in image files, made and opened by cryptsetup itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from expunge_agent.protocol.key_rules import STATED
from expunge_agent.protocol.order_keys import KeyStatement, KeyWish

FAST = ["--pbkdf-force-iterations", "1000", "-q"]
MIB = 1 << 20
RECORD = b"ENCRYPTED-AS-FAR-AS-ANYBODY-KNOWS "


def cryptsetup(*words: str | Path, ok: bool = True, stdin: bytes = b"pw") -> int:
    done = subprocess.run(["cryptsetup", *map(str, words)], input=stdin, capture_output=True, timeout=60)
    assert not ok or done.returncode == 0, done.stderr
    return done.returncode


def opens(path: Path, *more: str | Path) -> bool:
    return cryptsetup("open", "--test-passphrase", "--disable-locks", *more, path, "-", ok=False) == 0


def make(path: Path, kind: str = "luks2", *more: str | Path, size: int = 18 * MIB) -> Path:
    with path.open("xb") as file:
        file.write((RECORD * (size // len(RECORD) + 1))[:size])
    pbkdf = ["--pbkdf", "pbkdf2"] if kind == "luks2" else []
    cryptsetup("luksFormat", "--type", kind, *pbkdf, *FAST, *more, path, "-")
    assert opens(path, *more)
    return path


def vouched(*but: str, **more: object) -> KeyWish:
    """Everything is stated but these conditions."""
    stated = [KeyStatement(id=one, holds="yes", said_by="custodian") for one in STATED if one not in but]
    return KeyWish(**{"statements": stated, **more})  # type: ignore[arg-type]
