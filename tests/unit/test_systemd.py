"""The units hold what docs/operator-guide.md promises of them."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from expunge_agent import inventory_report

SYSTEMD = Path(__file__).parents[2] / "systemd"
SERVICES = {path.name: path for path in SYSTEMD.glob("*.service")}
NETWORK_SIDE = ("expunge-agent-dial.service", "expunge-controller.service")
ROOT_UNIT = "expunge-agent@.service"
SPOOL = "expunge-agent-spool.service"
RECORDER = "expunge-agent-inventory.service"

Unit = dict[str, dict[str, list[str]]]

EVERYWHERE = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateTmp": "yes",
    "DevicePolicy": "closed",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "LimitCORE": "0",
}


def parse(path: Path) -> Unit:
    """A unit file (systemd.syntax(7)); a repeated key keeps all its values."""
    unit: Unit = {}
    section = ""
    for number, raw in enumerate(path.read_text().splitlines(), start=1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            unit.setdefault(section, {})
            continue
        key, equals, value = line.partition("=")
        assert equals and section, f"{path.name}:{number}: not a unit file line"
        unit[section].setdefault(key, []).append(value)
    return unit


def service(name: str) -> dict[str, list[str]]:
    return parse(SERVICES[name])["Service"]


def words(name: str, key: str) -> set[str]:
    return set(" ".join(service(name)[key]).split())


def test_all_units_parse() -> None:
    for path in SYSTEMD.iterdir():
        if path.suffix in (".service", ".path", ".timer"):
            assert "Description" in parse(path)["Unit"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    values = service(name)
    assert {key: values.get(key) for key in EVERYWHERE} == {key: [value] for key, value in EVERYWHERE.items()}
    assert "@system-service" in words(name, "SystemCallFilter")
    assert "ProtectHome" in values


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_sets_the_clock(name: str) -> None:
    """The wipe may ask the kernel whether the clock is synchronised (adjtimex), without CAP_SYS_TIME."""
    if name == ROOT_UNIT:
        assert "CAP_SYS_TIME" not in words(name, "CapabilityBoundingSet")
        assert "adjtimex" in words(name, "SystemCallFilter")
    else:
        assert service(name)["ProtectClock"] == ["yes"]


@pytest.mark.parametrize("name", [*NETWORK_SIDE, SPOOL])
def test_no_capability_but_for_the_wipe(name: str) -> None:
    assert service(name)["CapabilityBoundingSet"] == [""]
    assert not service(name).get("DeviceAllow")


@pytest.mark.parametrize("name", NETWORK_SIDE)
def test_whoever_talks_to_the_network_is_no_root(name: str) -> None:
    assert service(name)["User"] not in (["root"], ["0"])
    assert "PrivateNetwork" not in service(name)


@pytest.mark.parametrize("name", [ROOT_UNIT, SPOOL, RECORDER])
def test_root_has_no_network(name: str) -> None:
    values = service(name)
    assert values["User"] == ["root"]
    assert values["PrivateNetwork"] == ["yes"]
    assert values["IPAddressDeny"] == ["any"]
    assert values["RestrictAddressFamilies"] == ["AF_UNIX"]


def test_the_network_side_writes_where_orders_come_in_and_nowhere_else() -> None:
    assert words("expunge-agent-dial.service", "ReadWritePaths") == {
        "/var/lib/expunge/spool",
        "/var/lib/expunge/outbox",
    }


def test_the_root_unit_has_what_a_wipe_needs() -> None:
    capabilities = words(ROOT_UNIT, "CapabilityBoundingSet")
    assert capabilities == {
        "CAP_SYS_ADMIN", "CAP_SYS_RAWIO", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_LEASE", "CAP_FOWNER",
    }  # fmt: skip
    allowed = {tuple(line.split()) for line in service(ROOT_UNIT)["DeviceAllow"]}
    for group in (
        "block-sd",
        "block-blkext",
        "block-mmc",
        "block-device-mapper",
        "block-md",
        "block-loop",
        "/dev/mapper/control",
        "char-nvme",
        "char-nvme-generic",
        "char-sg",
        "char-bsg",
    ):
        assert (group, "rw") in allowed
    assert words(ROOT_UNIT, "ReadWritePaths") == {"/var/lib/expunge", "-/sys/devices"}


def example(name: str) -> dict[str, list[str]]:
    return parse(SYSTEMD / "expunge-agent@.service.d" / f"{name}.conf.example")["Service"]


def test_work_with_keys_may_lock_its_memory() -> None:
    """Without CAP_IPC_LOCK the limit alone decides (mlockall(2)); a vault doubts `no-key-in-memory` where it swaps."""
    assert service(ROOT_UNIT)["LimitMEMLOCK"] == ["infinity"]


def test_drop_ins_open_what_each_kind_of_order_writes() -> None:
    written = {
        name: " ".join(example(name)["ReadWritePaths"]).split() for name in ("free-space", "fscrypt", "vault")
    }
    assert "-/sys/fs/ext4" in written["free-space"]
    assert {Path(path).name for path in written["fscrypt"]} == {".fscrypt"}
    assert written["vault"] == ["/srv/vault"]
    vault = example("vault")
    (credential,) = vault["LoadCredential"]
    name = credential.partition(":")[0]
    assert vault["Environment"] == [f"EXPUNGE_VAULT_PASSPHRASE_FILE=%d/{name}"]
    assert vault["DeviceAllow"] == ["/dev/tpmrm0 rw"]
    for one in ("free-space", "fscrypt", "vault"):
        assert not {"CapabilityBoundingSet", "SystemCallFilter", "PrivateNetwork"} & example(one).keys()


def test_root_records_what_lies_in_closed_folders_and_writes_nothing_there() -> None:
    assert "CAP_DAC_OVERRIDE" in words(RECORDER, "CapabilityBoundingSet")
    assert service(RECORDER)["ReadWritePaths"] == ["/var/lib/expunge"]
    assert service(RECORDER)["ProtectHome"] == ["read-only"]


@pytest.mark.parametrize("name", [ROOT_UNIT, "expunge-agent-dial.service"])
def test_the_guard_sees_mounts_below_home(name: str) -> None:
    """With "yes" or "tmpfs" systemd hides them from the unit, and a mounted target would look idle."""
    assert service(name)["ProtectHome"] == ["read-only"]
    assert service(ROOT_UNIT)["ProcSubset"] == ["all"]
    assert service(ROOT_UNIT)["ProtectProc"] == ["default"]


def test_a_wipe_is_never_killed_for_taking_long() -> None:
    values = service(ROOT_UNIT)
    assert values["SendSIGKILL"] == ["no"]
    assert values["TimeoutStopSec"] == ["infinity"]
    assert values["KillMode"] == ["mixed"]
    assert "RuntimeMaxSec" not in values


def test_a_shutdown_pauses_an_order_instead_of_ending_it() -> None:
    text = (SYSTEMD / "expunge-agent@.service").read_text()
    assert "\nKillSignal=SIGHUP\n" in text


def test_an_outcome_is_not_repeated_but_a_crash_is() -> None:
    assert service(ROOT_UNIT)["Restart"] == ["on-abnormal"]
    assert service("expunge-agent-dial.service")["Restart"] == ["always"]
    assert parse(SERVICES["expunge-agent-dial.service"])["Unit"]["StartLimitIntervalSec"] == ["0"]


def test_orders_are_noticed_at_once_and_after_a_boot() -> None:
    path, timer = (parse(SYSTEMD / f"expunge-agent-spool.{kind}") for kind in ("path", "timer"))
    assert path["Path"]["PathChanged"] == ["/var/lib/expunge/spool"]
    assert path["Path"]["Unit"] == timer["Timer"]["Unit"] == [SPOOL]
    assert timer["Timer"].keys() >= {"OnBootSec", "OnUnitInactiveSec"}


def test_a_question_for_the_inventory_has_root_ask_the_drives() -> None:
    path, timer = (parse(SYSTEMD / f"expunge-agent-inventory.{kind}") for kind in ("path", "timer"))
    assert path["Path"]["PathChanged"] == [f"/var/lib/expunge/spool/{inventory_report.WANTED}"]
    assert path["Path"]["Unit"] == timer["Timer"]["Unit"] == [RECORDER]
    assert {line.split()[1] for line in service(RECORDER)["DeviceAllow"]} == {"r"}


def test_accounts_of_the_units_are_made() -> None:
    made = {
        line.split()[1]
        for path in (SYSTEMD / "sysusers.d").glob("*.conf")
        for line in path.read_text().splitlines()
        if line.startswith("u ")
    }
    used = {service(name)[key][0] for name in SERVICES for key in ("User", "Group") if key in service(name)}
    assert used - {"root"} == made


def test_state_folders_have_the_right_owners() -> None:
    rows = [
        line.split()
        for line in (SYSTEMD / "tmpfiles.d" / "expunge.conf").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    modes = {row[1].removeprefix("/var/lib/expunge").lstrip("/"): tuple(row[2:5]) for row in rows}
    assert modes["signing_key"] == modes["mldsa65_key"] == ("0600", "root", "root")
    assert modes["dial_key"] == ("0600", "expunge", "expunge")
    writable = {
        path for path, (mode, _, group) in modes.items() if group == "expunge" and int(mode, 8) & 0o020
    }
    assert writable == {"spool", "outbox"}
    assert not [path for path, (mode, _, _) in modes.items() if int(mode, 8) & 0o007]


def test_the_state_folders_are_those_the_agent_makes() -> None:
    state = pytest.importorskip("expunge_agent.state", reason="the agent has no state module yet")
    text = (SYSTEMD / "tmpfiles.d" / "expunge.conf").read_text()
    made = set(re.findall(r"^d\s+/var/lib/expunge/([a-z]+)\s", text, re.MULTILINE))
    assert made == set(state._FOLDERS)


@pytest.mark.parametrize("name", [name for name in SERVICES if name != SPOOL])
def test_the_verbs_that_units_start_exist(name: str) -> None:
    (line,) = service(name)["ExecStart"]
    program, verb, *rest = shlex.split(line)
    module = {"expunge-agent": "expunge_agent.cli", "expunge": "expunge_controller.cli"}[Path(program).name]
    try:
        commands = importlib.import_module(module)
    except ImportError:
        pytest.skip(f"{module} does not exist yet")
    group = next((value for value in vars(commands).values() if isinstance(value, click.Group)), None)
    if group is None and not hasattr(commands, "main"):
        pytest.skip(f"{module} has no command line yet")
    assert group is not None, f"{module} has no click group to look at"
    with click.Context(group) as context:
        command = group.get_command(context, verb)
        assert command is not None, f"{module} has no verb {verb}"
        options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options
