"""Runs orders in processes that may be killed: ``python -m support.luks_worker`` reads ``STATE DIGEST SECONDS`` a
line, has a copy of itself work on that order, kills it after so many seconds (never, if negative), and says how it ended.
The modules are loaded once only."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path

from expunge_agent.state import State
from expunge_agent.wipe import run_order
from support.agents import surroundings


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        state, digest, seconds = line.split()
        worker = os.fork()
        if worker == 0:
            os._exit(_work(state, digest))
        ended = os.pidfd_open(worker)
        if not select.select([ended], [], [], float(seconds) if float(seconds) >= 0 else None)[0]:
            os.kill(worker, signal.SIGKILL)  # not waited for yet: the number is still its own
        os.close(ended)
        _, status = os.waitpid(worker, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _work(state: str, digest: str) -> int:
    try:
        run_order(State.open(Path(state)), digest, surroundings(checkpoint_seconds=0.001))
    except BaseException as error:  # noqa: BLE001 - the copy ends here, whatever happened
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    main()
