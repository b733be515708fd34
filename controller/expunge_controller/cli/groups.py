"""Verbs that have verbs of their own, and still take what they took before: ``expunge custody MEDIUM``."""

from __future__ import annotations

import click


class ShowGroup(click.Group):
    """A group whose verb ``show`` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``show`` before what is no verb and no option of the group."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["show", *args]
        return super().parse_args(ctx, args)
