"""The check of a bundle: numbered steps over its files, each passed, failed, or skipped with the reason.

Pure: bytes in, findings out. It knows the formats and nothing of whoever wrote the bundle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

from expunge_agent.errors import DocumentError, VerificationError
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.order import Order, parse_order
from expunge_agent.protocol.receipt import Receipt, Statement
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.bundle_names import check_custody_names, check_names
from expunge_controller.records.certificate import Certificate, freeze_certificate, parse_certificate
from expunge_controller.records.certificate_check import certificate_problems
from expunge_controller.records.consistency import SUCCESS, medium_of
from expunge_controller.records.custody import parse_custody_event
from expunge_controller.records.custody_check import check_people
from expunge_controller.records.custody_story import check_custody, check_story
from expunge_controller.records.findings import Checklist, Step
from expunge_controller.records.key_check import check_keys
from expunge_controller.records.log_check import LogOutside, check_log
from expunge_controller.records.receipt_checks import (
    check_evidence,
    check_shape,
    order_problems,
    origin_problems,
)
from expunge_controller.records.second_checks import check_second_files
from expunge_controller.records.stamp_check import check_stamps
from expunge_controller.records.sums import check_sums
from expunge_controller.records.text_forms import other_form

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

NAMESPACES = frozenset(
    {
        sshsig.RECEIPT_NAMESPACE,
        sshsig.ORDER_NAMESPACE,
        sshsig.CUSTODY_NAMESPACE,
        sshsig.CERTIFICATE_NAMESPACE,
        sshsig.KEY_EVENT_NAMESPACE,
        sshsig.PERSON_NAMESPACE,
    }
)
_PRINCIPAL = re.compile(
    r"(agent:[0-9a-f]{32}|controller:[A-Za-z0-9][A-Za-z0-9._-]{0,63}|person:[a-z0-9][a-z0-9_-]{0,63})"
)

NOTHING_BROUGHT = LogOutside()

T = TypeVar("T", Certificate, Order)
PdfCheck = Callable[[Checklist, Mapping[str, bytes]], None]


def verify_bundle(
    files: Mapping[str, bytes],
    trusted: list[TrustedSigner] | None,
    *,
    page: Callable[[Certificate], str],
    readme: Callable[[Mapping[str, bytes], list[TrustedSigner]], str],
    profiles: Mapping[str, Profile],
    log: LogOutside = NOTHING_BROUGHT,
    mldsa_keys: Collection[str] | None = None,
    pdf: PdfCheck | None = None,
) -> list[Step]:
    """Check a bundle's `files` (by name). Never raises for a bad one: see the steps.

    `trusted` are the keys the auditor brings; with None those in the bundle are used and the step
    that asks whose they are is skipped. `page` and `readme` make ``certificate.html`` and
    ``README.txt`` again from the other files; `profiles` are policies by digest, for the receipts
    that name one of them; `log` is what the auditor knows of the transparency log,
    `mldsa_keys` the keyids (`dsse.keyid`) of the agents' ML-DSA-65 keys that the auditor trusts; `pdf` checks a
    ``certificate.pdf`` whose signature is good.
    """
    return _BundleCheck(files, trusted, page, readme, profiles, log, mldsa_keys, pdf).run()


def verify_custody(files: Mapping[str, bytes], trusted: list[TrustedSigner] | None) -> list[Step]:
    """Check custody that travels alone: of paper, or of a medium that was destroyed and never wiped. As `verify_bundle`."""
    return _BundleCheck(files, trusted, _no_page, _no_page, {}, NOTHING_BROUGHT).run_custody()


def _no_page(*_made_from: object) -> str:
    return ""


class _BundleCheck:
    """One run over one bundle; each method takes a step or a few."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        trusted: list[TrustedSigner] | None,
        page: Callable[[Certificate], str],
        readme: Callable[[Mapping[str, bytes], list[TrustedSigner]], str],
        profiles: Mapping[str, Profile],
        log: LogOutside,
        mldsa_keys: Collection[str] | None = None,
        pdf: PdfCheck | None = None,
    ) -> None:
        self.files = files
        self.trusted = trusted
        self.page = page
        self.readme = readme
        self.profiles = profiles
        self.log = log
        self.mldsa_keys = mldsa_keys
        self.pdf = pdf
        self.checks = Checklist()
        self.enclosed: list[TrustedSigner] = []

    @property
    def signers(self) -> list[TrustedSigner]:
        """The keys that count."""
        return self.enclosed if self.trusted is None else self.trusted

    def run(self) -> list[Step]:
        """Take every step."""
        check_names(self.checks, self.files)
        check_sums(self.checks, self.files)
        self._keys()
        receipt = self._receipt()
        check_second_files(self.checks, self.files, receipt, self.mldsa_keys)
        order = self._order(receipt)
        certificate = self._certificate(receipt, order)
        self._page(certificate)
        self._pdf(certificate)
        chain = check_custody(self.checks, self.files, self.signers)
        body = self.files.get(layout.RECEIPT, b"")
        check_story(self.checks, chain, receipt, body, order, certificate)
        check_people(self.checks, self.files, chain, certificate, self.signers)
        check_log(self.checks, self.files, certificate, self.log)
        check_stamps(self.checks, self.files, receipt, self.log)
        check_keys(self.checks, self.files, self.signers, self.enclosed, self.log)
        self._guide()
        return self.checks.steps

    def run_custody(self) -> list[Step]:
        """Take the steps that need neither receipt nor certificate."""
        check_custody_names(self.checks, self.files)
        self._keys()
        chain = check_custody(self.checks, self.files, self.signers)
        check_story(self.checks, chain, None, b"", None, None)
        check_people(self.checks, self.files, chain, None, self.signers)
        return self.checks.steps

    def _keys(self) -> None:
        problems: list[str] = []
        try:
            text = self.files.get(layout.TRUST, b"").decode("ascii")
            self.enclosed = trust.parse_allowed_signers(text)
            if trust.format_allowed_signers(self.enclosed) != text:
                problems.append("its text is not in the one form that expunge writes")
        except UnicodeDecodeError:
            problems.append("it is not plain ASCII")
        except (DocumentError, VerificationError) as error:
            problems.append(error.message)
        for signer in self.enclosed:
            if not _PRINCIPAL.fullmatch(signer.principal):
                problems.append(f"{signer.principal[:60]!r} is neither an agent nor a controller")
            if not NAMESPACES.issuperset(signer.namespaces):
                problems.append(f"{signer.principal} may sign what is not known here")
        if not self.enclosed and not problems:
            problems.append("it names nobody")
        self.checks.check("the enclosed keys are readable", problems, f"{len(self.enclosed)} keys")
        title = "the keys are those the auditor trusts"
        if self.trusted is None:
            self.checks.skip(
                title, "the keys are taken from the bundle itself; bring your own allowed_signers"
            )
            return
        known = {(signer.public_line, space) for signer in self.trusted for space in signer.namespaces}
        self.checks.check(
            title,
            [
                f"{sshsig.fingerprint(signer.public_line)} ({signer.principal}) is not trusted for {space}"
                for signer in self.enclosed
                for space in signer.namespaces
                if (signer.public_line, space) not in known
            ],
        )

    def _signature(self, name: str, title: str) -> TrustedSigner | None:
        """Record whether `name` is well signed, and by whom."""
        try:
            signer = trust.verify(
                self.signers,
                layout.namespace_of(name) or "",
                self.files.get(name, b""),
                self.files.get(name + layout.SIGNATURE, b""),
            )
        except VerificationError as error:
            self.checks.check(title, [error.message])
            return None
        self.checks.check(title, [], f"{signer.principal} {sshsig.fingerprint(signer.public_line)}")
        return signer

    def _receipt(self) -> Statement | None:
        signer = self._signature(layout.RECEIPT, "the receipt is signed")
        statement = check_shape(self.checks, self.files.get(layout.RECEIPT, b""))
        if statement is None:
            return None
        title = "the receipt is about the machine that signed it"
        if signer is None:
            self.checks.skip(title, "the signature did not check out")
        else:
            self.checks.check(title, origin_problems(statement.predicate, signer))
        named = statement.predicate.profile
        check_evidence(self.checks, statement.predicate, self.profiles.get(named.digest) if named else None)
        return statement

    def _order(self, statement: Statement | None) -> Order | None:
        if layout.ORDER not in self.files:
            for title in ("the order is signed", "the receipt answers the order"):
                if statement is not None and _was_ordered(statement.predicate):
                    self.checks.check(title, ["the receipt names a controller's order, and it is missing"])
                else:
                    self.checks.skip(title, "the bundle holds no order: no controller asked for this")
            return None
        body = self.files[layout.ORDER]
        signer = self._signature(layout.ORDER, "the order is signed")
        order, problems = _parsed(body, parse_order)
        if order is not None and signer is not None and signer.principal != order.issuer:
            problems.append(f"it says {order.issuer}, its signature is {signer.principal}'s")
        if statement is None:
            self.checks.skip("the receipt answers the order", "there is no readable receipt")
        else:
            problems += order_problems(statement.predicate, body)
            self.checks.check("the receipt answers the order", problems)
        return order

    def _certificate(self, statement: Statement | None, order: Order | None) -> Certificate | None:
        signed, true = "the certificate is signed", "the certificate says what the receipt says"
        if layout.CERTIFICATE not in self.files:
            for title in (signed, true):
                if statement is not None and self._is_sanitized(statement):
                    self.checks.check(title, ["the medium was sanitized, and there is no certificate"])
                else:
                    self.checks.skip(title, "no certificate was issued for this outcome")
            return None
        signer = self._signature(layout.CERTIFICATE, signed)
        certificate, problems = _parsed(self.files[layout.CERTIFICATE], parse_certificate)
        if certificate is None or statement is None:
            self.checks.check(true, [*problems, *([] if statement else ["there is no readable receipt"])])
            return certificate
        if freeze_certificate(certificate) != self.files[layout.CERTIFICATE]:
            problems.append("its bytes are not in canonical form")
        if signer is not None and signer.principal != certificate.issuer:
            problems.append(f"it says {certificate.issuer}, its signature is {signer.principal}'s")
        problems += certificate_problems(
            certificate,
            statement.predicate,
            self.files[layout.RECEIPT],
            self.files.get(layout.RECEIPT + layout.SIGNATURE, b""),
            order,
            self.files.get(layout.DSSE, b""),
        )
        self.checks.check(true, problems, certificate.number)
        return certificate

    def _is_sanitized(self, statement: Statement) -> bool:
        """Whether the receipt calls the medium of this custody sanitized (any of its media, where
        custody cannot be read)."""
        results = statement.predicate.targets
        try:
            first = parse_custody_event(self.files.get(layout.custody_name(1), b""))
            results = [item for item in results if medium_of(item.target.identity)[1] == first.medium]
        except DocumentError:
            pass
        return any(result.outcome in SUCCESS for result in results)

    def _page(self, certificate: Certificate | None) -> None:
        title = "the certificate's page is made from it"
        present = layout.CERTIFICATE_HTML in self.files
        if certificate is None and not present:
            self.checks.skip(title, "there is no certificate")
        elif certificate is None:
            self.checks.check(title, ["there is a page without a readable certificate"])
        else:
            self._same_text(title, layout.CERTIFICATE_HTML, self.page(certificate))

    def _pdf(self, certificate: Certificate | None) -> None:
        if layout.CERTIFICATE_PDF not in self.files:
            return
        signer = self._signature(layout.CERTIFICATE_PDF, "the certificate's PDF is signed")
        title = "the certificate's PDF is by the certificate's issuer"
        if signer is None or certificate is None:
            self.checks.skip(title, "its signature or the certificate did not check out")
            return
        same = signer.principal == certificate.issuer
        self.checks.check(title, [] if same else [f"it is signed by {signer.principal}"])
        if self.pdf is not None:
            self.pdf(self.checks, self.files)

    def _guide(self) -> None:
        title = "README.txt is the one for these files"
        rest = {name: data for name, data in self.files.items() if name != layout.README}
        try:
            due = self.readme(rest, self.enclosed)
        except VerificationError:
            self.checks.skip(title, "a signature is not by the enclosed keys")
            return
        self._same_text(title, layout.README, due)

    def _same_text(self, title: str, name: str, due: str) -> None:
        found = self.files.get(name, b"")
        if found != due.encode() and (other := other_form(found)):
            self.checks.skip(title, other)
        else:
            self.checks.check(title, [] if found == due.encode() else ["made again, it reads differently"])


def _parsed(body: bytes, parse: Callable[[bytes], T]) -> tuple[T | None, list[str]]:
    try:
        return parse(body), []
    except DocumentError as error:
        return None, [error.message]


def _was_ordered(receipt: Receipt) -> bool:
    return receipt.order.issuer.startswith("controller:")
