"""Where the options of `vasbus lpar exec` may stand: also between the partition's name and `--`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

DASHES = "--"


class OptionsBeforeDashes(TyperCommand):
    """A command whose last argument, `words`, is another command with options of its own.

    What follows the first argument is that other command, but where it begins with an option and has `--` behind it:
    no command's name begins so, and what stands before `--` is ours.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the library does; `ctx` is its context, whose type is not public in every release."""
        found, _, _ = self.make_parser(ctx).parse_args(list(args))
        words = list(found.get("words") or ())
        if words[:1] != [DASHES] and DASHES in words and words[0].startswith("-"):
            ctx.allow_interspersed_args = True
        return super().parse_args(ctx, args)
