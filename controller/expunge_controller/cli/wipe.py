"""expunge wipe"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

import click

from expunge_controller.cli.app import App, Duration, json_option, plain, print_json, size
from expunge_controller.cli.keys import key_options, key_wish
from expunge_controller.cli.space import reserve_option, system_option, trim_option

if TYPE_CHECKING:
    from expunge_agent.protocol.identity import SpaceWish
    from expunge_agent.protocol.order import Order
    from expunge_controller.store.rows import MachineRow
    from expunge_profiles.schema import Profile


@click.command(name="wipe")
@click.argument("machine")
@click.argument("targets", nargs=-1, metavar="TARGET…")
@click.option("--profile", "-p", "profile_id", required=True, help="The policy; see `expunge profiles list`.")
@click.option(
    "--level",
    type=click.Choice(["clear", "purge"]),
    help="What is needed. Default: what the profile aims at.",
)
@click.option("--allow-downgrade", is_flag=True, help="Accept less than that (it is reported as less).")
@click.option(
    "--glob",
    "globs",
    multiple=True,
    help="Of a directory only files whose path below it matches; may be repeated.",
)
@click.option(
    "--files-from",
    "listed",
    type=click.File("rb"),
    metavar="LIST",
    help="Of the only TARGET, a directory, the files named in LIST ('-': standard input), one a line or NUL-separated.",
)
@click.option("--remove", is_flag=True, help="Remove single regular files, too, once they are overwritten.")
@click.option("--keep", is_flag=True, help="Only overwrite the files of directories, remove nothing.")
@click.option(
    "--allow-exceptions", is_flag=True, help="Overwrite files of which a named part stays elsewhere, too."
)
@click.option(
    "--case", "case_number", default="", help="Case number, kept in order, receipt and certificate."
)
@click.option("--reason", default="", help="Why, kept in the order and the certificate.")
@click.option("--requested-by", default="", help="Who asks for it. Default: this user.")
@click.option(
    "--psid",
    "psid_file",
    type=click.File("rb"),
    help="File (- for standard input) with the PSID on a self-encrypting drive's label, which lets it be reverted: "
    "the PSID alone for one TARGET, else a line `TARGET PSID` for each.",
)
@click.option(
    "--expires-in", type=Duration(), default="24h", show_default=True, help="How long the order is good."
)
@reserve_option
@system_option
@trim_option
@click.option(
    "--deactivate",
    is_flag=True,
    help="Let the agent take down what stands on the targets first: unmount, swapoff, close, stop.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--follow/--no-follow", default=True, show_default=True, help="Show how it goes, to its end.")
@click.option("--dry-run", is_flag=True, help="Print the order that would be signed; keep and send nothing.")
@key_options
@json_option
@click.pass_obj
def command(
    app: App,
    /,
    machine: str,
    targets: tuple[str, ...],
    profile_id: str,
    level: str | None,
    allow_downgrade: bool,
    globs: tuple[str, ...],
    listed: IO[bytes] | None,
    remove: bool,
    keep: bool,
    allow_exceptions: bool,
    case_number: str,
    reason: str,
    requested_by: str,
    psid_file: IO[bytes] | None,
    expires_in: timedelta,
    reserve: int | None,
    system: bool,
    trim: bool,
    deactivate: bool,
    yes: bool,
    follow: bool,
    dry_run: bool,
    as_json: bool,
    **keys: Any,
) -> int:
    """Order the destruction of all data on TARGETs of MACHINE, and follow it to its receipt.

    A TARGET is a path, a pattern or a serial number on the machine, UUID=, PARTUUID=, LABEL= or PARTLABEL= of a block
    device there, or a registered medium (digest, property number, label); free-space:MOUNTPOINT what was deleted
    from a file system that stays; fscrypt:FOLDER the key of an encrypted folder; vault:FOLDER#SUBJECT the key of a
    subject in a vault. With --json the progress comes as JSON Lines.
    """
    from expunge_agent.account import login_name, vouching
    from expunge_agent.errors import UsageError
    from expunge_agent.protocol import psid
    from expunge_agent.protocol.base import Level
    from expunge_agent.protocol.canonical import U64
    from expunge_agent.protocol.identity import SpaceWish
    from expunge_controller import dispatch, fleet, policies
    from expunge_controller.cli.file_targets import Files, read_list
    from expunge_controller.cli.follow import follow as follow_order
    from expunge_controller.cli.key_targets import check_profile
    from expunge_controller.cli.targets import resolve
    from expunge_controller.context import utc_now

    if not targets:
        raise UsageError(
            "No target was named.", "Give a path or serial number; see `expunge inventory MACHINE`."
        )
    if remove and keep:
        raise UsageError("--remove and --keep contradict each other.", "Give one of them.")
    files = Files(globs, read_list(listed) if listed is not None else None, remove)
    asks = not (yes or dry_run)
    if asks and (as_json or not sys.stdin.isatty()):
        raise UsageError(
            "Nobody can be asked here whether this is meant.", "Add --yes, or call it in a terminal."
        )
    psids = psid.read(psid_file.read(psid.MOST + 1), targets) if psid_file is not None else {}
    said_by, requested_by = vouching(requested_by), requested_by or login_name()
    with app.controller() as controller:
        profile = policies.profile_called(app.home, profile_id)
        with controller.store.read() as unit:
            row = fleet.machine_named(unit, machine)
        space = SpaceWish(reserve=None if reserve is None else U64(reserve), system=system, trim=trim)
        found, warnings = resolve(controller, row, targets, psids, space, files)
        check_profile(found, profile)
        order = dispatch.draft_order(
            controller,
            row,
            found,
            profile,
            level=Level(level) if level else None,
            requested_by=requested_by,
            case_number=case_number,
            reason=reason,
            expires_in=expires_in,
            allow_downgrade=allow_downgrade,
            allow_exceptions=allow_exceptions,
            keep=keep,
            now=utc_now(),
            deactivate=deactivate,
            keys=key_wish(controller, row, said_by, len(found), **keys),
        )
        if dry_run:
            _print_order(order, row, profile, warnings, as_json)
            return 0
        if asks:
            _confirm(order, row, profile, warnings)
        else:
            _warn(warnings)
        kept = dispatch.create_order(controller, order, utc_now())
        if follow:
            return follow_order(controller, kept, row, as_json=as_json)
    if as_json:
        print_json({"order_id": kept.order_id, "digest": kept.digest, "machine": row.name})
    else:
        click.echo(f"Order {kept.order_id} is kept. Follow it: expunge jobs {kept.order_id} --follow")
    return 0


def _print_order(order: Order, row: MachineRow, profile: Profile, warnings: list[str], as_json: bool) -> None:
    from expunge_agent.protocol import canonical

    if as_json:
        print_json({"order": canonical.parse(canonical.dumps(order)), "warnings": warnings})
        return
    _describe(order, row, profile)
    click.echo("Order, unsigned, not kept:")
    print_json(canonical.parse(canonical.dumps(order)))
    _warn(warnings)


def _describe(order: Order, row: MachineRow, profile: Profile) -> None:
    from expunge_agent.protocol.identity import KeyIdentity, TreeIdentity
    from expunge_controller.cli.key_targets import in_words
    from expunge_controller.cli.profiles import summary

    click.echo(f"On {row.name}, all data will be destroyed on:")
    for target in order.targets:
        identity = target.identity
        if target.space is not None:
            click.echo(f"  {plain(target.hint)}  {_free_space(target.space)}")
            continue
        if isinstance(identity, KeyIdentity):
            click.echo(f"  {plain(target.hint)}  {plain(in_words(identity))}")
            continue
        serial = getattr(identity, "serial", "") or getattr(identity, "wwn", "")
        if isinstance(identity, TreeIdentity):
            listed = f"{len(identity.names)} listed" if len(identity.names) > 1 else " ".join(identity.names)
            meant = listed or " ".join(identity.include) or "all of them"
            click.echo(f"  {plain(target.hint)}  files below it: {plain(meant)}")
            continue
        name = f"{getattr(identity, 'model', '')} {serial}".strip() or "regular file"
        click.echo(f"  {plain(target.hint)}  {size(int(identity.size))}  {plain(name)}")
    click.echo(f"Profile {profile.id} version {profile.version}: {summary(profile)}; level {order.level}.")
    if order.deactivate:
        click.echo(
            "What stands on them is taken down first (mounts, swap, volumes, arrays, mappings, loop devices)."
        )


def _free_space(wish: SpaceWish) -> str:
    left = "64 MiB or 1 % of it" if wish.reserve is None else f"{wish.reserve} bytes"
    return f"free space (what was deleted from it); {left} left while it is full"


def _confirm(order: Order, row: MachineRow, profile: Profile, warnings: list[str]) -> None:
    from expunge_agent.errors import RefusedError

    _describe(order, row, profile)
    _warn(warnings)
    if (
        click.prompt(
            f"It cannot be undone. Type the machine's name ({row.name}) to go on",
            default="",
            show_default=False,
        )
        != row.name
    ):
        raise RefusedError("Not confirmed; nothing was ordered.", "Type the name exactly, or add --yes.")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"note: as it stands the agent would refuse: {plain(warning)}", err=True)
