"""Time stamps on the log's head, by a real authority (`openssl ts`): asked for, kept, exported, checked, renewed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from expunge_agent.errors import ExpungeError
from expunge_agent.protocol.base import timestamp
from expunge_agent.protocol.receipt import parse_statement
from expunge_controller import bundling, key_history, log_audit, stamper
from expunge_controller.bundle import bundle_files
from expunge_controller.context import Controller
from expunge_controller.intake import store_receipt
from expunge_controller.records import key_check, stamp_check
from expunge_controller.records.bundle_check import verify_bundle
from expunge_controller.records.findings import Checklist, Status, Step, failures
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_policy import parse_policy
from expunge_controller.render.bundle_readme import readme
from expunge_controller.render.certificate_html import certificate_html
from expunge_controller.stamping import Stamping, is_due, stamp_head
from expunge_controller.translog import policy_in
from support.authorities import TimeAuthority
from support.controllers import FakeAgent, enrolled, eventually, make_controller, now, ordered, quiet_log

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
YEARS = timedelta(days=5 * 365)


class Stamped:
    """A controller with one wiped medium, and authorities."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.controller: Controller = make_controller(folder / "home")
        agent = FakeAgent()
        machine = enrolled(self.controller, agent)
        order = ordered(self.controller, machine)
        self.order = order.digest
        stored = store_receipt(self.controller, machine.machine_id, *agent.receipt(order.body), now=now())
        assert not stored.reasons
        self.authorities: list[TimeAuthority] = []

    def authority(self, name: str, days: float = 365) -> TimeAuthority:
        made = TimeAuthority(self.folder / name, name, days)
        self.authorities.append(made)
        self.use(*self.authorities)
        return made

    def use(self, *authorities: TimeAuthority) -> None:
        self.controller.home.log_policy.write_text("\n".join(one.policy() for one in authorities))

    def stamp(self) -> list[Stamping]:
        return stamp_head(self.controller, datetime.now(UTC))

    def files(self, at: datetime | None = None) -> dict[str, bytes]:
        return bundle_files(bundling.collect(self.controller, self.order, 0, at or datetime.now(UTC)))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Stamped]:
    made = Stamped(tmp_path)
    yield made
    for one in made.authorities:
        one.stop()
    made.controller.store.close()


def check(files: dict[str, bytes], policy: str = "", at: datetime | None = None) -> dict[str, Step]:
    outside = LogOutside(parse_policy(policy) if policy else None, now=at or datetime.now(UTC))
    steps = verify_bundle(files, None, page=certificate_html, readme=readme, profiles={}, log=outside)
    return {step.title: step for step in steps}


def test_a_stamp_says_when_the_receipt_was_in_the_log(world: Stamped) -> None:
    authority = world.authority("tsa.example")
    (done,) = world.stamp()
    assert done.problem is None
    steps = check(world.files())
    assert not failures(steps.values())
    assert steps[stamp_check.STAMPED].status is Status.PASSED
    assert done.at in steps[stamp_check.STAMPED].detail
    assert "CN=tsa.example" in steps[stamp_check.STAMPED].detail
    assert steps[stamp_check.TRUSTED].status is Status.SKIPPED
    assert not failures(log_audit.check_own(world.controller, []))
    mine = check(world.files(), authority.policy(url=False))
    assert mine[stamp_check.TRUSTED].status is Status.PASSED


