"""The rules of custody as data: whole, without loose ends, and as the documents say."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge_controller.custodian import recordable
from expunge_controller.records.custody import FINAL, RULES, CustodyKind, Standing
from expunge_controller.records.custody_people import RESULTS
from expunge_profiles.custody_rules import custody_rules

K = CustodyKind
WRITTEN = custody_rules()
BY_HAND = {
    K.COLLECTED, K.HANDED_OVER, K.RECEIVED, K.SEALED, K.APPROVED, K.REJECTED, K.CONCURRED, K.QUALITY_PASSED,
    K.QUALITY_FAILED, K.RELEASED, K.DESTROYED, K.CORRECTED,
}  # fmt: skip


def test_every_event_has_its_rules_and_no_other_stands_there() -> None:
    assert set(WRITTEN.steps) == set(CustodyKind)
    assert set(WRITTEN.paper) <= set(CustodyKind)
    assert {one for kind in CustodyKind for one in WRITTEN.after(kind)} <= set(Standing)


def test_every_role_that_is_named_exists() -> None:
    roles = {*WRITTEN.roles, "giver", "receiver"}
    named = {role for step in WRITTEN.steps.values() for role in (*step.signed_by, *step.may_sign)}
    assert named <= roles
    assert {role for rule in WRITTEN.apart for role in (rule.role, *rule.never)} <= {*roles, "requester"}


def test_people_record_these_and_no_agents_report() -> None:
    assert {kind for kind in CustodyKind if recordable(kind)} == BY_HAND
    assert not BY_HAND & {*RESULTS, K.WIPE_STARTED, K.REQUESTED, K.REGISTERED, K.VERIFIED}


@pytest.mark.parametrize("kind", [*RESULTS, K.WIPE_STARTED])
def test_an_agents_report_may_always_come(kind: CustodyKind) -> None:
    """A fact that arrives late is a fact."""
    assert RULES[kind].after == set(Standing) - {Standing.NEW}


def test_what_two_people_sign() -> None:
    assert WRITTEN.steps[K.HANDED_OVER].signed_by == ("giver", "receiver")
    assert WRITTEN.steps[K.DESTROYED].signed_by == ("operator", "witness")


def test_nothing_leads_out_of_an_end_but_destruction() -> None:
    assert {Standing.GONE, Standing.CONDEMNED} == FINAL
    out_of_gone = {kind for kind in CustodyKind if Standing.GONE in RULES[kind].after}
    assert out_of_gone == {*RESULTS, K.WIPE_STARTED, K.CORRECTED}
    allowed = {kind for kind in CustodyKind if Standing.CONDEMNED in RULES[kind].after}
    assert not allowed & {K.REQUESTED, K.APPROVED, K.RELEASED, K.CANCELLED, K.VERIFIED}
    assert K.DESTROYED in allowed


def test_the_document_names_every_event_role_and_method() -> None:
    text = (Path(__file__).parents[2] / "docs" / "custody.md").read_text()
    for word in (*CustodyKind, *Standing, *WRITTEN.roles, *WRITTEN.destruction):
        if word != Standing.NEW:
            assert f"`{word}`" in text, word
