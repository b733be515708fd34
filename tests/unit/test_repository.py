"""The repository keeps its promises: pinned requirements without addresses, layout, commands."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ("agent", "build", "controller", "dev")
# Put together here, so that this file does not hold what it looks for.
REGISTRIES = [
    ".".join(parts)
    for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("crates", "io"))
]
OPTIONS = re.compile(
    r"(?<!no-emit-)(?:extra-)?index[-_]?url\b|--find-links[ =]|\[\[tool\.uv\.index\]\]", re.IGNORECASE
)
HOUSE_PATHS = ["/".join(("", "work", name)) for name in ("main", "shared")]


def repository_files() -> list[Path]:
    """All files but those that .gitignore names."""
    patterns = [
        line.strip().rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines() if line.strip()
    ]
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name != ".git" and not ignored(name, patterns)]
        found += [Path(folder, name) for name in names if not ignored(name, patterns)]
    return found


def ignored(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


@cache
def texts() -> dict[str, str]:
    """Each text file of the repository by its relative path."""
    result = {}
    for path in repository_files():
        data = path.read_bytes()
        if b"\0" not in data[:8192]:
            result[str(path.relative_to(ROOT))] = data.decode("utf-8", "replace")
    return result


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def pins(name: str) -> dict[str, tuple[Version, int]]:
    """Package → (version, number of hashes) in requirements/NAME.txt."""
    result: dict[str, tuple[Version, int]] = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        match = re.fullmatch(r"([a-z0-9-]+)==(\S+)( ; .*)?", requirement.strip())
        assert match, f"not one exact version: {line[:80]}"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each.strip()) for each in hashes), line[:80]
        result[match[1]] = (Version(match[2]), len(hashes))
    return result


def wanted(name: str) -> list[Requirement]:
    """What requirements/NAME.txt has to satisfy."""
    data = project()["project"]
    extras = data["optional-dependencies"]
    parts = {
        "build": project()["build-system"]["requires"],
        "agent": data["dependencies"],
        "controller": data["dependencies"] + extras["controller"],
        "dev": data["dependencies"] + extras["controller"] + extras["dev"],
    }
    return [Requirement(text) for text in parts[name]]


def test_the_walk_sees_the_repository() -> None:
    assert {"Makefile", "pyproject.toml", ".ci/run", "agent/expunge_agent/errors.py"} <= texts().keys()
    assert not [name for name in texts() if name.startswith((".venv/", ".git/", ".demo/"))]


def test_no_file_holds_the_address_of_a_registry() -> None:
    found = [
        f"{name}: {line.strip()[:100]}"
        for name, text in texts().items()
        for line in text.splitlines()
        if any(registry in line.lower() for registry in REGISTRIES) or (name != HERE and OPTIONS.search(line))
    ]
    assert not found


HERE = str(Path(__file__).relative_to(ROOT))


@pytest.mark.parametrize(
    "line", ["--index-url x", "--extra-index-url=x", "index-url = 'x'", "UV_INDEX_URL=x", "--find-links x"]
)
def test_the_search_would_find_an_address(line: str) -> None:
    assert OPTIONS.search(line)


def test_no_file_holds_a_path_of_one_machine() -> None:
    assert not [name for name, text in texts().items() if any(path in text for path in HOUSE_PATHS)]


@pytest.mark.parametrize("name", LOCKS)
def test_requirements_are_pinned_by_hash_and_name_no_host(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert pins(name)
    assert not [package for package, (_, hashes) in pins(name).items() if hashes == 0]


@pytest.mark.parametrize("name", LOCKS)
def test_requirements_hold_what_the_project_asks_for(name: str) -> None:
    for requirement in wanted(name):
        version, _ = pins(name)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is pinned to {version}"


def test_the_pins_agree_with_each_other() -> None:
    for name in LOCKS:
        differing = {package for package, pin in pins(name).items() if pins("dev").get(package) != pin}
        assert not differing, f"requirements/{name}.txt differs from dev.txt in {differing}"


def test_the_agent_needs_little() -> None:
    """design.md: the base dependencies are the agent's alone, and few."""
    assert len(pins("agent")) <= 16
    assert not {"sqlalchemy", "alembic", "rich"} & pins("agent").keys()


def test_packages_lie_in_source_roots_under_their_own_names() -> None:
    packages = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert packages == ["agent/expunge_agent", "controller/expunge_controller", "profiles/expunge_profiles"]
    assert all((ROOT / package / "py.typed").exists() for package in packages)


def test_test_files_have_unique_names() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_make_explains_its_targets() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    targets = set(phony[1].split()) - {"FORCE"}
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert targets == explained
    assert {"install", "demo", "test", "check"} <= targets


def test_the_ci_script_stops_at_errors_and_asks_nothing() -> None:
    path = ROOT / ".ci" / "run"
    text = path.read_text()
    assert path.stat().st_mode & 0o111
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text
    assert "</dev/null" in text


def test_the_copyleft_libraries_are_named() -> None:
    notice = (ROOT / "NOTICE").read_text()
    for package in ("paramiko", "pyudev"):
        assert package in pins("agent")
        assert package in notice
