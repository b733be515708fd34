"""The shell around the decisions: one order in, one signed receipt out, whatever happens between.

Everything is journalled before it is done, so that calling `run_order` again after a crash goes
on where the journal ends; once an order has a receipt, calling it again returns that receipt.
"""

from __future__ import annotations

from expunge_agent.core import admission
from expunge_agent.core.progress import MAX_FRUITLESS_RESUMES, RunProgress
from expunge_agent.devices import host
from expunge_agent.devices.lanes import lane
from expunge_agent.events import EventLog
from expunge_agent.journal import DamagedJournalError, Journal, replace_damaged
from expunge_agent.ledger import Ledger
from expunge_agent.outbox import Outbox, Sealed, Signed
from expunge_agent.protocol import canonical, dsse, sshsig, trust
from expunge_agent.protocol.base import Digest, Outcome, timestamp
from expunge_agent.protocol.event import EventKind
from expunge_agent.protocol.order import Order
from expunge_agent.protocol.receipt import Interruption, Refusal, TargetResult
from expunge_agent.results import untouched
from expunge_agent.runs import run_for
from expunge_agent.scheduler import Job, run_jobs
from expunge_agent.sealing import Findings, Place, compose
from expunge_agent.second_key import load_or_create_second_key
from expunge_agent.signing import patiently, probe, signer_of
from expunge_agent.state import State
from expunge_agent.surroundings import Surroundings
from expunge_agent.watched import Run
from expunge_profiles.schema import Profile


def run_order(
    state: State,
    digest: Digest,
    around: Surroundings,
    events: EventLog | None = None,
    refusal: Refusal | None = None,
) -> Sealed | None:
    """Carry out the order (or go on with it) and seal its receipt.

    `refusal`: what was found against it before it was even begun; then its receipt says that.

    None: the run was asked to pause (SIGHUP) and left its journal for the next start.
    Raises NotFoundError for an unknown order, BusyError while another process works on it,
    NoSpaceError when the journal cannot be written: nothing is done that is not journalled;
    SigningKeyError when the key does not sign: before anything is done, or, if it is away only when the receipt
    is sealed, with everything journalled, so that the next call seals it.
    """
    outbox = Outbox(state.root)
    outbox.repair()
    with state.order_lock(digest):
        number = state.receipt_number(digest)
        if number is not None:
            return outbox.get(number)
        body, signature = state.take(digest)
        events = events or EventLog(state.order_folder(digest) / "events.jsonl", digest, around.now)
        path = state.order_folder(digest) / "journal.jsonl"
        for last_try in (False, True):
            try:
                with Journal(path, host.boot_id()) as journal:
                    ledger = Ledger(journal, around.now)
                    run = _Run(state, digest, body, signature, ledger, outbox, around, events)
                    run.refusal = refusal
                    return run.carry_out()
            except DamagedJournalError as error:
                if last_try:
                    raise
                replace_damaged(path, host.boot_id(), timestamp(around.now()), error.message)
    raise AssertionError("unreachable")


