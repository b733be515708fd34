"""expunge machines"""

from __future__ import annotations

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table


@click.command(name="machines")
@click.option("--clear-note", metavar="NAME", help="Forget the note on this machine; you have seen to it.")
@json_option
@click.pass_obj
def command(app: App, clear_note: str | None, as_json: bool) -> None:
    """List the machines, how they are reached, and what a person should know of them."""
    from expunge_agent.protocol import canonical, dsse, sshsig
    from expunge_agent.protocol.enrolment import HostFacts
    from expunge_controller import fleet
    from expunge_controller.context import utc_now
    from expunge_controller.problems import thawed
    from expunge_controller.store.rows import MachineRow

    def reached(machine: MachineRow) -> str:
        if machine.ssh is None:
            return "calls in"
        return f"ssh {machine.ssh.user + '@' if machine.ssh.user else ''}{machine.ssh.host}"

    def said(machine: MachineRow) -> str:
        trouble = thawed(machine.problem)
        return trouble.message if trouble is not None else ""

    if clear_note is not None:
        with app.controller() as controller, controller.store.write() as unit:
            unit.fleet.set_note(fleet.machine_named(unit, clear_note).machine_id, "")
    with app.controller() as controller, controller.store.read() as unit:
        machines = unit.fleet.machines()
        waiting = [token.name for token in fleet.pending_ssh(unit, utc_now())]
    facts = [canonical.loads(machine.facts.encode(), HostFacts, "host facts") for machine in machines]
    if as_json:
        print_json(
            [
                {
                    "name": machine.name,
                    "machine_id": machine.machine_id,
                    "reach": str(machine.reach),
                    "ssh": reached(machine) if machine.ssh else "",
                    "hostname": host.hostname,
                    "kernel": host.kernel,
                    "signing_key": sshsig.fingerprint(machine.signing_key),
                    "mldsa65_key": dsse.keyid(machine.mldsa65_key) if machine.mldsa65_key else "",
                    "enrolled_at": machine.enrolled_at,
                    "last_seen": machine.last_seen or "",
                    "receipts": str(machine.counter),
                    "note": machine.note,
                    "problem": said(machine),
                }
                for machine, host in zip(machines, facts, strict=True)
            ]
        )
        return
    print_table(
        ["name", "host", "reached", "last seen", "receipts", "signing key", "note"],
        [
            [
                machine.name,
                host.hostname,
                reached(machine),
                machine.last_seen or "never",
                str(machine.counter),
                sshsig.fingerprint(machine.signing_key)[:23] + "…",
                " ".join(part for part in (machine.note, said(machine)) if part),
            ]
            for machine, host in zip(machines, facts, strict=True)
        ],
        "No machine is enrolled. Next: expunge enrol NAME",
    )
    for name in waiting:
        click.echo(
            f"{name}: enrolment not complete; `expunge enrol {name} --connect` once its token is typed."
        )
