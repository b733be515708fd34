"""What an order for files would find, for plans: nothing is written, nothing kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from expunge_agent.core.guard import readable
from expunge_agent.devices.file_facts import ground_of
from expunge_agent.devices.usage import Eyes
from expunge_agent.protocol.identity import TreeIdentity
from expunge_agent.protocol.receipt import Reason, Refusal
from expunge_agent.techniques.files_list import Item, Lister, Totals
from expunge_agent.tree_run import open_tree

_NAMED = 10


@dataclass
class Preview:
    """Counts, and the first files that would be refused or have exceptions."""

    path: str
    filesystem: str
    totals: Totals
    noted: list[Item] = field(default_factory=list)

    @property
    def refusal(self) -> Refusal | None:
        """Why there is nothing to do, where that is so."""
        path = readable(self.path)
        if not self.totals.items:
            why = f"The directory {path} has no file that is meant."
            return Refusal(reason=Reason.EMPTY, detail=why, remedy="Check the path and the patterns.")
        if self.totals.files and self.totals.refused == self.totals.files == self.totals.items:
            first = self.noted[0]
            why = f"None of the {self.totals.files} files below {path} can be overwritten. {first.shown}: {'; '.join(first.why)}."
            return Refusal(reason=Reason(first.reason), detail=why[:4000], remedy=first.remedy)
        return None

    def in_words(self) -> str:
        """How many files, and their size."""
        return f"{self.totals.files} files, {self.totals.bytes} B"

    def lines(self) -> list[str]:
        """What a person should know before saying yes."""
        said = [f"{self.totals.refused} files would be refused"] if self.totals.refused else []
        return said + [
            f"{item.shown}: {'refused: ' if item.reason else 'exception: '}{'; '.join(item.why)}"
            for item in self.noted
        ]

    def as_plain(self) -> dict[str, object]:
        """For JSON."""
        totals = self.totals
        return {
            "files": totals.files,
            "bytes": str(totals.bytes),
            "refused": totals.refused,
            "batches": totals.batches,
            "filesystem": self.filesystem,
            "noted": self.lines()[1:] if totals.refused else self.lines(),
        }


def preview(identity: TreeIdentity, eyes: Eyes, *, allow_exceptions: bool) -> Preview:
    """Look at every file that is meant. Raises TargetRefused where the directory cannot be opened."""
    ground = ground_of(identity.path, eyes)
    with open_tree(identity) as below:
        lister = Lister(identity, below, ground, eyes, allow_exceptions)
        noted: list[Item] = []
        for item in lister.items():
            if item.why and len(noted) < _NAMED:
                noted.append(item)
        lister.close_batch()
    return Preview(identity.path, ground.filesystem, lister.totals, noted)
