"""Whether people signed what the rules of custody ask of them, and whether nobody had two roles that exclude each other.

Pure, and the same for recording and for ``expunge verify``: documents in, sentences out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from expunge_agent.errors import VerificationError
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.sshsig import Examined
from expunge_controller.records.custody import CustodyEvent, CustodyKind
from expunge_controller.records.custody_parts import PERSON_ROLES
from expunge_controller.records.person import PersonRecord, person_at, same_name
from expunge_profiles.custody_rules import custody_rules

Signatures = Mapping[str, bytes]
"""People's armored signatures over one event, by person."""
RESULTS = (CustodyKind.WIPED, CustodyKind.WIPE_FAILED, CustodyKind.REFUSED, CustodyKind.INTERRUPTED)
DECISIONS = (CustodyKind.APPROVED, CustodyKind.REJECTED, CustodyKind.CONCURRED)
PAPER = "paper:"
"""What the subject of paper begins with."""


def chain_problems(
    chain: Sequence[CustodyEvent],
    bodies: Sequence[bytes],
    signatures: Mapping[int, Signatures],
    people: Sequence[PersonRecord],
) -> list[str]:
    """Each breach of the rules in a whole `chain` (checked by `check_chain`); `signatures` by event number."""
    problems, duties, result = [], _Duties(people), None
    for event, body in zip(chain, bodies, strict=True):
        found = [
            *_step(event, result, duties),
            *signature_problems(event, body, signatures.get(event.seq, {}), people),
        ]
        problems += [f"custody event {event.seq} ({event.event}): {why}" for why in found]
        duties.add(event)
        result = event if event.event in RESULTS else result
    return problems


def step_problems(
    event: CustodyEvent, before: Sequence[CustodyEvent], people: Sequence[PersonRecord]
) -> Iterator[str]:
    """What `event` lacks or mixes up, given the events `before` it; its signatures are left aside."""
    duties = _Duties(people)
    for one in before:
        duties.add(one)
    yield from _step(event, last_result(before), duties)


def last_result(chain: Sequence[CustodyEvent]) -> CustodyEvent | None:
    """The newest event that tells how a wipe ended."""
    return next((event for event in reversed(chain) if event.event in RESULTS), None)


def _step(event: CustodyEvent, result: CustodyEvent | None, duties: _Duties) -> Iterator[str]:
    yield from _role_problems(event)
    yield from _needs(event, result)
    yield from _apart(event, duties)
    if event.subject.startswith(PAPER) and event.event not in custody_rules().paper:
        yield "this cannot happen to paper"


def signature_problems(
    event: CustodyEvent, body: bytes, signatures: Signatures, people: Sequence[PersonRecord]
) -> Iterator[str]:
    """Signatures that are missing, wrong, by somebody else, or by a security key that asked for too little."""
    named = {one.person for one in event.people}
    yield from (f"{name} signed it and is not named in it" for name in sorted(set(signatures) - named))
    for one in event.people:
        person = person_at(people, one.person, event.at)
        if person is None:
            yield f"{one.person} is not known at {event.at}"
            continue
        if one.role in PERSON_ROLES and one.role not in person.roles:
            yield f"{one.person} is not registered as {one.role}"
        if one.person not in signatures:
            yield f"{one.person} ({one.role}) did not sign it"
            continue
        try:
            seen = examine(signatures[one.person], body, person)
        except VerificationError as error:
            yield f"{one.person}: {error.message}"
            continue
        asked = custody_rules().steps[event.event].verified
        if asked and seen.presence is not None and not seen.presence.user_verified:
            yield f"{one.person}'s security key asked for a touch only; this takes its PIN or fingerprint"


def examine(armored: bytes, body: bytes, person: PersonRecord) -> Examined:
    """A person's signature over an event. Raises VerificationError where it is not theirs."""
    seen = sshsig.examine(armored, sshsig.CUSTODY_NAMESPACE, body)
    if seen.public_line != sshsig.normal_line(person.key):
        raise VerificationError(
            f"It is signed with {sshsig.fingerprint(seen.public_line)}, which is not {person.person}'s key.",
            "Sign with the key that is registered (`expunge people list`).",
        )
    return seen


