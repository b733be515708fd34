"""The steps of a bundle's check about people: whose signatures stand beside custody, and what the certificate says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.certificate import Certificate
from expunge_controller.records.custody import CustodyEvent
from expunge_controller.records.custody_people import chain_problems
from expunge_controller.records.findings import Checklist
from expunge_controller.records.person import PREFIX, PersonRecord, parse_person
from expunge_controller.records.review import review_of

KNOWN = "the people who signed are those that the controller registered"
RULES = "people signed what the rules of custody ask of them"
REPEATED = "the certificate says of people what custody says"
Files = Mapping[str, bytes]


def must_be_ours(files: Files, name: str, namespace: str, signers: Sequence[TrustedSigner]) -> None:
    """Raise VerificationError unless the file called `name` is signed by a controller."""
    signature = files.get(name + layout.SIGNATURE, b"")
    trust.verify(_not_people(signers), namespace, files[name], signature)


def misplaced(names: Sequence[str], name_of: Callable[[int], str], what: str) -> list[str]:
    """Which of numbered files do not bear the number of their place, from 1."""
    return [
        f"{name} is not {what} {number}"
        for number, name in enumerate(names, start=1)
        if name != name_of(number)
    ]


def _not_people(signers: Sequence[TrustedSigner]) -> list[TrustedSigner]:
    """The signers who may sign for the controller, by what else they are trusted for, whatever they are called:
    people are trusted for custody only, and their keys never stand for the controller's."""
    ours = {sshsig.ORDER_NAMESPACE, sshsig.CERTIFICATE_NAMESPACE}
    lines = {one.public_line for one in signers if ours & set(one.namespaces)}
    return [one for one in signers if one.public_line in lines and not one.principal.startswith(PREFIX)]


def check_people(
    checks: Checklist,
    files: Files,
    chain: Sequence[CustodyEvent],
    certificate: Certificate | None,
    signers: Sequence[TrustedSigner],
) -> None:
    """Record the steps. `chain` is empty where custody could not be read."""
    known, problems = _known(files, signers)
    checks.check(KNOWN, problems, f"{len(known)} records")
    if not chain:
        checks.skip(RULES, "the custody chain cannot be read")
        checks.skip(REPEATED, "the custody chain cannot be read")
        return
    bodies = [files[name] for name in layout.custody_names(files)]
    signatures = layout.people_signatures(files)
    count = sum(map(len, signatures.values()))
    checks.check(RULES, chain_problems(chain, bodies, signatures, known), f"{count} signatures of people")
    if certificate is None:
        checks.skip(REPEATED, "there is no readable certificate")
        return
    due = review_of(chain, bodies, signatures, known, certificate.evidence.receipt)
    problems = [] if due == certificate.review else ["custody tells of other decisions than the certificate"]
    lacking = set(due.sentences if due else []) - set(certificate.assurance)
    problems += [f"it does not say: {sentence}" for sentence in sorted(lacking)]
    checks.check(REPEATED, problems, due.status if due else "nobody decided yet")


def _known(files: Files, signers: Sequence[TrustedSigner]) -> tuple[list[PersonRecord], list[str]]:
    """The person records that check out, and what is wrong with the others."""
    names = layout.people_names(files)
    problems = misplaced(names, layout.person_name, "record")
    trusted = {one.public_line for one in signers if sshsig.CUSTODY_NAMESPACE in one.namespaces}
    known = []
    for name in names:
        try:
            must_be_ours(files, name, sshsig.PERSON_NAMESPACE, signers)
            record = parse_person(files[name])
        except (DocumentError, VerificationError) as error:
            problems.append(f"{name}: {error.message}")
            continue
        if record.key not in trusted:
            problems.append(f"{name}: the key of {record.person} is not trusted for custody")
        known.append(record)
    return known, problems
