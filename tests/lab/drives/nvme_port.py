"""A simulated NVMe drive as the agent sees one: its `NvmePort`, in this process."""

from __future__ import annotations

import dataclasses

from expunge_agent.commands.port import CommandTimeout, DriveGone, NvmeCommand, NvmeReply
from lab.drives.nvme import Command, Gone, NvmeDrive, Pending

STEP = 0.05
"""How often a command that takes its time is looked at, in seconds of the drive's clock."""


class SimulatedNvmePort:
    """Implements `expunge_agent.commands.port.NvmePort` over an NvmeDrive; every command is kept in `sent`.
    `step`: seconds between two looks at a command that takes its time."""

    def __init__(self, drive: NvmeDrive, *, step: float = STEP) -> None:
        self.drive, self._step = drive, step
        self.sent: list[NvmeCommand] = []

    def admin(
        self, command: NvmeCommand, *, data_in: int = 0, data_out: bytes = b"", timeout: float = 20.0
    ) -> NvmeReply:
        """As the port says; while a command is carried out the drive's clock is moved on."""
        self.sent.append(command)
        clock = self.drive.clock
        try:
            reply = self.drive.admin(Command(**dataclasses.asdict(command)), data_out, data_in)
            end = clock.now() + timeout
            while isinstance(reply, Pending):
                done = reply.poll()
                if done is not None:
                    reply = done
                    break
                if clock.now() >= end:
                    raise CommandTimeout(f"no answer to opcode {command.opcode:02X}h in {timeout} s")
                clock.pause(min(self._step, timeout))
        except Gone as error:
            raise DriveGone(str(error)) from None
        return NvmeReply(reply.status, reply.result, reply.data)

    def read(self, command: NvmeCommand, size: int, *, timeout: float = 20.0) -> NvmeReply:
        """A command of the NVM command set, as `expunge_agent.commands.port.NvmeReader` says."""
        self.sent.append(command)
        try:
            reply = self.drive.io(Command(**dataclasses.asdict(command)))
        except Gone as error:
            raise DriveGone(str(error)) from None
        return NvmeReply(reply.status, reply.result, reply.data[:size])
