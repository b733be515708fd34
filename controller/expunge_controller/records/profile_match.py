"""Whether what ran on a target is what its profile demands: the technique, the passes, the read-back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from expunge_agent.protocol.receipt import PassResult, TargetResult
from expunge_controller.records import files_checks
from expunge_profiles.techniques import KEYS, OVERWRITE

if TYPE_CHECKING:
    from expunge_profiles.schema import Pass, Profile


def profile_problems(result: TargetResult, profile: Profile) -> list[str]:
    """Each demand of `profile` that `result` does not meet, as a sentence."""
    if result.technique not in profile.techniques:
        allowed = ", ".join(profile.techniques)
        return [f"its technique is {result.technique or 'none'}, the profile allows {allowed}"]
    if result.files is not None:
        return list(files_checks.profile_problems(result, profile))
    if result.technique == OVERWRITE:
        return [*_passes(result, profile), *_verifications(result, profile)]
    if result.technique in KEYS:
        return []  # what goes over a header is the technique's own affair: see `key_checks`
    return list(_read_back(result, profile))


def _read_back(result: TargetResult, profile: Profile) -> Iterator[str]:
    """A command of the drive is read back once, after its end."""
    demanded = profile.verification.kind
    if demanded == "none":
        return
    done = result.erasure.read_back if result.erasure is not None else None
    if done is None or (demanded == "full" and done.kind != "full"):
        yield f"the profile demands a {demanded} read-back after the command; there is none"


def _passes(result: TargetResult, profile: Profile) -> Iterator[str]:
    if len(result.passes) != len(profile.passes):
        yield f"{len(result.passes)} passes were run, the profile demands {len(profile.passes)}"
        return
    before: PassResult | None = None
    for number, (run, due) in enumerate(zip(result.passes, profile.passes, strict=True), start=1):
        if not _is_due(run, due, before):
            yield f"pass {number} wrote {run.fixed or run.pattern!r}, the profile demands {due.text}"
        before = run


def _is_due(run: PassResult, due: Pass, before: PassResult | None) -> bool:
    if due.kind == "keyed-stream":
        return run.stream is not None and not run.fixed
    if run.stream is not None:
        return False
    try:
        written = bytes.fromhex(run.fixed)
        earlier = b"" if before is None else bytes.fromhex(before.fixed)
    except ValueError:
        return False
    if due.kind == "random-byte":
        return len(written) == 1
    if due.kind == "complement":
        return written == bytes(byte ^ 0xFF for byte in earlier)
    return written == bytes.fromhex(due.text)


def _verifications(result: TargetResult, profile: Profile) -> Iterator[str]:
    demanded = profile.verification.kind
    if demanded == "none" or not result.passes:
        return
    enough = ("full",) if demanded == "full" else ("full", "sampled")
    done = {check.of_pass for check in result.verifications if check.kind in enough}
    due = result.passes if profile.verification.after == "every" else result.passes[-1:]
    for run in due:
        if run.index not in done:
            yield f"the profile demands a {demanded} verification of pass {run.index + 1}; there is none"
