"""expunge verify"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, json_option, print_steps

if TYPE_CHECKING:
    from expunge_controller.records.log_check import LogOutside


@click.command(name="verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--signers",
    type=click.Path(path_type=Path),
    help="Your own allowed_signers file; without it the keys in the bundle are used, and whose they are stays open.",
)
@click.option(
    "--log-policy",
    type=click.Path(path_type=Path),
    help="Your own log policy: which log, which witnesses, how many; without it those in the bundle are used.",
)
@click.option(
    "--seen",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A checkpoint of the log that you got elsewhere, such as from a witness; may be given several times.",
)
@click.option(
    "--log", "copy", type=click.Path(path_type=Path), help="A copy of the log (`expunge log tiles`)."
)
@click.option(
    "--mldsa-key",
    "mldsa_keys",
    multiple=True,
    metavar="SHA256",
    help="The SHA-256 of an agent's ML-DSA-65 public key that you trust (`expunge machines --json`); may be given several times.",
)
@json_option
@click.pass_obj
def command(
    app: App,
    bundle: Path,
    signers: Path | None,
    log_policy: Path | None,
    seen: tuple[Path, ...],
    copy: Path | None,
    mldsa_keys: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check BUNDLE step by step, without a controller, database or network; exit code 9 when a step fails."""
    from expunge_agent.errors import EXIT_OK, VerificationError
    from expunge_controller.bundle_read import check_bundle, read_trusted
    from expunge_controller.policies import all_profiles
    from expunge_controller.records.findings import failures

    trusted = read_trusted(signers) if signers is not None else None
    own = app.home if app.home.config.exists() else None
    profiles = {profile.digest: profile for profile in all_profiles(own)[0].values()}
    outside = _log_outside(log_policy, seen, copy)
    steps = check_bundle(bundle, trusted, profiles, outside, _keyids(mldsa_keys))
    failed = failures(steps)
    code = VerificationError.exit_code if failed else EXIT_OK
    print_steps(steps, as_json, {"bundle": str(bundle), "verified": not failed, "exit_code": code})
    if as_json:
        return code
    skipped = sum(step.status == "skipped" for step in steps)
    if failed:
        click.echo(f"NOT VERIFIED: {len(failed)} of {len(steps)} steps failed. Do not rely on this bundle.")
    else:
        click.echo(f"Verified: {len(steps) - skipped} steps passed, {skipped} skipped (with the reason).")
    return code


def _keyids(texts: tuple[str, ...]) -> list[str] | None:
    """The keys that the auditor brought; None for none. Raises UsageError."""
    import re

    from expunge_agent.errors import UsageError

    for text in texts:
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise UsageError(
                f"{text[:80]!r} is not the SHA-256 of a key.", "It has 64 hexadecimal digits, in lower case."
            )
    return list(texts) or None


def _log_outside(log_policy: Path | None, seen: tuple[Path, ...], copy: Path | None) -> LogOutside:
    """What the auditor brought about the log."""
    from expunge_controller.bundle_read import read_log_policy, read_note
    from expunge_controller.log_tiles import Copy
    from expunge_controller.records.log_check import LogOutside

    policy = None if log_policy is None else read_log_policy(log_policy)
    notes = tuple(map(read_note, seen))
    if copy is None:
        return LogOutside(policy, notes)
    folder = Copy(copy)
    return LogOutside(policy, notes, folder.read, folder.head)
