"""expunge verify"""

from __future__ import annotations

from pathlib import Path

import click

from expunge_controller.cli.app import App, json_option, print_json, print_table


@click.command(name="verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--signers",
    type=click.Path(path_type=Path),
    help="Your own allowed_signers file; without it the keys in the bundle are used, and whose they are stays open.",
)
@json_option
@click.pass_obj
def command(app: App, bundle: Path, signers: Path | None, as_json: bool) -> int:
    """Check BUNDLE step by step, without a controller, database or network; exit code 9 when a step fails."""
    from expunge_agent.errors import EXIT_OK, VerificationError
    from expunge_controller.bundle_read import check_bundle, read_trusted
    from expunge_controller.policies import all_profiles
    from expunge_controller.records.findings import failures

    trusted = read_trusted(signers) if signers is not None else None
    own = app.home if app.home.config.exists() else None
    profiles = {profile.digest: profile for profile in all_profiles(own)[0].values()}
    steps = check_bundle(bundle, trusted, profiles)
    failed = failures(steps)
    code = VerificationError.exit_code if failed else EXIT_OK
    if as_json:
        print_json(
            {
                "bundle": str(bundle),
                "verified": not failed,
                "exit_code": code,
                "steps": [
                    {"number": step.number, "title": step.title, "status": step.status, "detail": step.detail}
                    for step in steps
                ],
            }
        )
        return code
    print_table(
        ["", "step", "result", "detail"],
        [[str(step.number), step.title, step.status, step.detail] for step in steps],
        "Nothing was checked.",
    )
    skipped = sum(step.status == "skipped" for step in steps)
    if failed:
        click.echo(f"NOT VERIFIED: {len(failed)} of {len(steps)} steps failed. Do not rely on this bundle.")
    else:
        click.echo(f"Verified: {len(steps) - skipped} steps passed, {skipped} skipped (with the reason).")
    return code