def _role_problems(event: CustodyEvent) -> Iterator[str]:
    step = custody_rules().steps[event.event]
    roles = [one.role for one in event.people]
    if not roles and (step.by_name or not step.signed_by):
        return
    yield from (f"it needs the signature of its {role}" for role in step.signed_by if role not in roles)
    allowed = (*step.signed_by, *step.may_sign)
    yield from (f"it has no {role}" for role in sorted(set(roles) - set(allowed)))
    if len(set(roles)) < len(roles):
        yield "a role stands in it twice"
    if len({one.person for one in event.people}) < len(roles):
        yield "somebody stands in it twice"


def _needs(event: CustodyEvent, result: CustodyEvent | None) -> Iterator[str]:
    needs = custody_rules().steps[event.event].needs
    given = {
        "location": bool(event.location.strip()),
        "seal": bool(event.seal_id.strip()),
        "count": event.count > 0,
        "photo": bool(event.attachments),
        "destruction": event.destruction is not None,
        "remedy": event.remedy is not None,
        "quality": event.quality is not None,
        "wipe": bool(event.receipt),
    }
    words = {"photo": "a photo by its SHA-256", "wipe": "the receipt that it is about"}
    yield from (f"it needs {words.get(need, 'a ' + need)}" for need in needs if not given[need])
    yield from (
        f"it has no {name}"
        for name in ("destruction", "remedy", "quality")
        if given[name] and name not in needs
    )
    if "wipe" in needs and event.receipt:
        if result is None or result.receipt != event.receipt:
            yield "it is about another receipt than that of the medium's last result"
        elif result.order != event.order:
            yield "it names another order than the result that it is about"
    if event.destruction is not None:
        yield from _destruction(event)
    if event.quality is not None and same_name(event.quality.tool).startswith(custody_rules().own_tools):
        yield f"{event.quality.tool} is the tool that wiped it, or of the same developer"
    if event.event is CustodyKind.CORRECTED and not event.note.strip():
        yield "it has to say what it corrects (note)"


def _destruction(event: CustodyEvent) -> Iterator[str]:
    done = event.destruction
    method = custody_rules().destruction.get(done.method) if done else None
    if done is None or method is None:
        known = ", ".join(custody_rules().destruction)
        yield f"{done.method if done else 'nothing'!r} is no method of destruction ({known})"
        return
    if method.figure == "particle" and not done.particle_mm:
        yield f"{done.method} needs the size of the particles in millimetres"
    if method.figure == "temperature" and not done.temperature_c:
        yield f"{done.method} needs the temperature in degrees Celsius"
    if event.subject.startswith(PAPER) and not method.paper:
        yield f"paper is not destroyed by {done.method}"


def _apart(event: CustodyEvent, duties: _Duties) -> Iterator[str]:
    here = duties.of(event)
    for rule in custody_rules().apart:
        for role, names in here:
            excluded = rule.never if role == rule.role else (rule.role,) if role in rule.never else ()
            for other in excluded:
                theirs = {name for also, those in here if also == other for name in those}
                if rule.within == "medium":
                    theirs |= duties.held.get(other, set())
                if theirs & names:
                    yield f"{min(names)} is its {role} and {other} too: {rule.why}"


class _Duties:
    """Who had which role so far: every name of theirs, by role."""

    def __init__(self, people: Sequence[PersonRecord]) -> None:
        self.held: dict[str, set[str]] = {}
        self._names: dict[str, set[str]] = {}
        for record in people:
            both = {same_name(record.person), same_name(record.full_name)} - {""}
            for name in both:
                self._names.setdefault(name, set()).update(both)

    def add(self, event: CustodyEvent) -> None:
        """Remember the duties of an event."""
        for role, names in self.of(event):
            self.held.setdefault(role, set()).update(names)

    def of(self, event: CustodyEvent) -> list[tuple[str, set[str]]]:
        """(role, names) of one event: who asked, who signed, who is named as deciding."""
        found = [(one.role, one.person) for one in event.people]
        if event.event is CustodyKind.REQUESTED:
            found.append(("requester", event.actor))
        if not event.people and event.event in DECISIONS:
            found.append((custody_rules().steps[event.event].signed_by[0], event.actor))
        return [(role, self._names_of(name)) for role, name in found]

    def _names_of(self, name: str) -> set[str]:
        """A person's name in the register and full name, however it was written."""
        written = same_name(name)
        return {written} | self._names.get(written, set())