def test_openssl_agrees(world: Stamped, tmp_path: Path) -> None:
    """The commands of docs/bundle.md."""
    authority = world.authority("tsa.example")
    world.stamp()
    for name, data in world.files().items():
        if name.startswith("stamps/"):
            (tmp_path / Path(name).name).write_bytes(data)
    (tmp_path / "roots.pem").write_text(authority.pem)
    script = (
        "sed '1,/^$/d' 001.tlog-proof | sed '/^$/,$d' > text && "
        "openssl ts -verify -in 001.tsr -data text -CAfile roots.pem"
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert "Verification: OK" in done.stdout + done.stderr
    changed = script.replace("> text", "| tr a-z A-Z > text")
    assert subprocess.run(["sh", "-c", changed], cwd=tmp_path, capture_output=True).returncode != 0


def test_without_a_stamp_the_step_is_skipped(world: Stamped) -> None:
    steps = check(world.files())
    assert steps[stamp_check.STAMPED].status is Status.SKIPPED
    assert not failures(steps.values())


def test_an_expired_certificate_is_said_and_a_renewed_stamp_mends_it(world: Stamped) -> None:
    world.authority("first.example")
    world.stamp()
    later = datetime.now(UTC) + YEARS
    steps = check(world.files(later), at=later)
    assert steps[stamp_check.STAMPED].status is Status.SKIPPED
    assert "expired" in steps[stamp_check.STAMPED].detail
    assert check(world.files(), at=datetime.now(UTC))[stamp_check.STAMPED].status is Status.PASSED
    long_lived = world.authority("second.example", days=20 * 365)
    world.stamp()
    files = world.files(later)
    assert "stamps/002.tsr" in files
    steps = check(files, at=later)
    assert not failures(steps.values())
    assert "CN=first.example, renewed 1 times" in steps[stamp_check.STAMPED].detail
    only_second = check(files, long_lived.policy(url=False), at=later)
    assert only_second[stamp_check.STAMPED].status is Status.FAILED, "the auditor trusts only one of them"


@pytest.mark.parametrize("name", ["stamps/001.tsr", "stamps/001.tlog-proof"])
def test_a_changed_or_missing_file_fails(world: Stamped, name: str) -> None:
    world.authority("tsa.example")
    world.stamp()
    files = world.files()
    for at in range(0, len(files[name]), 7):
        changed = bytearray(files[name])
        changed[at] ^= 1
        assert failures(check(files | {name: bytes(changed)}).values()), at
    assert stamp_check.STAMPED in {
        step.title for step in failures(check({n: b for n, b in files.items() if n != name}).values())
    }


def test_a_stamp_on_another_checkpoint_fails(world: Stamped, tmp_path: Path) -> None:
    world.authority("tsa.example")
    world.stamp()
    other = Stamped(tmp_path / "other")
    try:
        other.use(*world.authorities)
        other.stamp()
        theirs = {name: data for name, data in other.files().items() if name.startswith("stamps/")}
        steps = check(world.files() | theirs)
        assert steps[stamp_check.STAMPED].status is Status.FAILED
    finally:
        other.controller.store.close()


def test_a_stranger_s_stamp_is_not_kept(world: Stamped, tmp_path: Path) -> None:
    authority = world.authority("tsa.example")
    stranger = TimeAuthority(tmp_path / "stranger", "stranger.example")
    world.authorities.append(stranger)
    policy = authority.policy(url=False) + f'url = "{stranger.url}"\n'
    world.controller.home.log_policy.write_text(policy)
    (done,) = world.stamp()
    assert isinstance(done.problem, ExpungeError)
    with world.controller.store.read() as unit:
        assert list(unit.log.stamps_from(0)) == []


@pytest.mark.parametrize(
    "spoil", [(500, b"no"), (200, b"nonsense"), (200, b""), (200, b"x" * 70_000), "again"]
)
def test_an_answer_that_cannot_be_used(world: Stamped, spoil: tuple[int, bytes] | str) -> None:
    authority = world.authority("tsa.example")
    if spoil == "again":  # a stamp on this very checkpoint, but not the answer to this request
        world.stamp()
        spoil = (200, authority.answers[0])
    assert not isinstance(spoil, str)
    authority.spoil = spoil
    (done,) = world.stamp()
    assert isinstance(done.problem, ExpungeError)
    assert "Traceback" not in done.problem.message


def test_a_receipt_that_ended_after_it_was_stamped(world: Stamped) -> None:
    world.authority("tsa.example")
    world.stamp()
    files = world.files()
    statement = parse_statement(files["receipt.json"])
    for year, status in (("2020", Status.PASSED), ("2090", Status.FAILED)):
        checks = Checklist()
        receipt = replace(statement.predicate, finished_at=f"{year}-01-01T00:00:00Z")
        moved = replace(statement, predicate=receipt)
        stamp_check.check_stamps(checks, files, moved, LogOutside(now=datetime.now(UTC)))
        assert {step.title: step.status for step in checks.steps}[stamp_check.FITS] is status


def test_serve_stamps_by_itself_and_only_what_is_new(world: Stamped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamper, "LOOK_SECONDS", 0.02)
    authority = world.authority("tsa.example")
    at_work = stamper.Stamper(world.controller, quiet_log())
    at_work.start()
    try:
        assert eventually(lambda: authority.answers, 20)
    finally:
        at_work.stop()
    with world.controller.store.read() as unit:
        policy = policy_in(unit, world.controller.home)
        assert not is_due(unit, policy, datetime.now(UTC)), "nothing but the stamp was entered"
        assert is_due(unit, policy, datetime.now(UTC) + YEARS), "an old one is renewed"


def test_a_stamp_proves_that_a_receipt_was_there_before_its_key_was_stolen(world: Stamped) -> None:
    world.authority("tsa.example")
    world.stamp()
    with world.controller.store.read() as unit:
        (machine,) = unit.fleet.machines()
    later = datetime.now(UTC) + timedelta(hours=1)
    key_history.compromised(
        world.controller,
        machine,
        since=timestamp(datetime.now(UTC) + timedelta(minutes=1)),
        fingerprint="",
        reason="lost laptop",
        actor="records officer",
        now=later,
    )
    files = world.files()
    steps = check(files)
    assert steps[key_check.GOOD].status is Status.PASSED, steps[key_check.GOOD].detail
    unstamped = {name: data for name, data in files.items() if not name.startswith("stamps/")}
    assert check(unstamped)[key_check.GOOD].status is Status.SKIPPED
    nobodys = check(files, "quorum = 0\n" + log_of(files))
    assert nobodys[key_check.GOOD].status is Status.SKIPPED, "the auditor's policy names no such authority"


def log_of(files: dict[str, bytes]) -> str:
    """The part of the bundle's policy that names the log."""
    return (
        files["trust/log-policy.toml"]
        .decode()
        .partition("[[log]]")[2]
        .partition("[[")[0]
        .join(["[[log]]", ""])
    )
