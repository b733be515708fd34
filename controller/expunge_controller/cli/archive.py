"""expunge archive"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge_controller.cli.app import App, console, json_option, print_json, print_steps, size

if TYPE_CHECKING:
    from expunge_controller.archiving import Say


@click.group(name="archive")
def command() -> None:
    """Everything for the life after the company: bundles, documents, log, keys, registers, and how to check them."""


@command.command(name="create")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def create(app: App, folder: Path, as_json: bool) -> None:
    """Write the archive at FOLDER, which must not exist yet; it appears when it is whole."""
    from expunge_controller.archiving import write_archive
    from expunge_controller.context import utc_now

    with app.controller() as controller, _progress(as_json) as say:
        done = write_archive(controller, folder, utc_now(), say)
    if as_json:
        print_json({"archive": str(folder), **done._asdict()})
        return
    click.echo(f"{folder}: {done.files} files, {size(done.size)}, {done.bundles} bundles.")
    for name, why in done.omitted.items():
        click.echo(f"not in it: {name}: {why}")
    click.echo(f"Check it: expunge archive check {folder}")


@command.command(name="check")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--signers", type=click.Path(path_type=Path), help="Your own allowed_signers file.")
@click.option("--log-policy", type=click.Path(path_type=Path), help="Your own log policy.")
@json_option
@click.pass_obj
def check(app: App, folder: Path, signers: Path | None, log_policy: Path | None, as_json: bool) -> int:
    """Check the archive at FOLDER: files, log, documents, bundles; exit code 9 when a step fails."""
    from expunge_agent.errors import EXIT_OK, VerificationError
    from expunge_controller.archive_read import check_archive
    from expunge_controller.bundle_read import read_log_policy, read_trusted
    from expunge_controller.policies import all_profiles
    from expunge_controller.records.findings import failures

    trusted = read_trusted(signers) if signers is not None else None
    policy = read_log_policy(log_policy) if log_policy is not None else None
    own = app.home if app.home.config.exists() else None
    profiles = {profile.digest: profile for profile in all_profiles(own)[0].values()}
    with _progress(as_json) as say:
        steps = check_archive(folder, trusted, policy, profiles, say)
    code = VerificationError.exit_code if failures(steps) else EXIT_OK
    print_steps(steps, as_json, {"archive": str(folder), "verified": not code, "exit_code": code})
    if not as_json:
        click.echo("NOT VERIFIED: do not rely on this archive." if code else "Verified, as far as this goes.")
    return code


@contextmanager
def _progress(as_json: bool) -> Iterator[Say]:
    """A bar on standard error, where that is a terminal."""
    from rich.progress import Progress, TaskID

    with Progress(console=console(stderr=True), transient=True, disable=as_json) as bar:
        tasks: dict[str, TaskID] = {}

        def say(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done + 1)

        yield say
