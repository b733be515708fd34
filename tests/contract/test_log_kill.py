"""kill -9 while the log grows, and while a witness answers: nothing is lost that was said, nothing forks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from expunge_controller import log_audit, translog, witness, witness_client
from expunge_controller.context import Controller, opened
from expunge_controller.init import free_port
from expunge_controller.records import merkle
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.findings import failures
from expunge_controller.witness import WitnessState
from support.controllers import now

WRITER = """
import sys
from pathlib import Path
from expunge_controller import translog
from expunge_controller.context import opened, utc_now
from expunge_controller.records.log_entry import EntryKind, entry_of
from expunge_controller.settings import Home

name = sys.argv[2]
with opened(Home(Path(sys.argv[1]))) as controller:
    number = 0
    while True:
        with controller.store.write() as unit:
            for _ in range(3):
                number += 1
                unit.log.append(entry_of(EntryKind.KEY, f"{name} {number}".encode()))
        row = translog.head(controller, utc_now())
        print(row.size, row.body.hex(), flush=True)
"""


def test_two_writers_killed_again_and_again(controller: Controller) -> None:
    """Every head that was printed stays a beginning of the log, whoever died when."""
    heads: dict[int, bytes] = {}
    dice = random.Random(6962)
    for turn in range(6):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(controller.home.path), f"{turn}.{number}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        assert writers[0].stdout is not None
        first = writers[0].stdout.readline()  # it is at work
        time.sleep(dice.uniform(0.1, 0.8))
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            out = (first if writer is writers[0] else "") + writer.communicate()[0]
            for line in out.splitlines(keepends=True):
                if line.endswith("\n"):
                    size, body = line.split()
                    assert heads.setdefault(int(size), bytes.fromhex(body)) == bytes.fromhex(body)
    assert len(heads) > 6
    with opened(controller.home) as again:
        translog.head(again, now())
        steps = log_audit.check_own(again, list(heads.values()))
        assert [step for step in failures(steps) if step.title != log_audit.DOCUMENTS] == []
        with again.store.read() as unit:
            assert unit.log.size() % 3 == 2, "an append of three is whole or not at all"


def test_a_witness_killed_again_and_again(controller: Controller, tmp_path: Path) -> None:
    """What it cosigned it knows afterwards; so it never signs a second history."""
    with controller.store.read() as unit:
        key = translog.key_in(unit)
    folder = tmp_path / "witness"
    own = witness.make(folder, "w", [key.text])
    port = free_port("127.0.0.1")
    controller.home.log_policy.write_text(
        f'quorum = 1\n[[witness]]\nvkey = "{own.text}"\nurl = "http://127.0.0.1:{port}"\n'
    )
    command = [
        sys.executable,
        "-m",
        "expunge_controller",
        "witness",
        "serve",
        str(folder),
        "--port",
        str(port),
    ]
    dice, cosigned = random.Random(1), 0
    for turn in range(5):
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert server.stderr is not None
        assert "witnessing" in server.stderr.readline()
        deadline, delay = time.monotonic() + dice.uniform(0.05, 0.5), 0.0
        while time.monotonic() < deadline or delay == 0.0:
            delay += 0.01
            with controller.store.write() as unit:
                unit.log.append(f"expunge {turn} {delay}".encode())
            answers, _ = witness_client.cosign(controller, now())
            if answers[0].problem is None:
                cosigned = answers[0].size
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        server.stderr.close()
        state = WitnessState(folder, lambda: int(time.time()))
        assert state.sizes()[key.name] >= cosigned > 0
    (path,) = (folder / "logs").glob("*/checkpoint")
    kept = parse_checkpoint(path.read_bytes())[0]
    with controller.store.read() as unit:
        assert merkle.root(unit.log.node, kept.size) == kept.root
