"""From this process to the one that works with keys, and back: jobs, descriptors, progress."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from expunge_agent.devices.private_child import Done, run_private
from expunge_agent.errors import UsageError
from expunge_agent.protocol import canonical
from expunge_agent.vault.secret import Secret
from expunge_agent.vault.work import Answer, Job

LONGEST = 20 * 86400.0
"""Seconds one job may take."""
PASSED = ("SOFTHSM2_CONF", "YUBIHSM_PKCS11_CONF", "CS_PKCS11_R3_CFG", "CKNFAST_LOADSHARING", "P11_KIT_STRICT")
"""Variables of the environment that libraries of tokens read; nothing else is passed on."""


@dataclass(frozen=True)
class Access:
    """``known``: the folder in which this machine keeps what it knows of vaults. `passphrase` is asked when
    it is needed (it may ask a person)."""

    known: Path
    passphrase: Callable[[], Secret]

    def job(self, folder: Path, now: str, **more: object) -> Job:
        """A job on the vault in `folder`, for one `perform`."""
        fields = {
            "folder": str(folder),
            "known": str(self.known),
            "now": now,
            "passphrase": self.passphrase().into_pipe(),
            "environment": {name: os.environ[name] for name in PASSED if name in os.environ},
        }
        return Job(**{**fields, **more})  # type: ignore[arg-type]


def perform(
    work: Callable[[bytes], bytes],
    job: Job,
    fds: Sequence[int] = (),
    progress: Callable[[int], None] | None = None,
) -> Answer:
    """Have `work` (of `vault.work`) do `job` in a process of its own; `fds` are those that the job names.

    `progress` is told bytes of plaintext, from another thread. Raises what the work raises.
    """
    try:
        body = _said(job)
        if progress is None:
            done = run_private(work, body, LONGEST, (*fds, job.passphrase))
        else:
            done = _followed(work, job, fds, progress)
    finally:
        os.close(job.passphrase)
    return canonical.loads(done.output, Answer, "answer")


def _followed(
    work: Callable[[bytes], bytes], job: Job, fds: Sequence[int], progress: Callable[[int], None]
) -> Done:
    reading, writing = os.pipe()
    teller = threading.Thread(target=_tell, args=(reading, progress), name="vault-progress")
    teller.start()
    try:
        job = msgspec.structs.replace(job, progress=writing)
        return run_private(work, _said(job), LONGEST, (*fds, job.passphrase, writing))
    finally:
        os.close(writing)
        teller.join()


def _said(job: Job) -> bytes:
    try:
        return canonical.dumps(job)
    except UnicodeEncodeError as error:
        raise UsageError("A path or name holds bytes that are no UTF-8.", "Name it otherwise.") from error


def _tell(reading: int, progress: Callable[[int], None]) -> None:
    with os.fdopen(reading, "rb") as pipe:
        while len(said := pipe.read(8)) == 8:
            progress(int.from_bytes(said, "big"))
