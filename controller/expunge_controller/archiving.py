"""Writing an archive: everything a trustee needs, in one folder, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from expunge_agent.errors import (
    ExpungeError,
    NoSpaceError,
    NotFoundError,
    PermissionProblemError,
    RefusedError,
    UsageError,
)
from expunge_agent.protocol import sshsig, trust
from expunge_agent.protocol.order import parse_order
from expunge_controller import people, translog
from expunge_controller.bundle import bundle_files, zip_bytes
from expunge_controller.bundling import collect
from expunge_controller.context import Controller
from expunge_controller.files import sync_folder
from expunge_controller.log_tiles import publish
from expunge_controller.records import archive_layout as layout
from expunge_controller.records.archive_registers import read_documents, registers
from expunge_controller.records.log_policy import format_policy
from expunge_controller.render.archive_index import index_page, readme


class Archived(NamedTuple):
    """Files and bytes written, bundles, and the bundles that could not be made with the reason."""

    files: int
    size: int
    bundles: int
    omitted: dict[str, str]


Say = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and of how much."""


def write_archive(controller: Controller, folder: Path, now: datetime, say: Say) -> Archived:
    """Write the archive at `folder`, which appears when all of it is on the disk.

    Raises UsageError where something is there already, RefusedError while the log's last entries wait for witnesses
    or others come, NotFoundError, NoSpaceError, PermissionProblemError.
    """
    if folder.exists():
        raise UsageError(f"{folder} is there already.", "Name a folder that does not exist yet.")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            done = _Writer(controller, partial, now, say).run()
            partial.chmod(0o755)
            partial.rename(folder)
            sync_folder(folder.parent)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The folder of {folder} does not exist.", "Create it, or name another place."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpaceError(
                f"There is no room for {folder}.", "Free some space, or name another place."
            ) from error
        raise PermissionProblemError(
            f"{folder} cannot be written: {error.strerror}.", "Name another place."
        ) from error
    return done


class _Writer:
    """One archive in the making."""

    def __init__(self, controller: Controller, root: Path, now: datetime, say: Say) -> None:
        self.controller = controller
        self.root = root
        self.now = now
        self.say = say
        self.digests: dict[str, str] = {}
        self.size = 0

    def run(self) -> Archived:
        size = publish(self.controller, self.root / layout.LOG, self.now).size
        self._must_be_all(size)
        for path in sorted((self.root / layout.LOG).rglob("*")):
            if path.is_file():
                self._note(str(path.relative_to(self.root)), path.read_bytes())
        self._checkpoints()
        documents = self._documents()
        said = read_documents(documents)
        bundles, omitted = self._bundles([order.order_id for _, order in said.orders])
        for name, data in registers(said).items():
            self._write(name, data)
        self._trust()
        self._write(layout.INDEX, index_page(said, bundles).encode())
        self._write(layout.README, readme(self.controller.principal, omitted).encode())
        self._manifest()
        self._must_be_all(size)
        return Archived(len(self.digests) + 2, self.size, len(bundles), omitted)

    def _must_be_all(self, size: int) -> None:
        """Raise RefusedError where the log has more than the `size` entries of the copy: documents would be without entry."""
        with self.controller.store.read() as unit:
            more = unit.log.size() - size
        if more:
            raise RefusedError(
                f"{more} entries of the log wait for witnesses, or came while the archive was being written.",
                "Run `expunge log cosign` and then this again, without `expunge serve` beside it.",
            )

    def _checkpoints(self) -> None:
        with self.controller.store.read() as unit:
            policy = translog.policy_in(unit, self.controller.home)
            for row in unit.log.checkpoints_from(0):
                note = translog.covered_by(unit, policy, row).note
                self._write(f"{layout.CHECKPOINTS}{row.size:012}.txt", note)

    def _documents(self) -> list[layout.Document]:
        with self.controller.store.read() as unit:
            documents = list(unit.log.kept())
        for count, one in enumerate(documents):
            self.say("documents", count, len(documents))
            name = layout.document_name(one)
            self._write(name, one.body)
            if one.signature:
                self._write(f"{name}.sig", one.signature)
            if one.mldsa65:
                self._write(f"{name}.mldsa65.sig", one.mldsa65)
        return documents

    def _bundles(self, orders: list[str]) -> tuple[list[str], dict[str, str]]:
        made, omitted = [], {}
        for count, order in enumerate(orders):
            self.say("bundles", count, len(orders))
            for number in self._targets(order):
                name = layout.bundle_name(order, number)
                try:
                    parts = collect(self.controller, order, number - 1, self.now)
                except ExpungeError as error:
                    omitted[name] = error.message
                    continue
                self._write(name, zip_bytes(bundle_files(parts)))
                made.append(name)
        return made, omitted

    def _targets(self, order: str) -> Iterator[int]:
        with self.controller.store.read() as unit:
            (row,) = [one for one in unit.orders.find(order) if one.order_id == order]
        yield from range(1, len(parse_order(row.body).targets) + 1)

    def _trust(self) -> None:
        with self.controller.store.read() as unit:
            signers = people.for_auditors(unit)
            policy = translog.policy_in(unit, self.controller.home)
        self._write(layout.SIGNERS, trust.format_allowed_signers(signers).encode())
        self._write(layout.LOG_POLICY, format_policy(policy).encode())

    def _manifest(self) -> None:
        text = layout.manifest_text(self.digests).encode()
        self._put(layout.MANIFEST, text)
        self._put(layout.SIGNATURE, sshsig.sign(self.controller.signer, layout.NAMESPACE, text))
        os.sync()

    def _write(self, name: str, data: bytes) -> None:
        self._put(name, data)
        self._note(name, data)

    def _note(self, name: str, data: bytes) -> None:
        self.digests[name] = hashlib.sha256(data).hexdigest()
        self.size += len(data)

    def _put(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
