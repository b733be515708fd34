"""Tokens and machines in SQL."""

from __future__ import annotations

import dataclasses
from typing import Any

import sqlalchemy as sa

from expunge_controller.records.log_entry import EntryKind
from expunge_controller.store.rows import MachineRow, Reach, SshAddress, TokenRow
from expunge_controller.store.schema import machines, tokens
from expunge_controller.store.sql_log import SqlLog


class SqlFleet:
    """See `port.FleetTables`."""

    def __init__(self, connection: sa.Connection, log: SqlLog) -> None:
        self._connection = connection
        self._log = log

    def add_token(self, token: TokenRow) -> None:
        """Keep a token that was given out."""
        self._connection.execute(sa.insert(tokens).values(_flat(token)))

    def tokens(self) -> list[TokenRow]:
        """Every token, oldest first."""
        rows = self._connection.execute(sa.select(tokens).order_by(tokens.c.created_at))
        return [TokenRow(**_nested(row)) for row in rows]

    def use_token(self, secret_digest: str, machine_id: str, now: str) -> bool:
        """Mark an unused token as used; False when it was used already."""
        done = self._connection.execute(
            sa.update(tokens)
            .where(tokens.c.secret_digest == secret_digest, tokens.c.used_at.is_(None))
            .values(used_at=now, machine_id=machine_id)
        )
        return done.rowcount == 1

    def pin_token(self, secret_digest: str, ssh: SshAddress) -> None:
        """Replace the address of a token."""
        self._connection.execute(
            sa.update(tokens).where(tokens.c.secret_digest == secret_digest).values(_ssh(ssh))
        )

    def drop_token(self, secret_digest: str) -> None:
        """Forget an unused token."""
        self._connection.execute(
            sa.delete(tokens).where(tokens.c.secret_digest == secret_digest, tokens.c.used_at.is_(None))
        )

    def add_machine(self, machine: MachineRow) -> None:
        """Keep an enrolled machine, and log it."""
        self._connection.execute(sa.insert(machines).values(_flat(machine)))
        self._log.enter(EntryKind.ENROLMENT, machine.enrolment, machine.enrolment_signature)

    def machines(self) -> list[MachineRow]:
        """Every machine, by name."""
        rows = self._connection.execute(sa.select(machines).order_by(machines.c.name))
        return [MachineRow(**_nested(row)) for row in rows]

    def machine(self, machine_id: str) -> MachineRow | None:
        """The machine with this id."""
        return self._one(machines.c.machine_id == machine_id)

    def machine_named(self, name: str) -> MachineRow | None:
        """The machine with this name."""
        return self._one(machines.c.name == name)

    def machine_by_signing_key(self, line: str) -> MachineRow | None:
        """The machine that signs with this key."""
        return self._one(machines.c.signing_key == line)

    def machine_by_dial_key(self, line: str) -> MachineRow | None:
        """The machine that dials with this key."""
        return self._one(machines.c.dial_key == line)

    def set_address(self, machine_id: str, ssh: SshAddress) -> None:
        """Replace how a machine is dialled, and the host key it must show; its old problem is over."""
        self._update(machine_id, **_ssh(ssh), problem="")

    def set_signing_key(self, machine_id: str, line: str) -> None:
        """The machine signs with another key from now on."""
        self._update(machine_id, signing_key=line)

    def seen(self, machine_id: str, now: str) -> None:
        """Remember when a machine last spoke to us."""
        self._update(machine_id, last_seen=now)

    def set_note(self, machine_id: str, note: str) -> None:
        """Leave a note for people on a machine."""
        self._update(machine_id, note=note)

    def set_mldsa65_key(self, machine_id: str, key: bytes) -> None:
        """Pin the key of a machine's second signatures."""
        self._update(machine_id, mldsa65_key=key)

    def set_problem(self, who: str, problem: str) -> None:
        """Remember why dialling failed; `who` is a machine id, or the secret digest of a token."""
        self._update(who, problem=problem)
        self._connection.execute(
            sa.update(tokens).where(tokens.c.secret_digest == who).values(problem=problem)
        )

    def set_chain(self, machine_id: str, counter: int, digest: str) -> None:
        """Remember the newest authentic receipt of a machine."""
        self._update(machine_id, counter=counter, last_digest=digest)

    def _update(self, machine_id: str, **values: Any) -> None:
        self._connection.execute(
            sa.update(machines).where(machines.c.machine_id == machine_id).values(values)
        )

    def _one(self, condition: sa.ColumnElement[bool]) -> MachineRow | None:
        row = self._connection.execute(sa.select(machines).where(condition)).one_or_none()
        return None if row is None else MachineRow(**_nested(row))


def _ssh(ssh: SshAddress | None) -> dict[str, Any]:
    if ssh is None:
        return {"ssh_user": "", "ssh_host": "", "ssh_port": 0, "ssh_host_key": ""}
    return {f"ssh_{field}": value for field, value in dataclasses.asdict(ssh).items()}


def _flat(row: TokenRow | MachineRow) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
    ssh = _ssh(values.pop("ssh"))
    return {**values, **ssh, "reach": str(row.reach)}


def _nested(row: sa.Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)
    reach = Reach(values.pop("reach"))
    parts = {field: values.pop(f"ssh_{field}") for field in ("user", "host", "port", "host_key")}
    return {**values, "reach": reach, "ssh": SshAddress(**parts) if reach is Reach.SSH else None}
