"""The times in allowed_signers as the stock ssh-keygen understands them, and README.txt's commands with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from expunge_agent.protocol import sshsig
from expunge_agent.protocol.trust import TrustedSigner, format_allowed_signers, ssh_time
from expunge_controller.records.key_event import KeyEventKind
from support.evidence import at
from support.key_story import Story, seen
from support.logs import fresh_signer


def version() -> tuple[int, int]:
    done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=60)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


if shutil.which("ssh-keygen") is None:
    pytest.skip("ssh-keygen is not installed", allow_module_level=True)
if version() < (9, 1):
    pytest.skip("times in UTC in allowed_signers need OpenSSH 9.1", allow_module_level=True)


def accepts(folder: Path, when: str, signer: TrustedSigner) -> bool:
    """Whether ssh-keygen believes a signature of `when`; and whether we do is the same."""
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "agent:1", "-n", "expunge-receipt",
         "-O", f"verify-time={ssh_time(when)}", "-s", "sig"],
        input=b"x", cwd=folder, capture_output=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode == 0) is signer.is_good_at(when), done.stderr
    return done.returncode == 0


def test_windows(tmp_path: Path) -> None:
    key = fresh_signer()
    signer = TrustedSigner(
        principal="agent:1",
        namespaces=(sshsig.RECEIPT_NAMESPACE,),
        public_line=key.public_line,
        valid_after=at(100),
        valid_before=at(200),
    )
    (tmp_path / "allowed").write_text(format_allowed_signers([signer]))
    (tmp_path / "sig").write_bytes(sshsig.sign(key, sshsig.RECEIPT_NAMESPACE, b"x"))
    good = [accepts(tmp_path, at(second), signer) for second in (99, 100, 150, 200, 201)]
    assert good == [False, True, True, True, False]


def test_the_commands_of_a_bundle_whose_key_was_revoked(tmp_path: Path) -> None:
    story = Story()
    files = story.bundle((5, story.about(KeyEventKind.REVOKED, seen(10))))
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    section = files["README.txt"].decode().partition("2. SIGNATURES")[2].partition("\n3. ")[0]
    commands = "\n".join(line[4:] for line in section.splitlines() if line.startswith("    "))

    def answers(text: str) -> list[str]:
        done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, timeout=60, text=True)
        return (done.stdout + done.stderr).splitlines()

    good = answers(commands)
    assert len(good) == 10 and all(line.startswith("Good ") for line in good), good
    without = answers(re.sub(r"-O verify-time=\S+ ", "", commands))
    assert any("key has expired" in line.lower() or "expired" in line for line in without), without
