"""The documents say what the programs do: exit codes, words, verbs, links."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from expunge_agent import errors
from expunge_agent.protocol import sshsig
from expunge_agent.protocol.base import Level, Outcome
from expunge_agent.protocol.receipt import Reason

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "requirements").glob("*.md")])
OTHER_CODES = {0: "ok", errors.EXIT_BUG: "bug", errors.EXIT_STOPPED: "stopped"}
CLIS = {"expunge-agent": "expunge_agent.cli", "expunge": "expunge_controller.cli"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def error_classes() -> list[type[errors.ExpungeError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.ExpungeError) and kind.__module__ == errors.__name__
    ]


def exit_table() -> dict[int, tuple[str, str, str]]:
    """docs/exit-codes.md: number → (word, meaning, what to do)."""
    rows = re.findall(
        r"^\| (\d+) \| `([a-z-]+)` \| (.+?) \| (.+?) \|$", (DOCS / "exit-codes.md").read_text(), re.MULTILINE
    )
    assert len({row[0] for row in rows}) == len(rows), "a number stands twice"
    return {int(number): (word, meaning, remedy) for number, word, meaning, remedy in rows}


def test_every_error_is_in_the_table() -> None:
    table = exit_table()
    for kind in error_classes():
        assert table[kind.exit_code][0] == kind.code, kind.__name__
    for number, word in OTHER_CODES.items():
        assert table[number][0] == word


def test_every_line_of_the_table_is_an_error() -> None:
    known = {kind.exit_code: kind.code for kind in error_classes()} | OTHER_CODES
    assert {number: row[0] for number, row in exit_table().items()} == known


def test_exit_codes_are_unique() -> None:
    kinds = error_classes()
    assert len({kind.exit_code for kind in kinds}) == len({kind.code for kind in kinds}) == len(kinds)


def test_every_reason_for_a_refusal_is_documented() -> None:
    text = (DOCS / "exit-codes.md").read_text()
    documented = set(re.findall(r"^\| `([a-z-]+)` \| ", text, re.MULTILINE))
    assert documented == {str(reason) for reason in Reason}


def test_the_glossary_has_the_words_of_the_contract() -> None:
    text = (DOCS / "glossary.md").read_text()
    namespaces = [value for name, value in vars(sshsig).items() if name.endswith("_NAMESPACE")]
    for word in [*Outcome, *(level for level in Level if level is not Level.NONE), *namespaces]:
        assert f"`{word}`" in text or f"**{word}**" in text, word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("folder", [DOCS, DOCS / "adr"], ids=name_of)
def test_the_index_lists_every_page(folder: Path) -> None:
    listed = set(re.findall(r"\]\(([^)#\s]+\.md)\)", (folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= listed


def test_decisions_are_numbered_and_whole() -> None:
    records = sorted((DOCS / "adr").glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        for part in ("Date: ", "Status: ", "## Context", "## Decision", "## Consequences"):
            assert part in text, f"{record.name} lacks {part!r}"


def commands(page: Path) -> Iterator[tuple[str, str, set[str]]]:
    """(program, verb, options after the verb) of each command in the page's code."""
    text = page.read_text()
    code = "\n".join(re.findall(r"^```(?:sh|ini)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)).replace(
        "\\\n", " "
    )
    lines = code.splitlines() + re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        words = line.partition(" # ")[0]
        match = re.search(
            r"(?:^|\s|/|\")(expunge-agent|expunge) ((?:--[a-z]+[= ]\S+ )*)([a-z]+)(?=$|[\s\"])(.*)",
            words.strip(),
        )
        if match:
            yield match[1], match[3], set(re.findall(r"(?<!\S)--[a-z][a-z-]*", match[4]))


def verbs(program: str) -> dict[str, click.Command]:
    """The verbs a program has. Skips where it does not exist yet."""
    try:
        module = importlib.import_module(CLIS[program])
    except ImportError:
        pytest.skip(f"{CLIS[program]} does not exist yet")
    group = next((value for value in vars(module).values() if isinstance(value, click.Group)), None)
    if group is None and not hasattr(module, "main"):
        pytest.skip(f"{program} has no command line yet")
    assert group is not None, f"{CLIS[program]} has no click group to look at"
    with click.Context(group) as context:
        return {
            name: command
            for name in group.list_commands(context)
            if (command := group.get_command(context, name))
        }


def parameters(command: click.Command) -> list[click.Parameter]:
    """Those of a verb, and of the verbs in it."""
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return [*command.params, *(each for one in inner for each in one.params)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
@pytest.mark.parametrize("program", CLIS)
def test_commands_in_the_documents_exist(program: str, page: Path) -> None:
    named = [(verb, options) for name, verb, options in commands(page) if name == program]
    known = verbs(program) if named else {}
    for verb, options in named:
        assert verb in known, f"{program} {verb}"
        has = {option for parameter in parameters(known[verb]) for option in parameter.opts} | {"--help"}
        assert options <= has, f"{program} {verb} has no {options - has}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_in_the_documents_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_claims_certification(page: Path) -> None:
    """Wording of the house: "implements" or "maps to" a standard."""
    claim = re.compile(
        r"\b(?:is|are|fully) (?:certified|compliant)\b|\b(?:NIST|DoD|GB|ISO|IEEE)[- ](?:certified|compliant)",
        re.IGNORECASE,
    )
    assert not claim.search(page.read_text())
