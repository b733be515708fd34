"""NVMe Format NVM with secure erase (NVM Express Base 2.0 §5.14): user data erase, cryptographic erase.

The command returns when the drive has finished, and tells of no progress but what a namespace may
report while it is formatted. A format without secure erase (SES 0) erases nothing and is never sent.
"""

from __future__ import annotations

from expunge_agent.commands import nvme, nvme_identify
from expunge_agent.commands.nvme_bytes import BadAnswer
from expunge_agent.commands.nvme_offers import FORMATS, lacks
from expunge_agent.commands.nvme_status import FORMAT_IN_PROGRESS, refused, words
from expunge_agent.commands.port import CommandError, NvmePort
from expunge_agent.core.drive import Answer
from expunge_agent.core.reach import IDENTIFY_CONTROLLER
from expunge_agent.core.technique import Technique
from expunge_agent.techniques.hand import Rejected, State, Status

_FLOOR = 3600.0
_LARGE = 32 * 10**12
"""Bytes of a drive that does not tell its size now."""
_SLOWEST = 100_000_000
"""Bytes a second that any drive erases; Format NVM declares no time."""


class NvmeFormat:
    """A `Hand` for namespace `nsid`. Asks the drive for its size when it is made, and may raise CommandError
    then; it may be made while a format runs, even of a drive that refuses to identify itself meanwhile.

    Where FNA says so, the format of one namespace is one of all (`expunge_agent.core.reach`).
    Raises KeyError for another technique.
    """

    waits = True

    def __init__(self, port: NvmePort, technique: Technique, nsid: int) -> None:
        self.technique = technique
        self._erase = FORMATS[technique]
        self._port, self._nsid = port, nsid
        try:
            size = max(self._controller()[0].capacity, self._namespace()[0].size)
        except BadAnswer:
            size = _LARGE
        self.timeout = max(_FLOOR, size / _SLOWEST)

    def prepare(self) -> list[Answer]:
        """See `Hand`."""
        controller, raw = self._controller()
        answers = [Answer(name=IDENTIFY_CONTROLLER, hex=raw.hex())]
        why = lacks(controller, self.technique)
        if why:
            raise Rejected(why, answers)
        namespace, raw = self._namespace()
        answers.append(self._answer("", raw))
        if not namespace.sector or not namespace.blocks:
            raise Rejected(f"namespace {self._nsid} is not active", answers)
        return answers

    def start(self) -> list[Answer]:
        """See `Hand`: the namespace before, the command with its end, the namespace after.

        Raises CommandError where the drive failed at it, or may have: data can be partly gone then.
        """
        controller, _ = self._controller()
        why = lacks(controller, self.technique)
        if why:
            raise Rejected(why)
        namespace, raw = self._namespace()
        command = nvme.format_nvm(self._nsid, namespace, self._erase)
        reply = self._port.admin(command, timeout=self.timeout)
        reach = "all namespaces" if controller.format_reaches_all else f"namespace {self._nsid}"
        title = f"Format NVM of {reach}, secure erase setting {self._erase}"
        answers = [self._answer(" before", raw), nvme.completion(title, command, reply)]
        if refused(reply.status):
            raise Rejected(f"the drive refused Format NVM: {words(reply.status)}", answers)
        if reply.status:
            raise CommandError(f"{title} failed, perhaps half way: {words(reply.status)}.")
        return [*answers, *self._afterwards(title, namespace)]

    def poll(self) -> Status:
        """See `Hand`: RUNNING while a format of the namespace is reported, else IDLE: a format that
        ended leaves no trace by which it could be known."""
        command = nvme.identify(nvme.Cns.NAMESPACE, self._nsid)
        reply = self._port.admin(command, data_in=nvme_identify.IDENTIFY_BYTES)
        if reply.status == FORMAT_IN_PROGRESS:
            return Status(State.RUNNING, detail=words(reply.status))
        raw = nvme.read(reply, nvme_identify.IDENTIFY_BYTES, f"Identify Namespace {self._nsid}")
        left = nvme_identify.namespace(raw).format_left
        answers = [self._answer("", raw)]
        if left > 0:
            detail = f"{left} per cent of the format remain"
            return Status(State.RUNNING, max(0, 100 - left) * 10_000, detail=detail, answers=answers)
        return Status(State.IDLE, detail="no format is running", answers=answers)

    def settle(self) -> list[Answer]:
        """See `Hand`: there is nothing to undo. Raises Rejected while a format runs."""
        status = self.poll()
        if status.state is State.RUNNING:
            raise Rejected(f"a format still runs ({status.detail})", status.answers)
        return status.answers

    def _afterwards(self, title: str, before: nvme_identify.Namespace) -> list[Answer]:
        """The namespace as it is now. The format ended well, so an answer that fails to come is no error."""
        try:
            after, raw = self._namespace()
        except CommandError as error:
            return [Answer(name=f"Identify Namespace {self._nsid} after: {error}"[:200], hex="")]
        answers = [self._answer(" after", raw)]
        if (after.sector, after.metadata, after.blocks) != (before.sector, before.metadata, before.blocks):
            # The command asked for the same format: whoever compares has it in words.
            answers.append(
                Answer(name=f"{title}: the namespace has another size or block format now", hex="")
            )
        return answers

    def _controller(self) -> tuple[nvme_identify.Controller, bytes]:
        raw = _ask(self._port, nvme.Cns.CONTROLLER, 0, IDENTIFY_CONTROLLER)
        return nvme_identify.controller(raw), raw

    def _namespace(self) -> tuple[nvme_identify.Namespace, bytes]:
        raw = _ask(self._port, nvme.Cns.NAMESPACE, self._nsid, f"Identify Namespace {self._nsid}")
        return nvme_identify.namespace(raw), raw

    def _answer(self, when: str, raw: bytes) -> Answer:
        return Answer(name=f"Identify Namespace {self._nsid}{when}", hex=raw.hex())


def _ask(port: NvmePort, cns: nvme.Cns, nsid: int, what: str) -> bytes:
    reply = port.admin(nvme.identify(cns, nsid), data_in=nvme_identify.IDENTIFY_BYTES)
    return nvme.read(reply, nvme_identify.IDENTIFY_BYTES, what)
