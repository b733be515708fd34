"""What a certificate says of the log, in sentences. Said once, for writing and for checking."""

from __future__ import annotations

from expunge_controller.records.certificate import LogReference

NO_WITNESS = (
    "Not entered in a transparency log and not independently witnessed: it rests on the keys of the agent "
    "and of the controller named here."
)


def witness_sentence(log: LogReference | None) -> str:
    """Who stands behind the log entry, besides the controller's operator."""
    if log is None:
        return NO_WITNESS
    entered = f"Its receipt is entry {int(log.number)} of the transparency log {_name(log.log)}"
    if not log.witnesses:
        return (
            f"{entered}, which is not independently witnessed: nobody but its operator confirms that the "
            "log was not rewritten, and that everybody is shown the same one."
        )
    named = ", ".join(f"{_name(witness.key)} ({witness.at})" for witness in log.witnesses)
    return (
        f"{entered}. Witnesses that keep watch over the log apart from its operator confirmed that it only "
        f"grew, up to {int(log.size)} entries: {named}."
    )


def _name(vkey: str) -> str:
    return vkey.partition("+")[0]