class _Run:
    """One run of one order."""

    def __init__(
        self,
        state: State,
        digest: Digest,
        body: bytes,
        signature: bytes,
        ledger: Ledger,
        outbox: Outbox,
        around: Surroundings,
        events: EventLog,
    ) -> None:
        self._state = state
        self._digest = digest
        self._body = body
        self._signature = signature
        self._ledger = ledger
        self._outbox = outbox
        self._around = around
        self._events = events
        self._signer = signer_of(state.root)
        probe(self._signer)  # before anything is touched that a receipt would have to tell of
        self._second = load_or_create_second_key(state.mldsa65_key)
        self.refusal: Refusal | None = None

    def carry_out(self) -> Sealed | None:
        """From admission to receipt."""
        progress = self._ledger.progress
        if progress.sealing is not None and (sealed := self._outbox.find(progress.sealing, self._digest)):
            return self._done(sealed)
        if progress.damaged:
            return self._give_up(self._read_order(), Outcome.UNKNOWN, progress.damaged)
        if progress.order is None:
            refused = self._admit()
            if refused is not None:
                return refused
        elif canonical.sha256_hex(self._body) != self._digest:
            return self._give_up(
                progress.order, Outcome.UNKNOWN, "The order's file was altered while it ran."
            )
        elif not self._resume(progress):
            return self._give_up(
                progress.order, Outcome.INTERRUPTED, "It broke off again and again without getting ahead."
            )
        order, profile = progress.order, progress.profile
        if order is None or profile is None:
            raise AssertionError("accepted without order and profile")
        jobs = [
            Job(lane(target.hint), lambda index=index: self._target(order, profile, index))  # type: ignore[misc]
            for index, target in enumerate(order.targets)
        ]
        results = run_jobs(jobs, self._around.parallel, self._around.per_lane)
        if self._around.pause.is_set():
            self._ledger.record("paused")
            return None
        return self._seal(order, profile, None, [result for result in results if result is not None])

    def _admit(self) -> Sealed | None:
        """Take the order in, or seal why not. From then on the journal alone says what was ordered."""
        order = self._read_order()
        if isinstance(order, Refusal):
            return self._seal(None, None, order, [])
        claims = {"nonce": order.nonce, "order": order.order_id}
        if self._ledger.empty and any(
            self._state.claimed(kind, it, self._digest) for kind, it in claims.items()
        ):
            self._ledger.record("damaged", why="The order was begun before, and its journal is lost.")
            return self._give_up(order, Outcome.UNKNOWN, self._ledger.progress.damaged)
        self._ledger.record("admitting")
        fresh = all(self._state.claim_once(kind, it, self._digest) for kind, it in claims.items())
        refusal = self.refusal or admission.check_order(
            order, self._state.machine_id, self._around.now(), fresh
        )
        profile = admission.find_profile(order, self._around.profiles)
        if refusal is not None or isinstance(profile, Refusal):
            return self._seal(order, None, refusal or profile, [])  # type: ignore[arg-type]
        plain = canonical.parse(canonical.dumps(order))
        self._ledger.record("accepted", order=plain, profile=profile.canonical().decode())
        self._events.emit(EventKind.STARTED, title=order.order_id)
        return None

    def _give_up(self, order: Order | Refusal, verdict: Outcome, why: str) -> Sealed:
        """Seal what can still be said of an order that will not be continued."""
        progress = self._ledger.progress
        if isinstance(order, Refusal):
            return self._seal(None, None, order, [])
        results = [
            self._ledger.target(index).result or self._put_down(order, progress.profile, index, verdict, why)
            for index in range(len(order.targets))
        ]
        return self._seal(order, progress.profile, None, results)

    def _put_down(
        self, order: Order, profile: Profile | None, index: int, verdict: Outcome, why: str
    ) -> TargetResult:
        """One target of an order that will not be continued; what its run left behind is taken away."""
        target, so_far = order.targets[index], self._ledger.target(index)
        if profile is None:
            return untouched(target, so_far, verdict, why, self._around)
        return self._run(order, profile, index).give_up(verdict, why)

    def _run(self, order: Order, profile: Profile, index: int) -> Run:
        kind = run_for(order.targets[index].identity)
        return kind(order, profile, index, self._ledger, self._events, self._around)

    def _read_order(self) -> Order | Refusal:
        own = admission.own_signer(self._state.principal, self._signer.public_line)
        pinned = trust.good_at(self._state.trusted(), timestamp(self._around.now()))
        return admission.read_order(self._body, self._signature, [*pinned, own])

    def _resume(self, progress: RunProgress) -> bool:
        """Journal that the order was found unfinished; False when it is to be given up."""
        going_on = progress.fruitless < MAX_FRUITLESS_RESUMES
        interruption = Interruption(
            noticed_at=timestamp(self._around.now()),
            boot_id_before=self._ledger.last_boot,
            boot_id_after=host.boot_id(),
            decision="resumed" if going_on else "given-up",
        )
        self._ledger.record("resumed", interruption=interruption)
        self._events.emit(EventKind.RESUMED)
        return going_on

    def _target(self, order: Order, profile: Profile, index: int) -> TargetResult | None:
        """One target's result, None when paused; trouble with one never hides the others."""
        so_far = self._ledger.target(index)
        if so_far.result is not None or self._around.pause.is_set():
            return so_far.result
        if self._around.stop.is_set():
            why = "The run was stopped before its turn came."
            result: TargetResult | None = self._run(order, profile, index).give_up(Outcome.INTERRUPTED, why)
        else:
            result = self._run(order, profile, index).carry_out()
        if result is not None:
            self._ledger.record("target-finished", target=index, result=result)
            self._events.emit(EventKind.TARGET_FINISHED, target=index, title=result.outcome.value)
        return result

    def _seal(
        self,
        order: Order | None,
        profile: Profile | None,
        refusal: Refusal | None,
        results: list[TargetResult],
    ) -> Sealed:
        findings = Findings(order, profile, refusal, results, self._ledger.progress)

        def make(counter: int, previous: Digest) -> Signed:
            second = dsse.keyid(dsse.spki_of(self._second.public_key()))
            line = self._signer.public_line
            place = Place(self._digest, self._state.machine_id, line, second, counter, previous)
            body = compose(findings, place, timestamp(self._around.now()))
            return self._signed(body)

        def announce(counter: int) -> None:
            self._ledger.record("sealing", counter=counter)

        return self._done(self._outbox.seal(self._digest, make, announce))

    def _signed(self, body: bytes) -> Signed:
        """The receipt with its signatures; without them the journal stays as it is, and the next start seals."""

        def sign() -> Signed:
            plain = sshsig.sign(self._signer, sshsig.RECEIPT_NAMESPACE, body)
            return Signed(body, plain, dsse.sign(self._signer, self._second, body))

        return patiently(sign, self._around.pause.wait)

    def _done(self, sealed: Sealed) -> Sealed:
        if lists := sorted(self._ledger.folder.glob("files-*.jsonl")):
            self._outbox.attach(sealed.counter, lists)
        self._state.finish(self._digest, sealed.counter)
        self._events.emit(EventKind.FINISHED)
        return sealed
