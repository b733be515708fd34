"""The recorded machines of tests/recorded, laid out as folders."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from expunge_agent.devices.roots import Roots

RECORDING = Path(__file__).parent.parent / "recorded" / "linux-6.1-qemu.json"
EMBEDDED = RECORDING.with_name("linux-6.1-embedded.json")
VOLUMES = RECORDING.with_name("linux-6.1-volumes.json")


def lay_out(folder: Path, recording: Path = RECORDING) -> Roots:
    """Put the recorded tree into `folder`."""
    recorded = json.loads(recording.read_text())
    for path in recorded["folders"]:
        (folder / path).mkdir(parents=True, exist_ok=True)
    for path, text in recorded["files"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        raw = base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()
        (folder / path).write_bytes(raw)
    for path, target in recorded["links"].items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(target)
    return Roots(sys=folder / "sys", proc=folder / "proc", etc=folder / "etc", run=folder / "run")
