"""Key work in a child: what goes in and out, how it ends, and what the kernel says of its protection."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from expunge_agent.devices import private_child
from expunge_agent.errors import StateError


def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, data: bytes = b"", **more: object):
    """Run `work` of a module with this body; the child finds it where the agent's own package lies."""
    module = Path(private_child.__file__).with_name(f"zz_probe_{os.getpid()}.py")
    module.write_text(body)
    try:
        monkeypatch.delitem(sys.modules, f"expunge_agent.devices.{module.stem}", raising=False)
        probe = __import__(f"expunge_agent.devices.{module.stem}", fromlist=["work"])
        return private_child.run_private(probe.work, data, **{"timeout": 20.0, **more})
    finally:
        module.unlink()


def test_bytes_go_in_and_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(
        tmp_path, monkeypatch, "def work(data):\n    return data[::-1] + b'\\n\\0'\n", b"\0secret\n" * 9999
    )
    assert done.output == (b"\0secret\n" * 9999)[::-1] + b"\n\0"
    assert done.protection.no_core
    assert done.protection.not_dumpable


def test_the_kernel_confirms_the_protection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        "import os, pathlib\n"
        "def work(data):\n"
        "    said = pathlib.Path('/proc/self/limits').read_text() + pathlib.Path('/proc/self/status').read_text()\n"
        "    return said.encode() + f'owner {os.stat(\"/proc/self/environ\").st_uid}'.encode()\n"
    )
    done = call(tmp_path, monkeypatch, body)
    lines = {
        line.split(":")[0].rsplit("  ")[0].strip(): line.split() for line in done.output.decode().splitlines()
    }
    core = next(line for line in done.output.decode().splitlines() if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    locked = int(lines["VmLck"][1])
    assert (locked > 0) is (done.protection.not_locked == ""), done.protection
    # Files in /proc of a process that cannot be dumped belong to root (proc(5)).
    assert done.output.endswith(b"owner 0")


def test_what_a_library_prints_does_not_get_into_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries of tokens write to standard output as they like; the answer came only after the key was gone."""
    body = "import os\ndef work(data):\n    os.write(1, b'vendor 1.0 ready\\n')\n    print('hello')\n    return data\n"
    assert call(tmp_path, monkeypatch, body, b"answer").output == b"answer"


def test_a_users_mistake_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = (
        "from expunge_agent.errors import StateError\n"
        "def work(data):\n    raise StateError('Wrong passphrase.', 'Try again.')\n"
    )
    with pytest.raises(StateError, match="Wrong passphrase") as caught:
        call(tmp_path, monkeypatch, body)
    assert caught.value.remedy == "Try again."


@pytest.mark.parametrize("body", ["raise ValueError(data)", "import os; os.abort()"])
def test_a_crash_tells_nothing_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StateError) as caught:
        call(tmp_path, monkeypatch, f"def work(data):\n    {body}\n", b"TOPSECRETKEY")
    assert "TOPSECRETKEY" not in str(caught.value) + "".join(capfd.readouterr())


def test_it_is_ended_when_it_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(StateError, match="did not end"):
        call(tmp_path, monkeypatch, "import time\ndef work(data):\n    time.sleep(60)\n", timeout=1.0)
    assert time.monotonic() - began < 10


def test_a_descriptor_is_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "data"
    place.write_bytes(b"stream")
    fd = os.open(place, os.O_RDONLY)
    try:
        body = "import os\ndef work(data):\n    return os.pread(int(data), 100, 0)\n"
        assert call(tmp_path, monkeypatch, body, str(fd).encode(), fds=[fd]).output == b"stream"
    finally:
        os.close(fd)
