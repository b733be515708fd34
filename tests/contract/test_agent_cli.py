"""The command expunge-agent as a user types it: every mistake ends in a sentence and a documented exit code."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expunge_agent.protocol.receipt import parse_statement

RECORD = b"RECORD 4711 "


class Agent:
    """Runs the real program against a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.folder = folder

    def __call__(
        self, *args: str, code: int | None = 0, **options: object
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "expunge_agent", "--state", str(self.state), *args],
            capture_output=True,
            text=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            timeout=60,
            **options,  # type: ignore[call-overload]
        )
        assert code is None or done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    return Agent(tmp_path)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(RECORD * 100_000)
    return path


def test_the_inventory_of_a_path_where_nothing_is(agent: Agent, image: Path) -> None:
    done = agent("inventory", "disk.img", "not-there", code=18)
    assert str(image) in done.stdout
    assert f"There is nothing at {image.with_name('not-there')}." in done.stderr
    told = json.loads(agent("inventory", "--json", "disk.img", "not-there", "disk.img", code=18).stdout)
    assert [item["path"] for item in told if item["type"] in ("file", "missing")] == [
        str(image),
        str(image.with_name("not-there")),
    ]
    agent("inventory", "disk.img", code=0)


def test_wipe_alone_and_check_the_seal(agent: Agent, image: Path, tmp_path: Path) -> None:
    done = agent("wipe", "disk.img", "--profile", "random-verified", "--yes", "--json")
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert last["receipt"]["predicate"]["outcome"] == "sanitized"
    assert {"started", "step-started", "target-finished", "finished"} <= {
        one["event"]["kind"] for one in events
    }
    assert RECORD not in image.read_bytes()
    agent("report", "1", "--out", "out")
    receipt = parse_statement((tmp_path / "out" / "receipt.json").read_bytes()).predicate
    assert receipt.order.issuer == f"agent:{receipt.agent.machine_id}"
    envelope = json.loads((tmp_path / "out" / "receipt.dsse.json").read_bytes())
    assert base64.b64decode(envelope["payload"]) == (tmp_path / "out" / "receipt.json").read_bytes()
    assert envelope["signatures"][1]["keyid"] == receipt.agent.mldsa65_key
    agent("verify", "disk.img", "--receipt", "out/receipt.json")
    with image.open("r+b") as handle:
        handle.seek(70_000)
        handle.write(b"new data")
    told = agent("verify", "disk.img", "--receipt", "out/receipt.json", code=7)
    assert "at 70000" in told.stdout


def test_a_dry_run_touches_nothing(agent: Agent, image: Path) -> None:
    before = image.read_bytes()
    plan = json.loads(agent("wipe", "disk.img", "--profile", "random-verified", "--dry-run", "--json").stdout)
    assert plan["plans"][0]["passes"] == ["00", "keyed stream"]
    assert image.read_bytes() == before
    assert not agent.state.exists()


def everything(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def test_without_a_yes_nothing_happens(agent: Agent, image: Path) -> None:
    before = image.read_bytes()
    assert "--yes" in agent("wipe", "disk.img", "--profile", "zero", code=2).stderr
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (lambda path: None, 3, "nothing at"),
        (lambda path: path.mkdir(), 3, "directory"),
        (lambda path: path.touch(), 3, "0 bytes"),
        (lambda path: path.symlink_to("/etc/hostname"), 3, "symbolic link"),
        (os.mkfifo, 3, "FIFO"),
    ],
    ids=["missing", "directory", "empty", "link", "fifo"],
)
def test_what_is_no_target(agent: Agent, tmp_path: Path, make: object, code: int, says: str) -> None:
    make(tmp_path / "target")  # type: ignore[operator]
    done = agent("wipe", "target", "--profile", "zero", "--yes", code=code)
    assert says in done.stderr + done.stdout


def test_the_agents_own_files_by_any_name(agent: Agent, image: Path, tmp_path: Path) -> None:
    """Also when the state folder is named through a link."""
    agent("wipe", "disk.img", "--profile", "zero", "--yes", code=5)
    (tmp_path / "link").symlink_to(agent.state)
    receipt = agent.state.resolve() / "receipts" / "000000000001" / "receipt.json"
    before = receipt.read_bytes()
    agent.state = tmp_path / "link"
    assert "own folder" in agent("wipe", str(receipt), "--profile", "zero", "--yes", code=3).stderr
    assert receipt.read_bytes() == before


def test_hard_links(agent: Agent, image: Path, tmp_path: Path) -> None:
    os.link(image, tmp_path / "second")
    assert "2 names" in agent("wipe", "disk.img", "--profile", "zero", "--yes", "--dry-run", code=3).stderr


