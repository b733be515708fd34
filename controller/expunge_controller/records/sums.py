"""``SHA256SUMS``: the digest of every other file of a bundle, as `sha256sum` writes and checks it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from expunge_agent.protocol import canonical
from expunge_controller.records import bundle_layout as layout
from expunge_controller.records.findings import Checklist
from expunge_controller.records.verify_script import is_known

WHOLE = "SHA256SUMS names every file as it is"
SCRIPT = "verify.sh is a script that expunge wrote"
BEFORE = "the bundle is from before it had one"


def format_sums(files: Mapping[str, bytes]) -> bytes:
    """The text for `files`, sorted by name; itself left aside."""
    names = sorted(name for name in files if name != layout.SUMS)
    return "".join(f"{canonical.sha256_hex(files[name])}  {name}\n" for name in names).encode()


def check_sums(checks: Checklist, files: Mapping[str, bytes]) -> None:
    """Take the steps about both. A bundle without either is an old one; README.txt would name them."""
    if not {layout.SUMS, layout.SCRIPT} & set(files):
        checks.skip(WHOLE, BEFORE)
        checks.skip(SCRIPT, BEFORE)
        return
    said, due = files.get(layout.SUMS, b""), format_sums(files)
    lines = set(said.splitlines())
    problems = [f"{line.decode()[66:]} is not as it says" for line in due.splitlines() if line not in lines]
    if not problems and said != due:
        problems.append("it has more lines than there are files, or in another order")
    checks.check(WHOLE, problems, f"{len(lines)} files")
    same = is_known(files.get(layout.SCRIPT, b""))
    why = "this release knows no such script: do not run it, or check with the newer release that wrote it"
    checks.check(SCRIPT, [] if same else [why])
