"""expunge-agent vault put, get, check"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import click
import msgspec

from expunge_agent.cli.common import login_name, print_json
from expunge_agent.cli.vault_common import (
    Meter,
    access_of,
    json_option,
    metered,
    now,
    ours,
    passphrase_option,
    place_of,
    vault_argument,
)
from expunge_agent.errors import MismatchError, RefusedError, UsageError
from expunge_agent.files import explained
from expunge_agent.terminal import size_text
from expunge_agent.vault import work
from expunge_agent.vault.access import perform
from expunge_agent.vault.header import Header
from expunge_agent.vault.look import looking
from expunge_agent.vault.objects import headers, object_path, opened, owner
from expunge_agent.vault.words import SUBJECT_RULE, Subject, new_id


@click.command(name="put")
@vault_argument
@click.argument("subject")
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--label", help="What to call it; sealed, too.  [default: the file's name]")
@click.option(
    "--chunk",
    type=click.Choice(["64", "256", "1024"]),
    default="256",
    show_default=True,
    help="KiB sealed at a time.",
)
@passphrase_option
@json_option
@click.pass_obj
def put(
    obj: dict[str, object],
    vault: Path,
    subject: str,
    source: Path,
    label: str | None,
    chunk: str,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Seal SOURCE (- is standard input) into VAULT for SUBJECT, who gets a key of its own at first use.

    SUBJECT stays readable in keystore and receipts, also after it was shredded: better a number than a name.
    """
    _check_subject(subject)
    folder, object_id = vault.absolute(), new_id()
    fd, size = _source(source)
    try:
        text = label if label is not None else ("" if str(source) == "-" else source.name)
        if len(text.encode("utf-8", "surrogateescape")) > 1024 or not text.isprintable():
            raise UsageError("A label has at most 1024 printable bytes.", "Choose another one (--label).")
        job = access_of(obj, passphrase_file).job(
            folder, now(), subject=subject, object=object_id, label=text, chunk=int(chunk) * 1024, source=fd
        )
        meter = Meter("sealed", size, quiet=as_json)
        answer = metered(meter, lambda tell: perform(work.put, job, [fd], tell))
    finally:
        os.close(fd)
    if as_json:
        print_json({"object": object_id, "subject": subject, "bytes": answer.bytes})
    else:
        click.echo(f"Object {object_id}: {size_text(int(answer.bytes))} sealed for {subject}.")
    return 0


@click.command(name="get")
@vault_argument
@click.argument("object_id", metavar="OBJECT")
@click.option(
    "--out",
    type=click.Path(path_type=Path, allow_dash=True),
    required=True,
    help="Where to write it; - is standard output.",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option(
    "--record/--no-record",
    default=True,
    help="Note in the vault where plaintext went; receipts of a shredding then name it. Without it only that some went.",
)
@passphrase_option
@json_option
@click.pass_obj
def get(
    obj: dict[str, object],
    vault: Path,
    object_id: str,
    out: Path,
    force: bool,
    record: bool,
    passphrase_file: Path | None,
    as_json: bool,
) -> int:
    """Open OBJECT of VAULT.

    A file appears under its name only when all of it was checked. On standard output come checked chunks
    only; where the end is missing or altered, the exit code says so.
    """
    place = place_of(obj, vault)
    with looking(place, now()) as held, opened(place.folder, object_id) as (file, top, _):
        held.entry(owner(held.shelf.current(), top).subject)
        size = os.fstat(file.fileno()).st_size
    to_stdout = str(out) == "-"
    if to_stdout and sys.stdout.isatty():
        raise RefusedError("Plaintext is not written to a terminal.", "Name a file, or use a pipe.")
    if to_stdout and as_json:
        raise UsageError("Standard output cannot take both the object and JSON.", "Name a file with --out.")
    fd = ours(1) if to_stdout else -1
    try:
        job = access_of(obj, passphrase_file).job(
            place.folder,
            now(),
            object=object_id,
            sink=fd,
            path="" if to_stdout else str(out.absolute()),
            replace=force,
            record=record,
            by=login_name(),
        )
        meter = Meter("opened", size, quiet=as_json or to_stdout)
        answer = metered(meter, lambda tell: perform(work.get, job, [fd] if to_stdout else [], tell))
    finally:
        if fd >= 0:
            os.close(fd)
    if as_json:
        print_json({"object": object_id, "out": str(out.absolute()), "bytes": answer.bytes})
    elif not to_stdout:
        click.echo(f"{out}: {size_text(int(answer.bytes))}.")
    return 0


@click.command(name="check")
@vault_argument
@passphrase_option
@json_option
@click.pass_obj
def check(obj: dict[str, object], vault: Path, passphrase_file: Path | None, as_json: bool) -> int:
    """Open every object of VAULT that can be opened, and keep nothing; also finishes what a crash broke off."""
    place = place_of(obj, vault)
    with looking(place, now()):
        total = sum(
            object_path(place.folder, one.object).stat().st_size
            for one in headers(place.folder)
            if isinstance(one, Header)
        )
    job = access_of(obj, passphrase_file).job(place.folder, now())
    meter = Meter("checked", total, quiet=as_json)
    answer = metered(meter, lambda tell: perform(work.check, job, [], tell))
    if as_json:
        print_json({"sound": answer.sound, "bytes": answer.bytes, "wrong": answer.wrong})
    else:
        for line in answer.wrong:
            click.echo(line)
        click.echo(
            f"{answer.sound} objects are sound, {size_text(int(answer.bytes))}; {len(answer.wrong)} are not."
        )
    return MismatchError.exit_code if answer.wrong else 0


def _check_subject(subject: str) -> None:
    try:
        msgspec.convert(subject, Subject)
    except msgspec.ValidationError as error:
        raise UsageError(f"{subject[:80]!r} cannot be a subject.", f"It has {SUBJECT_RULE}.") from error


def _source(source: Path) -> tuple[int, int]:
    """An open descriptor and its size, 0 where that is not known."""
    if str(source) == "-":
        return ours(0), 0
    with explained(source):
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    seen = os.fstat(fd)
    if stat.S_ISDIR(seen.st_mode):
        os.close(fd)
        raise UsageError(
            f"{source} is a folder.", "Pack it first: tar -c FOLDER | expunge-agent vault put … -"
        )
    return fd, seen.st_size if stat.S_ISREG(seen.st_mode) else 0