def test_profiles(agent: Agent, image: Path) -> None:
    assert "random-verified" in agent("profiles").stdout
    assert len(json.loads(agent("profiles", "zero", "--json").stdout)["digest"]) == 64
    assert "zero" in agent("wipe", "disk.img", "--profile", "zeroo", "--yes", code=10).stderr
    agent("report", code=11)
    folder = agent.state / "profiles"
    folder.mkdir(parents=True)
    (folder / "own.toml").write_text('id = "own"\nversion = "x"\n')
    told = agent("profiles", code=10).stderr
    assert "own.toml" in told
    assert "version" in told


def test_unknown_option_and_verb(agent: Agent) -> None:
    assert "No such option '--no-such-option'" in agent("wipe", "--no-such-option", code=2).stderr
    assert "No such command 'no-such-verb'" in agent("no-such-verb", code=2).stderr
    assert "Missing option '--profile'" in agent("wipe", code=2).stderr
    assert not agent.state.exists()


def test_a_receipt_that_was_changed_is_no_basis(agent: Agent, image: Path, tmp_path: Path) -> None:
    agent("wipe", "disk.img", "--profile", "random-verified", "--yes")
    agent("report", "1", "--out", "out")
    path = tmp_path / "out" / "receipt.json"
    path.write_bytes(path.read_bytes().replace(b'"sanitized"', b'"sanitised"'))
    before = image.read_bytes(), everything(tmp_path / "out"), everything(agent.state)
    told = agent("verify", "disk.img", "--receipt", "out/receipt.json", code=9)
    assert "signature is not valid: it does not belong to these bytes" in told.stderr
    told = agent("verify", "disk.img", "--receipt", "out/missing.json", code=11)
    assert "out/missing.json: No such file or directory" in told.stderr
    assert (image.read_bytes(), everything(tmp_path / "out"), everything(agent.state)) == before


def test_run_of_an_order_that_was_never_handed_in(agent: Agent, image: Path) -> None:
    assert "no agent state in" in agent("run", "--pending", code=11).stderr
    assert not agent.state.exists()
    agent("wipe", "disk.img", "--profile", "zero", "--yes", code=5)
    before = image.read_bytes(), everything(agent.state)
    agent("run", "--pending")
    assert "There is no order abababababababab" in agent("run", "ab" * 32, code=18).stderr
    assert "'../../etc' is not an order's digest" in agent("run", "../../etc", code=18).stderr
    assert "Name one order, or use --pending" in agent("run", code=2).stderr
    (agent.state / "orders" / f".{'ab' * 32}.lock").unlink()  # an empty file, to be the only one at it
    assert (image.read_bytes(), everything(agent.state)) == before


def test_sigterm_ends_with_a_receipt_that_says_interrupted(agent: Agent, tmp_path: Path) -> None:
    image = tmp_path / "big.img"
    image.write_bytes(b"")
    os.truncate(image, 6 << 30)  # sparse: longer than a moment, and never finished
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "expunge_agent",
            "--state",
            str(agent.state),
            "wipe",
            "big.img",
            "--profile",
            "gutmann",
            "--yes",
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(agent.state.glob("orders/*/events.jsonl")):
            time.sleep(0.05)
        time.sleep(0.3)
        process.terminate()
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        image.unlink()
    assert process.returncode == 6, err
    assert "interrupted" in out
    (row,) = json.loads(agent("report", "--json").stdout)["receipts"]
    assert row["outcome"] == "interrupted"


def paused_wipe(agent: Agent, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """A wipe that would take minutes, under way."""
    image = tmp_path / "big.img"
    image.touch()
    os.truncate(image, 1 << 30)
    process = wipe_of_big(agent, "zero", "--rate", "20M", *options)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not written(agent):
        time.sleep(0.05)
    return process


def wipe_of_big(agent: Agent, profile: str, *options: str) -> subprocess.Popen[str]:
    """A wipe of big.img, started."""
    wipe = ("wipe", "big.img", "--yes", "--profile", profile, *options)
    return subprocess.Popen(
        [sys.executable, "-m", "expunge_agent", "--state", str(agent.state), *wipe],
        cwd=agent.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def written(agent: Agent) -> int:
    """Bytes that the newest progress event tells of."""
    lines = [
        line for path in agent.state.glob("orders/*/events.jsonl") for line in path.read_text().splitlines()
    ]
    return max((int(json.loads(line)["done"]) for line in lines), default=0)


def test_rate_pause_status_and_hang_up(agent: Agent, tmp_path: Path) -> None:
    """20 MB/s is kept to; SIGUSR1 tells, SIGUSR2 halts and resumes, SIGHUP leaves the order for later."""
    process = paused_wipe(agent, tmp_path)
    try:
        began, at = time.monotonic(), written(agent)
        time.sleep(1.5)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGUSR2)
        rate = (written(agent) - at) / (time.monotonic() - began)
        assert 2e6 < rate < 60e6
        time.sleep(1.0)
        halted = written(agent)
        time.sleep(1.5)
        assert written(agent) == halted
        process.send_signal(signal.SIGUSR2)
        deadline = time.monotonic() + 20
        while written(agent) == halted:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 6, err
    assert "target 1: pass 1 of 1: byte 00" in err
    assert err.count("paused\n") == err.count("resumed\n") == 1
    assert json.loads(agent("report", "--json").stdout)["receipts"] == []
    assert "would be carried out" in agent("run", "--pending", "--dry-run").stdout
    (line,) = agent("run", "--pending", "--json", code=5).stdout.splitlines()
    assert json.loads(line)["outcome"] == "sanitized-with-exceptions"
    with (tmp_path / "big.img").open("rb") as handle:
        assert not any(handle.read(1 << 20).strip(b"\0") for _ in range(1024))


@pytest.mark.skipif(shutil.which("ionice") is None, reason="needs ionice (package util-linux)")
def test_idle_priority_is_taken(agent: Agent, tmp_path: Path) -> None:
    """By every thread of the wipe, as the kernel has it; and processor time is given up with it."""
    process = paused_wipe(agent, tmp_path, "--io-priority", "idle", "--per-bus", "1")
    try:
        threads = [int(one.name) for one in Path(f"/proc/{process.pid}/task").iterdir()]
        seen = subprocess.run(
            ["ionice", "-p", *map(str, threads)], capture_output=True, text=True, check=True
        ).stdout.split()
        niceness = {os.getpriority(os.PRIO_PROCESS, one) for one in threads}
    finally:
        process.kill()
        process.communicate()
    assert len(threads) > 1
    assert seen == ["idle"] * len(threads)
    assert niceness == {min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)}


