"""The check of an archive: its own files, its log, every document and every bundle. No database, no network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from expunge_agent.errors import DocumentError, ExpungeError, NotFoundError, VerificationError
from expunge_agent.protocol import trust
from expunge_agent.protocol.trust import TrustedSigner
from expunge_controller import log_audit
from expunge_controller.bundle_read import check_bundle, read_log_policy
from expunge_controller.log_tiles import Copy
from expunge_controller.records import archive_layout as layout
from expunge_controller.records import tiles
from expunge_controller.records.archive_registers import read_documents, registers
from expunge_controller.records.findings import Checklist, Step, failures
from expunge_controller.records.log_check import LogOutside
from expunge_controller.records.log_entry import EntryKind, entry_of, parse_entry
from expunge_controller.records.log_policy import LogPolicy
from expunge_controller.render.archive_index import index_page

if TYPE_CHECKING:
    from expunge_profiles.schema import Profile

SIGNED = "the manifest is signed"
TRUSTED = "the keys are those the auditor trusts"
FILES = "every file is there, unchanged, and none besides"
ENTERED = "every document is in the log, and every entry's document is there"
BUNDLES = "every bundle verifies"
REGISTERS = "registers and index page say what the documents say"
MAX_FILE = 256 * 1024 * 1024
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9._-]*)*)")

Say = Callable[[str, int, int], None]


def check_archive(
    folder: Path,
    trusted: list[TrustedSigner] | None,
    policy: LogPolicy | None,
    profiles: Mapping[str, Profile],
    say: Say,
) -> list[Step]:
    """Every step of the check of the archive at `folder`; `trusted` and `policy` are the auditor's own.

    Raises NotFoundError where there is no archive.
    """
    return _ArchiveCheck(folder, trusted, policy, profiles, say).run()


class _ArchiveCheck:
    """One run over one archive."""

    def __init__(
        self,
        folder: Path,
        trusted: list[TrustedSigner] | None,
        policy: LogPolicy | None,
        profiles: Mapping[str, Profile],
        say: Say,
    ) -> None:
        if not (folder / layout.MANIFEST).is_file():
            raise NotFoundError(f"{folder} is no archive: it has no {layout.MANIFEST}.", "Name its folder.")
        self.folder = folder
        self.trusted = trusted
        self.policy = policy
        self.profiles = profiles
        self.say = say
        self.checks = Checklist()

    def run(self) -> list[Step]:
        listed = self._manifest()
        self._files(listed)
        copy = self._log()
        documents = list(self._documents(listed))
        self._entered(copy, documents)
        self._bundles(listed)
        said = read_documents(documents)
        problems = [f"{digest} cannot be read" for digest in said.unread]
        for name, data in registers(said).items():
            if self._read(name) != data:
                problems.append(f"{name} was changed")
        bundles = [name for name in listed if name.startswith(layout.BUNDLES)]
        if self._read(layout.INDEX) != index_page(said, bundles).encode():
            problems.append(f"{layout.INDEX} was changed")
        self.checks.check(REGISTERS, problems)
        return self.checks.steps

    def _read(self, name: str) -> bytes:
        """A file of the archive, empty where it is not one or too large."""
        path = self.folder / name
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE:
                return b""
            return path.read_bytes()
        except OSError:
            return b""

    def _manifest(self) -> dict[str, str]:
        text = self._read(layout.MANIFEST)
        problems = []
        try:
            enclosed = trust.parse_allowed_signers(self._read(layout.SIGNERS).decode("utf-8", "replace"))
            signers = enclosed if self.trusted is None else self.trusted
            who = trust.verify(signers, layout.NAMESPACE, text, self._read(layout.SIGNATURE)).principal
        except (DocumentError, VerificationError) as error:
            problems, who = [error.message], ""
        self.checks.check(SIGNED, problems, who)
        if self.trusted is None:
            self.checks.skip(
                TRUSTED, "they are taken from the archive; bring your own allowed_signers (--signers)"
            )
        else:
            self.checks.check(TRUSTED, problems)
        listed = {}
        for line in text.decode("utf-8", "replace").splitlines():
            match = _LINE.fullmatch(line)
            listed[match[2] if match else line] = match[1] if match else ""
        return listed

    def _files(self, listed: dict[str, str]) -> None:
        problems = []
        for count, (name, digest) in enumerate(listed.items()):
            self.say("files", count, len(listed))
            data = self._read(name) if _LINE.fullmatch(f"{digest}  {name}") else b""
            if hashlib.sha256(data).hexdigest() != digest:
                problems.append(f"{name[:80]} is missing or was changed")
        there = {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if not path.is_dir()}
        besides = there - listed.keys() - {layout.MANIFEST, layout.SIGNATURE}
        problems += [f"{name[:80]!r} does not belong here" for name in sorted(besides)]
        problems += [f"{name} is not in the manifest" for name in layout.DERIVED if name not in listed]
        self.checks.check(FILES, problems, f"{len(listed)} files")

    def _log(self) -> Copy | None:
        """The steps about the copy of the log; None where it cannot be read."""
        try:
            copy = Copy(self.folder / layout.LOG)
            policy = self.policy or read_log_policy(self.folder / layout.LOG_POLICY)
            heads = [self._read(name) for name in self._names(layout.CHECKPOINTS)]
            steps = log_audit.check_copy(copy, policy, heads)
        except ExpungeError as error:
            self.checks.check(log_audit.ENTRIES, [error.message])
            return None
        for step in steps:
            if step.status == "skipped":
                self.checks.skip(step.title, step.detail)
            else:
                self.checks.check(step.title, [step.detail] if step.status == "failed" else [], step.detail)
        return None if failures(steps) else copy

    def _names(self, prefix: str) -> list[str]:
        root = self.folder / prefix
        return sorted(str(path.relative_to(self.folder)) for path in root.rglob("*") if path.is_file())

    def _documents(self, listed: Mapping[str, str]) -> Iterator[layout.Document]:
        for name in listed:
            if not name.startswith(layout.DOCUMENTS) or name.endswith(".sig"):
                continue
            kind = name.removeprefix(layout.DOCUMENTS).partition("/")[0]
            if kind in list(EntryKind):
                second = self._read(f"{name}.mldsa65.sig")
                yield layout.Document(EntryKind(kind), self._read(name), self._read(f"{name}.sig"), second)

    def _entered(self, copy: Copy | None, documents: list[layout.Document]) -> None:
        if copy is None:
            self.checks.skip(ENTERED, "the copy of the log cannot be relied on")
            return
        kept = {entry_of(*document) for document in documents}
        problems, there = [], set()
        for tile in tiles.tiles_of(copy.checkpoint.size):
            for number, entry in enumerate(copy.entries(tile) if tile.level < 0 else ()):
                there.add(entry)
                kind = parse_entry(entry).kind
                if kind is not EntryKind.KEY and entry not in kept:
                    problems.append(
                        f"the document of entry {tile.number * tiles.WIDTH + number} ({kind}) is missing"
                    )
        if kept - there:
            problems.append(f"{len(kept - there)} documents are not in the log")
        self.checks.check(ENTERED, problems, f"{len(kept)} documents")

    def _bundles(self, listed: Mapping[str, str]) -> None:
        names = [name for name in listed if name.startswith(layout.BUNDLES)]
        if not names:
            self.checks.skip(BUNDLES, "the archive holds none")
            return
        problems = []
        outside = LogOutside(self.policy, now=datetime.now(UTC))
        for count, name in enumerate(names):
            self.say("bundles", count, len(names))
            try:
                failed = failures(check_bundle(self.folder / name, self.trusted, self.profiles, outside))
            except ExpungeError as error:
                problems.append(f"{name}: {error.message}")
                continue
            problems += [f"{name}: {step.title}: {step.detail}" for step in failed]
        self.checks.check(BUNDLES, problems, f"{len(names)} bundles")
