"""Quality-control lots: drawn so that nobody could choose, drawn again by anyone, and a failure means destruction."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from expunge_agent.errors import NotFoundError, RefusedError, UsageError, VerificationError
from expunge_agent.protocol import canonical, sshsig, trust
from expunge_agent.protocol.base import timestamp
from expunge_controller import key_history, lots, translog
from expunge_controller.bundle import bundle_files
from expunge_controller.bundling import collect
from expunge_controller.intake import store_receipt
from expunge_controller.log_audit import check_own
from expunge_controller.lot_check import check_file
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.certificate import parse_certificate
from expunge_controller.records.checkpoint import parse_checkpoint
from expunge_controller.records.custody import CustodyKind, Standing, parse_custody_event
from expunge_controller.records.custody_parts import Quality
from expunge_controller.records.findings import Status, failures
from expunge_controller.records.log_policy import LogPolicy, format_policy
from expunge_controller.records.lot import Lot, draw, lot_problems, parse_lot
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from support.controllers import FakeAgent, disk, enrolled, make_controller, now, ordered
from support.people import Folk

K = CustodyKind
MEDIA = 12


class Wiped:
    """A controller with `MEDIA` wiped media and a checker."""

    def __init__(self, folder: Path) -> None:
        self.controller = make_controller(folder)
        self.agent = FakeAgent()
        self.machine = enrolled(self.controller, self.agent)
        disks = [disk(number) for number in range(1, MEDIA + 1)]
        self.order = ordered(self.controller, self.machine, *disks)
        receipt = self.agent.receipt(self.order.body)
        assert not store_receipt(self.controller, self.machine.machine_id, *receipt, now=now()).reasons
        self.folk = Folk(self.controller)
        self.folk.add("cas", "checker", "validator")
        self.folk.add("val", "validator")

    def lot(self, seed: bytes | None = None, percent: int = 20, checker: str = "cas") -> Lot:
        row = lots.create(
            self.controller,
            percent=percent,
            since=now() - timedelta(days=1),
            until=now(),
            checker=checker,
            seed=seed,
            now=now() + timedelta(seconds=2),
        )
        return parse_lot(row.body)

    def problems(self, lot: Lot) -> str:
        with self.controller.store.read() as unit:
            return " | ".join(lots.problems_here(unit, self.controller, lot, canonical.dumps(lot)))

    def result(
        self, kind: CustodyKind, lot: Lot, medium: str, who: str = "cas", tool: str = "other-tool 3"
    ) -> None:
        self.folk.record(medium, kind, {"checker": who}, quality=Quality(lot=lot.number, tool=tool))


@pytest.fixture
def wiped(tmp_path: Path) -> Iterator[Wiped]:
    made = Wiped(tmp_path / "home")
    yield made
    made.controller.store.close()


def test_a_lot_is_what_anyone_draws_again(wiped: Wiped) -> None:
    lot = wiped.lot()
    assert len(lot.population) == MEDIA
    assert len(lot.chosen) == 3  # 20 % of 12, rounded up
    root = parse_checkpoint(lot.checkpoint.encode())[0].root
    tickets = {
        one.medium: hashlib.sha256(
            b"expunge lot v1\n%s\n%s\n" % (root.hex().encode(), one.medium.encode())
        ).hexdigest()
        for one in lot.population
    }
    assert lot.chosen == sorted(tickets, key=tickets.__getitem__)[:3]
    assert wiped.problems(lot) == ""
    assert not failures(check_own(wiped.controller, []))


@given(st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=60), st.sampled_from([5, 20, 100]))
def test_a_draw_has_its_share_and_does_not_depend_on_the_order(media: set[bytes], percent: int) -> None:
    names = [medium.hex() for medium in media]
    chosen = draw(names, percent, b"r" * 32)
    assert set(chosen) <= set(names)
    assert len(chosen) == len(set(chosen)) == max(1, -(-len(names) * percent // 100))
    assert draw(sorted(names), percent, b"r" * 32) == chosen


def test_what_the_operator_might_try_is_found(wiped: Wiped) -> None:
    lot = wiped.lot()
    other = sorted({one.medium for one in lot.population} - set(lot.chosen))
    assert "other media come out" in wiped.problems(replace(lot, chosen=other[:3]))
    fewer = [one for one in lot.population if one.medium != lot.chosen[0]]
    assert "not those that were sanitized" in wiped.problems(
        replace(lot, population=fewer, chosen=draw([one.medium for one in fewer], 20, root_of(lot)))
    )
    assert "other media" in wiped.problems(replace(lot, percent=5))
    assert "not in canonical form" in " ".join(lot_problems(lot, canonical.dumps(lot) + b"\n"))


def root_of(lot: Lot) -> bytes:
    return parse_checkpoint(lot.checkpoint.encode())[0].root


def test_a_later_checkpoint_is_no_free_choice(wiped: Wiped) -> None:
    """Whoever may sign as many as they like takes the first that holds all of it, or is found."""
    translog.head(wiped.controller, now())
    ordered(wiped.controller, wiped.machine, disk(90))
    later = translog.head(wiped.controller, now()).body
    assert wiped.problems(wiped.lot(seed=later)) == ""  # said to be brought
    forced = replace(wiped.lot(seed=later), seed_from="first")
    assert "an earlier checkpoint" in wiped.problems(forced)
    assert wiped.problems(wiped.lot()) == ""


def test_a_seed_that_is_too_old_or_of_another_log(wiped: Wiped, tmp_path: Path) -> None:
    old = translog.head(wiped.controller, now()).body
    order = ordered(wiped.controller, wiped.machine, disk(91))
    known = wiped.agent.world.receipt(order.body)
    digest = wiped.controller.store
    with digest.read() as unit:
        row = unit.fleet.machine(wiped.machine.machine_id)
    assert row is not None
    following = replace(known, counter=type(known.counter)(row.counter + 1), previous=row.last_digest or "")
    assert not store_receipt(
        wiped.controller, wiped.machine.machine_id, *wiped.agent.sealed(following), now=now()
    ).reasons
    with pytest.raises(VerificationError, match="the last medium's receipt is entry"):
        wiped.lot(seed=old)
    stranger = make_controller(tmp_path / "stranger")
    with pytest.raises(VerificationError, match="not signed by this log"):
        wiped.lot(seed=translog.head(stranger, now()).body)
    stranger.store.close()


def test_a_lot_needs_a_checker_media_and_a_past(wiped: Wiped) -> None:
    with pytest.raises(RefusedError, match="not registered as checker"):
        wiped.lot(checker="val")
    moments = {"since": now() - timedelta(days=9), "until": now() - timedelta(days=8)}
    with pytest.raises(NotFoundError):
        lots.create(wiped.controller, percent=5, checker="cas", seed=None, now=now(), **moments)
    with pytest.raises(UsageError):
        lots.create(
            wiped.controller, percent=5, checker="cas", seed=None, now=now() - timedelta(days=20), **moments
        )


def test_what_comes_in_the_second_of_the_drawing_is_left_out_for_good(wiped: Wiped) -> None:
    """Or a lot would be found wrong for what came just after it."""
    moment = now() + timedelta(seconds=5)
    with wiped.controller.store.read() as unit:
        moments = [timestamp(now() - timedelta(days=1)), timestamp(moment), timestamp(moment)]
        before = lots.population_of(unit, *moments)
        chain = [parse_custody_event(row.body) for row in unit.evidence.custody(before[0].medium)]
        at = next(event.at for event in chain if event.event is K.WIPED)
        assert len(lots.population_of(unit, moments[0], at, at)) < len(before) == MEDIA


def test_a_failure_means_destruction_and_outweighs_an_approval(wiped: Wiped) -> None:
    lot = wiped.lot()
    medium = lot.chosen[0]
    wiped.folk.record(medium, K.APPROVED, {"validator": "val"})
    wiped.result(K.QUALITY_FAILED, lot, medium)
    with wiped.controller.store.read() as unit:
        event = unit.evidence.last_custody(medium)
        row = next(
            one for one in unit.evidence.certificates_of_order(wiped.order.digest) if one.medium == medium
        )
        assert lots.state_of(unit, lot, medium) == "failed"
    assert event is not None
    assert canonical.parse(event.body)["standing"] == Standing.CONDEMNED
    certificate = parse_certificate(row.body)
    assert certificate.status == "rejected"
    assert certificate.review is not None
    assert [(one.decision, one.tool) for one in certificate.review.quality] == [
        ("quality-failed", "other-tool 3")
    ]
    files = dict(bundle_files(collect(wiped.controller, wiped.order.order_id, row.target, now())))
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles={})
    assert not failures(steps)
    with pytest.raises(RefusedError, match="condemned"):
        wiped.folk.draft(medium, K.RELEASED, {"custodian": "val"}, location="dock")


def test_a_result_is_by_the_checker_with_another_tool_about_a_drawn_medium(wiped: Wiped) -> None:
    lot = wiped.lot()
    other = next(one.medium for one in lot.population if one.medium not in lot.chosen)
    wiped.folk.add("che", "checker")
    with pytest.raises(RefusedError, match="was not drawn"):
        wiped.result(K.QUALITY_PASSED, lot, other)
    with pytest.raises(RefusedError, match="is assigned to cas"):
        wiped.result(K.QUALITY_PASSED, lot, lot.chosen[0], who="che")
    with pytest.raises(RefusedError, match="the tool that wiped it"):
        wiped.result(K.QUALITY_PASSED, lot, lot.chosen[0], tool="Expunge-agent 0.1")
    wiped.result(K.QUALITY_PASSED, lot, lot.chosen[0])
    with pytest.raises(RefusedError, match="has its result"):
        wiped.result(K.QUALITY_PASSED, lot, lot.chosen[0])
    wiped.folk.record(lot.chosen[1], K.APPROVED, {"validator": "cas"})
    with pytest.raises(RefusedError, match="independent"):
        wiped.result(K.QUALITY_PASSED, lot, lot.chosen[1])


def test_an_auditor_checks_the_file_alone(wiped: Wiped, tmp_path: Path) -> None:
    number = wiped.lot().number
    with wiped.controller.store.read() as unit:
        row = lots.find(unit, number)[1]
        policy = LogPolicy(logs=(translog.key_in(unit),))
    path, signers = tmp_path / "lot.json", tmp_path / "signers"
    path.write_bytes(row.body)
    (tmp_path / "lot.json.sig").write_bytes(row.signature)
    with wiped.controller.store.read() as unit:
        signers.write_text(
            trust.format_allowed_signers(key_history.signers(unit, wiped.controller.principal))
        )
    (tmp_path / "policy").write_text(format_policy(policy))
    steps = check_file(path, signers, tmp_path / "policy")
    assert [step.status for step in steps] == [Status.PASSED] * 3 + [Status.SKIPPED]
    assert [step.status for step in check_file(path, None, None)] == [Status.PASSED] + [Status.SKIPPED] * 3
    path.write_bytes(row.body.replace(b'"percent":20', b'"percent":21'))
    assert failures(check_file(path, signers, None))
    assert sshsig.verify(row.signature, sshsig.LOT_NAMESPACE, row.body) == wiped.controller.signer.public_line