def test_a_rate_that_is_none(agent: Agent, image: Path) -> None:
    before = image.read_bytes()
    told = agent("wipe", "disk.img", "--profile", "zero", "--yes", "--rate", "fast", code=2)
    assert "'fast' is not a rate such as 100M" in told.stderr
    assert image.read_bytes() == before
    assert not agent.state.exists()


def test_help_is_there_for_every_verb(agent: Agent) -> None:
    verbs = [
        line.split()[0]
        for line in agent("--help").stdout.split("Commands:")[1].splitlines()
        if line.startswith("  ")
    ]
    verbs = [verb for verb in verbs if verb.islower() and verb.isalpha()]
    assert {"inventory", "wipe", "verify", "serve", "run", "report"} <= set(verbs)
    for verb in ("inventory", "wipe", "verify", "serve", "run", "report", "enrol", "profiles"):
        assert "Usage:" in agent(verb, "--help").stdout


def test_a_view_that_closes_early_ends_nothing(agent: Agent, tmp_path: Path) -> None:
    """As with ``wipe --json … | head -1``: the wipe goes on, and its receipt is kept."""
    with (tmp_path / "big.img").open("wb") as handle:
        handle.truncate(64 << 20)
    process = wipe_of_big(agent, "random-verified", "--rate", "60M", "--json")
    try:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        process.stderr.close()
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
    (receipt,) = json.loads(agent("report", "--json").stdout)["receipts"]
    assert receipt["outcome"] == "sanitized"


def test_sigterm_ends_a_wipe_with_a_truthful_receipt(agent: Agent, tmp_path: Path) -> None:
    process = paused_wipe(agent, tmp_path)
    try:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 6, err
    (entry,) = json.loads(agent("report", "--json").stdout)["receipts"]
    assert entry["outcome"] == "interrupted"
    agent("report", "1", "--out", "out")
    receipt = parse_statement((tmp_path / "out" / "receipt.json").read_bytes()).predicate
    (taken,) = receipt.targets[0].passes
    assert not taken.complete
    assert 0 < int(taken.bytes_written) < 1 << 30
    with (tmp_path / "big.img").open("rb") as handle:
        assert not handle.read(int(taken.bytes_written)).strip(b"\0")
    told = agent("verify", "big.img", "--receipt", "out/receipt.json", code=20)
    assert "did not come to its end" in told.stderr


def test_a_reading_tells_how_far_it_is_and_ends_on_demand(agent: Agent, tmp_path: Path) -> None:
    with (tmp_path / "big.img").open("wb") as handle:
        handle.truncate(1 << 30)
    agent("wipe", "big.img", "--profile", "zero", "--yes", code=5)
    agent("report", "1", "--out", "out")
    process = subprocess.Popen(
        [sys.executable, "-m", "expunge_agent", "verify", "big.img", "--receipt", "out/receipt.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        assert process.stderr is not None
        first = process.stderr.readline()  # it is under way
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert "reading back" in first
    assert process.returncode in (0, 130), err  # a quick machine may have come to the end
    assert "target 1: reading back" in err


def test_a_broken_profile_stops_no_order_that_waits(agent: Agent, tmp_path: Path) -> None:
    process = paused_wipe(agent, tmp_path)
    try:
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    folder = agent.state / "profiles"
    folder.mkdir(exist_ok=True)
    (folder / "half-written.toml").write_text("")
    done = agent("run", "--pending", "--json", code=5)
    assert json.loads(done.stdout)["outcome"] == "sanitized-with-exceptions"
    assert "half-written.toml" in done.stderr
